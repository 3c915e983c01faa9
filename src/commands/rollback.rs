//! `lovol rollback`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::{Context as _, Error, Result};
use crate::mounting::Again;
use crate::name::SnapshotName;
use crate::plan::Step;
use crate::pool::{Place, Pool};
use crate::properties::ROLLBACK_TO;
use crate::rollback::Rollback;
use crate::sys::signals::Blocked;
use crate::target::{self, Target};

/// Make a volume what it was at a snapshot
///
/// Nothing is lost: what the volume was becomes a snapshot of its own, whose name is printed, and
/// newer snapshots stay. --undo goes back to that. The volume has the size that it had then.
///
/// The volume must not be in use, or --remount unmounts it for the moment that it takes; with
/// --next-mount it is done when the volume is next mounted, at boot for example; 'lovol set home
/// rollback-to=' forgets that.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol rollback --remount home@before-upgrade
  lovol rollback --undo --remount home
  lovol rollback --next-mount home@before-upgrade")]
pub struct RollBack {
    /// The snapshot; with --undo, the volume
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Any))]
    target: Target,

    /// Go back to what the volume was before its last rollback
    #[arg(long)]
    undo: bool,

    /// Unmount the volume, and mount it again where it was
    #[arg(long, conflicts_with = "next_mount")]
    remount: bool,

    /// Do it when the volume is next mounted
    #[arg(long)]
    next_mount: bool,
}

impl RollBack {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let rollback = self.find(&pool)?;
        if context.shows(|| self.plan(&pool, &rollback))? {
            return Ok(());
        }
        if self.next_mount {
            for step in self.plan(&pool, &rollback)? {
                context.observer().begin(&step);
            }
            rollback.at_next_mount()?;
            let value = json!({"to": rollback.to().to_string(), "before": null});
            return context.output.result(&[], "rollbacks", &[value]);
        }
        let before = if self.remount {
            remounted(&pool, &rollback, context)?
        } else {
            rollback.carry_out(&rollback.claim()?, context.observer())?
        };
        let value = json!({"to": rollback.to().to_string(), "before": before.to_string()});
        context
            .output
            .result(&[before.to_string()], "rollbacks", &[value])
    }

    fn find<'p>(&self, pool: &'p Pool) -> Result<Rollback<'p>> {
        let index = pool.index()?;
        match target::find_image(&self.target, pool, &index)? {
            Place::Volume(name) if self.undo => Rollback::undo(pool, &name),
            Place::Snapshot(name) if !self.undo => Rollback::new(pool, name),
            Place::Volume(name) => Err(Error::usage(
                format!("to which snapshot of {name}?"),
                format!("lovol rollback {name}@SNAPSHOT; 'lovol list -a {name}' lists them"),
            )),
            place => Err(Error::usage(
                "--undo knows where to go back to",
                format!("lovol rollback --undo {}", volume_of(&place)),
            )),
        }
    }

    fn plan(&self, pool: &Pool, rollback: &Rollback<'_>) -> Result<Vec<Step>> {
        let SnapshotName { volume, snapshot } = rollback.to();
        if self.next_mount {
            return Ok(vec![Step::Set {
                of: volume.to_string(),
                key: ROLLBACK_TO.into(),
                value: Some(snapshot.to_string()),
            }]);
        }
        if !self.remount {
            rollback.must_be_possible()?;
            return rollback.plan();
        }
        let (mut steps, after) = Again::plan(pool, &Place::volume(volume))?;
        steps.extend(rollback.plan()?);
        steps.extend(after);
        Ok(steps)
    }
}

fn volume_of(place: &Place) -> String {
    match place {
        Place::Snapshot(name) => name.volume.to_string(),
        place => place.target(),
    }
}

/// Whatever comes, the volume is mounted again.
fn remounted(pool: &Pool, rollback: &Rollback<'_>, context: &Context<'_>) -> Result<SnapshotName> {
    let place = Place::volume(&rollback.to().volume);
    let observer = context.observer();
    // What is refused is refused before anything is unmounted.
    let claimed = rollback.claim()?;
    // The session that lies on it may end with it: that comes after.
    let _signals = Blocked::all().doing("block", "signals")?;
    let again = Again::unmount(pool, &place, observer)?;
    let rolled_back = rollback.carry_out(&claimed, observer);
    let mounted = again.mount(pool, observer);
    match (rolled_back, mounted) {
        (Ok(before), Ok(())) => Ok(before),
        (Ok(before), Err(why)) => Err(Error::Partly {
            done: format!("rolled back, and what it was is {before}; it is not mounted"),
            why: Box::new(why),
        }),
        (Err(why), Ok(())) => Err(why),
        (Err(why), Err(error)) => Err(Error::Partly {
            done: format!("nothing was rolled back, and it is not mounted: {error}"),
            why: Box::new(why),
        }),
    }
}
