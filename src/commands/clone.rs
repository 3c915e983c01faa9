//! `lovol clone`

use clap::Args;
use serde_json::json;

use crate::clone::{Options, ToPath, ToVolume};
use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::{Error, Result};
use crate::index::Volume;
use crate::name::Name;
use crate::report::Reporter;
use crate::target::{self, Found, Target};

/// Make a writable copy of a volume or snapshot, which depends on nothing
///
/// The copy is a volume of its own, with a new filesystem UUID, so that it can be mounted beside
/// its source at once. A source in use is frozen for a moment, as for a snapshot.
///
/// Outside any pool, from path to path, it clones any image as it is: --new-uuid gives that copy
/// a new UUID.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol clone home@before-upgrade trial
  lovol clone home home2
  lovol clone ./a.img ./b.img           any image; frozen if mounted")]
pub struct Clone {
    /// A volume, a snapshot, or a path
    #[arg(value_name = "SOURCE", value_parser = target_parser(), add = images(Which::Any))]
    source: Target,

    /// The new volume's name, or the path of a new image outside any pool
    #[arg(value_name = "DEST", value_parser = target_parser())]
    dest: Target,

    /// Keep the filesystem's UUID, as is the rule from path to path
    #[arg(long, conflicts_with = "new_uuid")]
    keep_uuid: bool,

    /// Give the filesystem a new UUID, as is the rule for volumes
    #[arg(long)]
    new_uuid: bool,

    /// Replace DEST by an atomic exchange; a replaced volume goes to the trash
    #[arg(short, long)]
    force: bool,

    /// Take a source in use without freezing it, as after a pulled plug
    #[arg(long)]
    crash: bool,
}

impl Clone {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        match &self.dest {
            Target::Volume(name) => self.to_volume(name, context),
            Target::Path(path) => self.to_path(path, context),
            Target::Snapshot(name) => Err(Error::usage(
                format!("{name} would be a snapshot, and a clone is a volume"),
                format!("'lovol snapshot {name}' takes a snapshot"),
            )),
        }
    }

    fn options(&self, new_uuid: bool) -> Options {
        Options {
            new_uuid,
            force: self.force,
            crash: self.crash,
        }
    }

    fn to_volume(&self, name: &Name, context: &Context<'_>) -> Result<()> {
        let pool = context.pool_for_change()?;
        let from = match target::find(&self.source, &pool, &pool.index()?)? {
            Found::Image(place) => place,
            Found::Outside(path) => {
                return Err(Error::refused(
                    format!("cannot clone {}", path.display()),
                    "it is no volume of the pool",
                )
                .with_hint(format!(
                    "'lovol create {name} --from {}' takes it in",
                    path.display()
                )));
            }
        };
        let clone = ToVolume::open(&pool, from, name.clone(), self.options(!self.keep_uuid))?;
        if context.shows(|| clone.plan())? {
            return Ok(());
        }
        let record = clone.make(context.observer())?;
        let report = Reporter::new(&pool).volume(name, &Volume::new(record), false);
        context
            .output
            .result(&[name.to_string()], "volumes", &[report])
    }

    fn to_path(&self, to: &std::path::Path, context: &Context<'_>) -> Result<()> {
        let from = match context.pool() {
            Ok(pool) => match target::find(&self.source, &pool, &pool.index()?)? {
                Found::Image(place) => pool.full_path(&place),
                Found::Outside(path) => path,
            },
            // loclone's job needs no pool.
            Err(_) if matches!(self.source, Target::Path(_)) => target::find_outside(&self.source)?,
            Err(error) => return Err(error),
        };
        let clone = ToPath::open(&from, to, self.options(self.new_uuid))?;
        if context.shows(|| clone.plan())? {
            return Ok(());
        }
        clone.sweep();
        let taken = clone.make(context.observer(), context.wait())?;
        let value = json!({
            "image": to.to_string_lossy(),
            "size": taken.size,
            "created": taken.at,
            "consistency": taken.consistency,
            "frozen_us": taken.frozen.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            "extents": taken.extents,
        });
        context
            .output
            .result(&[to.display().to_string()], "images", &[value])
    }
}
