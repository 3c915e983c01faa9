//! `lovol diff`

use clap::Args;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images, snapshots};
use crate::diff::diff;
use crate::error::{Error, Result};
use crate::mounting::Image;
use crate::output::write_stdout;
use crate::pool::Place;
use crate::target::{self, Target};

/// Show which files differ between two snapshots, or a snapshot and its volume
///
/// As 'zfs diff' does: + is new, - is gone, M is modified, R has another name. Files are not read:
/// one counts as modified if its size, time, mode or owner is another.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol diff home@monday home@friday
  lovol diff home@monday              to what is in home now")]
pub struct Diff {
    /// A snapshot
    #[arg(value_name = "A", value_parser = target_parser(), add = snapshots(Which::Any))]
    from: Target,

    /// Another, or the volume; if there is none, the snapshot's own volume
    #[arg(value_name = "B", value_parser = target_parser(), add = images(Which::Any))]
    to: Option<Target>,
}

impl Diff {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool()?;
        let index = pool.index()?;
        let from = target::find_image(&self.from, &pool, &index)?;
        let to = match (&self.to, &from) {
            (Some(to), _) => target::find_image(to, &pool, &index)?,
            (None, Place::Snapshot(name)) => Place::volume(&name.volume),
            (None, place) => {
                return Err(Error::usage(
                    format!("{place} with what?"),
                    "lovol diff VOLUME@SNAPSHOT",
                ));
            }
        };
        from.record_in(&index)?;
        to.record_in(&index)?;
        let observer = context.observer();
        let before = Image::open(&pool, &from)?.open_to_read(observer)?;
        let after = Image::open(&pool, &to)?.open_to_read(observer)?;
        let changes = diff(&before.root, &after.root);
        // Both are closed whatever failed; and what failed first is told.
        let closed = before.close().and(after.close());
        let changes = changes?;
        closed?;
        if context.output.is_json() {
            return context.output.json("changes", &changes);
        }
        // With tabs, which other lines never have.
        let lines = changes.iter().map(|change| format!("{change}\n"));
        write_stdout(lines.collect::<String>().as_bytes())
    }
}
