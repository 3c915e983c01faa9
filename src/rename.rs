//! Renaming volumes and snapshots.

use crate::error::Result;
use crate::index::Index;
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::place::snapshots_dir;
use crate::pool::{Edit, Place, Pool, edit};
use crate::rollback;
use crate::trash::image_must_be_unused;
use crate::usage::Usage;

/// What gets which name.
#[derive(Clone, Debug)]
pub enum Rename {
    /// A volume; its path changes, so it must not be in use.
    Volume(Name, Name),
    /// A snapshot.
    Snapshot(SnapshotName, Name),
}

impl Rename {
    fn place(&self) -> Place {
        match self {
            Self::Volume(from, _) => Place::volume(from),
            Self::Snapshot(from, _) => Place::Snapshot(from.clone()),
        }
    }

    /// The steps, after making sure that they can be carried out.
    pub fn plan(&self, pool: &Pool, index: &Index) -> Result<Vec<Step>> {
        let usage = Usage::look()?;
        match self {
            Self::Volume(from, to) => {
                let volume = index.volume(from)?;
                index.must_not_have_volume(to)?;
                image_must_be_unused(pool, &usage, &self.place(), &volume.record)?;
                edit::must_be_free(pool, &Place::volume(to).path())?;
                let mut steps = vec![Step::Move {
                    from: self.place().path(),
                    to: Place::volume(to).path(),
                }];
                if edit::has_snapshots(pool, &snapshots_dir(from))? {
                    edit::must_be_free(pool, &snapshots_dir(to))?;
                    steps.push(Step::Move {
                        from: snapshots_dir(from),
                        to: snapshots_dir(to),
                    });
                }
                steps.push(Step::RenameVolume {
                    from: from.clone(),
                    to: to.clone(),
                });
                Ok(steps)
            }
            Self::Snapshot(from, to) => {
                let record = index.snapshot(from)?;
                let new = SnapshotName {
                    volume: from.volume.clone(),
                    snapshot: to.clone(),
                };
                index.must_not_have_snapshot(&new)?;
                rollback::must_not_wait_for("rename", index, from)?;
                image_must_be_unused(pool, &usage, &self.place(), record)?;
                let to_place = Place::Snapshot(new);
                edit::must_be_free(pool, &to_place.path())?;
                Ok(vec![
                    Step::Move {
                        from: self.place().path(),
                        to: to_place.path(),
                    },
                    Step::RenameSnapshot {
                        from: from.clone(),
                        to: to.clone(),
                    },
                ])
            }
        }
    }

    /// Renames.
    pub fn carry_out(&self, pool: &Pool, observer: &dyn Observer) -> Result<()> {
        let place = self.place();
        let lock = Lock::of_image(pool, &place)?;
        let mut edit = Edit::begin(pool)?;
        let steps = self.plan(pool, &edit.index)?;
        lock.must_be_of(pool, &place)?;
        lock.lease(&place.to_string())?;
        edit.carry_out(&steps, observer)
    }
}
