//! `lovol delete`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, Item, item_parser, require_root};
use crate::complete::{Which, images};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::pool::{Place, Pool};
use crate::target;
use crate::trash::{Deletion, count};

/// Delete snapshots for good, or move volumes to the trash
///
/// Everything is checked before anything is done; what is in use is refused, naming the mount or
/// device. A volume goes to the trash with all its snapshots, and 'lovol undelete' brings all of
/// it back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol delete home@before-upgrade      one snapshot
  lovol delete home@monday%friday       all from monday to friday, by age
  lovol delete trial                    a volume, to the trash
  lovol delete -r home                  with its snapshots
  lovol delete --now trial              not to the trash: final")]
pub struct Delete {
    /// Volumes, snapshots, or ranges of snapshots (VOLUME@FIRST%LAST)
    #[arg(value_name = "TARGET", required = true, value_parser = item_parser(), add = images(Which::Any))]
    targets: Vec<Item>,

    /// Delete a volume with its snapshots
    #[arg(short, long)]
    recursive: bool,

    /// Do not keep volumes in the trash; asks
    #[arg(long)]
    now: bool,
}

impl Delete {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let index = pool.index()?;
        let deletion = self.deletion(&pool, &index)?;
        deletion.check(&pool, &index)?;
        let plan = || deletion.plan(&pool, &index, crate::time::now_in_seconds());
        if context.shows(|| plan().map(|(steps, _)| steps))? {
            return Ok(());
        }
        if self.now && !deletion.volumes.is_empty() {
            context.confirm(&question(&deletion, &index))?;
        }
        let ids = deletion.carry_out(&pool, context.observer())?;
        if !context.output.is_json() {
            for (name, id) in deletion.volumes.iter().zip(&ids).filter(|_| !self.now) {
                context.output.remark(&format!(
                    "{name} is in the trash as {id}: 'lovol undelete {name}' brings it back"
                ));
            }
            return Ok(());
        }
        let snapshots = deletion
            .snapshots
            .iter()
            .map(|name| json!({"name": name.to_string(), "trash": null}));
        let volumes = deletion.volumes.iter().zip(&ids);
        let volumes =
            volumes.map(|(name, id)| json!({"name": name, "trash": (!self.now).then_some(id)}));
        context
            .output
            .json("deleted", &volumes.chain(snapshots).collect::<Vec<_>>())
    }

    fn deletion(&self, pool: &Pool, index: &Index) -> Result<Deletion> {
        let mut deletion = Deletion {
            recursive: self.recursive,
            now: self.now,
            ..Deletion::default()
        };
        for item in &self.targets {
            match item {
                Item::Range(range) => deletion.snapshots.extend(range.expand(index)?),
                Item::Target(target) => match target::find_image(target, pool, index)? {
                    Place::Volume(name) => deletion.volumes.push(name),
                    Place::Snapshot(name) => deletion.snapshots.push(name),
                    place => return Err(Error::refused(place.to_string(), "it is in the trash")),
                },
            }
        }
        deletion.volumes.sort();
        deletion.volumes.dedup();
        deletion.snapshots.sort();
        deletion.snapshots.dedup();
        // A volume that goes takes its snapshots along.
        let Deletion {
            volumes, snapshots, ..
        } = &mut deletion;
        snapshots.retain(|snapshot| !volumes.contains(&snapshot.volume));
        Ok(deletion)
    }
}

fn question(deletion: &Deletion, index: &Index) -> String {
    let volumes = deletion.volumes.iter().map(|name| {
        let snapshots = index
            .volumes
            .get(name)
            .map_or(0, |volume| volume.snapshots.len());
        format!("{name} ({})", count(snapshots))
    });
    format!(
        "Delete for good: {}?",
        volumes.collect::<Vec<_>>().join(", ")
    )
}
