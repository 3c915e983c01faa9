//! `lovol rename`

use clap::Args;
use serde_json::json;

use crate::cli::default_pool;
use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::{Error, Result, printable};
use crate::fstab;
use crate::name::{Name, SnapshotName};
use crate::plan::Observer;
use crate::pool::{Place, Pool};
use crate::rename;
use crate::spec::Spec;
use crate::target::{self, Target};

/// Give a volume or snapshot another name
///
/// A volume's path changes with its name, so it must not be in use; its snapshots go with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol rename trial home2
  lovol rename home@20261121T101500Z home@before-upgrade
  lovol rename home@20261121T101500Z before-upgrade")]
pub struct Rename {
    /// A volume or a snapshot
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Any))]
    target: Target,

    /// Its new name
    #[arg(value_name = "NEW", value_parser = target_parser())]
    new: Target,
}

impl Rename {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let index = pool.index()?;
        let (rename, new) = match target::find_image(&self.target, &pool, &index)? {
            Place::Volume(from) => {
                let to = self.new_volume()?;
                (rename::Rename::Volume(from, to.clone()), to.to_string())
            }
            Place::Snapshot(from) => {
                let to = self.new_snapshot(&from)?;
                let full = format!("{}@{to}", from.volume);
                (rename::Rename::Snapshot(from, to), full)
            }
            place => return Err(Error::refused(place.to_string(), "it is in the trash")),
        };
        if context.shows(|| rename.plan(&pool, &index))? {
            return Ok(());
        }
        rename.carry_out(&pool, context.observer())?;
        warn_of_fstab(&pool, &rename, context);
        context.output.result(
            std::slice::from_ref(&new),
            "renamed",
            &[json!({"name": new})],
        )
    }

    fn new_volume(&self) -> Result<Name> {
        match &self.new {
            Target::Volume(name) => Ok(name.clone()),
            _ => Err(Error::usage(
                "a volume's new name is one word",
                "lovol rename trial home2",
            )),
        }
    }

    /// `NAME` or `VOLUME@NAME` of the same volume.
    fn new_snapshot(&self, from: &SnapshotName) -> Result<Name> {
        match &self.new {
            Target::Volume(name) => Ok(name.clone()),
            Target::Snapshot(name) if name.volume == from.volume => Ok(name.snapshot.clone()),
            _ => Err(Error::usage(
                "a snapshot stays with its volume",
                format!(
                    "lovol rename {from} NAME, or 'lovol clone {from} NEW' for a volume of its own"
                ),
            )),
        }
    }
}

/// The next 'mount -a', or the next boot, would not find it.
fn warn_of_fstab(pool: &Pool, rename: &rename::Rename, context: &Context<'_>) {
    let fstab = std::fs::read("/etc/fstab").unwrap_or_default();
    for entry in fstab::parse(&fstab) {
        let Ok(spec) = Spec::parse(&entry.spec) else {
            continue;
        };
        let dir = spec.pool.unwrap_or_else(default_pool);
        let is_of_pool = dir.canonicalize().is_ok_and(|dir| dir == pool.path());
        if is_of_pool && is_renamed(rename, &spec.place) {
            context.output.warn(&format!(
                "line {} of /etc/fstab names {}, which is gone now",
                entry.line,
                printable(&entry.spec.to_string_lossy())
            ));
        }
    }
}

fn is_renamed(rename: &rename::Rename, place: &Place) -> bool {
    match (rename, place) {
        (rename::Rename::Volume(from, _), Place::Volume(name)) => name == from,
        (rename::Rename::Volume(from, _), Place::Snapshot(name)) => name.volume == *from,
        (rename::Rename::Snapshot(from, _), Place::Snapshot(name)) => name == from,
        _ => false,
    }
}
