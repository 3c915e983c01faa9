//! Deleting, and bringing back: a deleted volume lies in the trash with all its snapshots, until it
//! is purged.
//!
//! ```text
//! trash/NAME@20261121T101500Z/      what was volume NAME until then
//!   volume.img
//!   snapshots/SNAP.img
//! ```

use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::error::{Context, Error, Result};
use crate::holds;
use crate::index::{Index, Trashed};
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::lock::{self, Lock};
use crate::pool::place::{snapshots_dir, trash_dir};
use crate::pool::{Edit, Place, Pool, edit};
use crate::properties;
use crate::record::Record;
use crate::rollback;
use crate::space::{Claim, must_allow};
use crate::sys::beneath;
use crate::usage::Usage;

/// The name of a new directory in the trash.
pub fn new_id(index: &Index, volume: &Name, deleted: Timestamp) -> String {
    let is_taken = |name: &Name| index.trash.contains_key(&format!("{volume}@{name}"));
    format!("{volume}@{}", Name::automatic(deleted, is_taken))
}

/// Fails when somebody holds a snapshot of a volume.
pub fn must_not_be_held(pool: &Pool, what: &str, index: &Index, name: &Name) -> Result<()> {
    for (snapshot, record) in &index.volume(name)?.snapshots {
        holds::must_not_hold(pool, what, &Place::snapshot(name, snapshot), record)?;
    }
    Ok(())
}

/// Fails when a volume or one of its snapshots is in use.
pub fn must_be_unused(pool: &Pool, index: &Index, name: &Name) -> Result<()> {
    let usage = Usage::look()?;
    let volume = index.volume(name)?;
    image_must_be_unused(pool, &usage, &Place::volume(name), &volume.record)?;
    for (snapshot, record) in &volume.snapshots {
        image_must_be_unused(pool, &usage, &Place::snapshot(name, snapshot), record)?;
    }
    Ok(())
}

/// Fails when a device is bound to this image, or to a view of it.
pub fn image_must_be_unused(
    pool: &Pool,
    usage: &Usage,
    place: &Place,
    record: &Record,
) -> Result<()> {
    match pool.image_id(place) {
        Ok(id) => usage.must_not_use(&place.to_string(), id, Some(&record.uuid.to_string())),
        // Nobody uses what is not there; deleting it only makes the index right again.
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fails while anything has an image open that is to be removed for good, or a device is bound to it.
///
/// Asked for each, and not kept: a volume may have more snapshots than a process may have files.
fn image_must_be_closed(pool: &Pool, usage: &Usage, place: &Place, record: &Record) -> Result<()> {
    image_must_be_unused(pool, usage, place, record)?;
    match pool.open_image(place, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(file) => lock::lease(&file, &place.to_string()),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The steps that move a volume to the trash.
pub fn plan_delete(pool: &Pool, name: &Name, id: &str, deleted: Timestamp) -> Result<Vec<Step>> {
    let mut steps = vec![
        Step::MakeDir {
            path: trash_dir(id),
        },
        Step::Move {
            from: Place::volume(name).path(),
            to: Place::TrashedVolume(id.to_owned()).path(),
        },
    ];
    if edit::has_snapshots(pool, &snapshots_dir(name))? {
        steps.push(Step::Move {
            from: snapshots_dir(name),
            to: trash_dir(id).join("snapshots"),
        });
    }
    steps.push(Step::Trash {
        volume: name.clone(),
        id: id.to_owned(),
        deleted,
    });
    Ok(steps)
}

/// The steps that take a deleted volume away for good.
pub fn plan_purge(trashed: &Trashed, id: &str) -> Vec<Step> {
    let mut steps = vec![Step::ForgetTrash { id: id.to_owned() }];
    for snapshot in trashed.volume.snapshots.keys() {
        let place = Place::TrashedSnapshot(id.to_owned(), snapshot.clone());
        steps.push(Step::Remove { path: place.path() });
    }
    if !trashed.volume.snapshots.is_empty() {
        steps.push(Step::RemoveDir {
            path: trash_dir(id).join("snapshots"),
        });
    }
    steps.push(Step::Remove {
        path: Place::TrashedVolume(id.to_owned()).path(),
    });
    steps.push(Step::RemoveDir {
        path: trash_dir(id),
    });
    steps
}

/// The steps that bring a deleted volume back under a name.
pub fn plan_undelete(pool: &Pool, id: &str, name: &Name) -> Result<Vec<Step>> {
    let mut steps = vec![Step::Move {
        from: Place::TrashedVolume(id.to_owned()).path(),
        to: Place::volume(name).path(),
    }];
    let snapshots = trash_dir(id).join("snapshots");
    if edit::has_snapshots(pool, &snapshots)? {
        edit::must_be_free(pool, &snapshots_dir(name))?;
        steps.push(Step::Move {
            from: snapshots,
            to: snapshots_dir(name),
        });
    }
    steps.push(Step::RemoveDir {
        path: trash_dir(id),
    });
    steps.push(Step::Restore {
        id: id.to_owned(),
        volume: name.clone(),
    });
    Ok(steps)
}

/// The steps that remove snapshots for good: those that take them out of the index, and those
/// that remove the images.
pub fn plan_remove_snapshots(index: &Index, snapshots: &[SnapshotName]) -> (Vec<Step>, Vec<Step>) {
    let forget = snapshots.iter().map(|name| Step::ForgetSnapshot {
        snapshot: name.clone(),
    });
    let remove = snapshots.iter().map(|name| Step::Remove {
        path: Place::Snapshot(name.clone()).path(),
    });
    let mut remove: Vec<Step> = remove.collect();
    for (name, volume) in &index.volumes {
        let removed = snapshots
            .iter()
            .filter(|snapshot| snapshot.volume == *name)
            .count();
        if removed > 0 && removed == volume.snapshots.len() {
            remove.push(Step::RemoveDir {
                path: snapshots_dir(name),
            });
        }
    }
    (forget.collect(), remove)
}

/// What `delete` is to take.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// Whole volumes.
    pub volumes: Vec<Name>,
    /// Single snapshots.
    pub snapshots: Vec<SnapshotName>,
    /// Volumes may have snapshots.
    pub recursive: bool,
    /// Not to the trash.
    pub now: bool,
}

impl Deletion {
    /// Refuses what cannot be deleted, before anything is.
    pub fn check(&self, pool: &Pool, index: &Index) -> Result<()> {
        let usage = Usage::look()?;
        for name in &self.snapshots {
            let place = Place::Snapshot(name.clone());
            let record = index.snapshot(name)?;
            holds::must_not_hold(pool, "delete", &place, record)?;
            rollback::must_not_wait_for("delete", index, name)?;
            image_must_be_unused(pool, &usage, &place, record)?;
        }
        for name in &self.volumes {
            let volume = index.volume(name)?;
            properties::must_not_be_protected("delete", name, &volume.record)?;
            let remaining = volume.snapshots.len();
            if remaining > 0 && !self.recursive {
                return Err(Error::refused(
                    format!("cannot delete volume {name}"),
                    format!("it has {}", count(remaining)),
                )
                .with_hint(format!("'lovol delete -r {name}' deletes them as well")));
            }
            must_not_be_held(pool, "delete", index, name)?;
            must_be_unused(pool, index, name)?;
        }
        Ok(())
    }

    /// The steps, volume by volume, and the trash's names of the volumes.
    pub fn plan(
        &self,
        pool: &Pool,
        index: &Index,
        deleted: Timestamp,
    ) -> Result<(Vec<Step>, Vec<String>)> {
        let (mut steps, mut removals) = plan_remove_snapshots(index, &self.snapshots);
        let mut ids = Vec::new();
        for name in &self.volumes {
            let id = new_id(index, name, deleted);
            steps.extend(plan_delete(pool, name, &id, deleted)?);
            if let (true, Some(volume)) = (self.now, index.volumes.get(name)) {
                let trashed = Trashed {
                    name: name.clone(),
                    deleted,
                    volume: volume.clone(),
                };
                removals.extend(plan_purge(&trashed, &id));
            }
            ids.push(id);
        }
        // What cannot be taken back comes last.
        steps.extend(removals);
        Ok((steps, ids))
    }

    /// Deletes, and returns the trash's names of the volumes.
    pub fn carry_out(&self, pool: &Pool, observer: &dyn Observer) -> Result<Vec<String>> {
        let locks = self.lock(pool)?;
        let mut edit = Edit::begin(pool)?;
        self.check(pool, &edit.index)?;
        for (place, lock) in &locks {
            must_be_locked(pool, place, lock.as_ref())?;
        }
        if self.now {
            self.must_be_closed(pool, &edit.index)?;
        }
        let (steps, ids) = self.plan(pool, &edit.index, crate::time::now_in_seconds())?;
        edit.carry_out(&steps, observer)?;
        Ok(ids)
    }

    /// The snapshots that go with their volumes, which are not locked.
    fn must_be_closed(&self, pool: &Pool, index: &Index) -> Result<()> {
        let usage = Usage::look()?;
        for name in &self.volumes {
            for (snapshot, record) in &index.volume(name)?.snapshots {
                image_must_be_closed(pool, &usage, &Place::snapshot(name, snapshot), record)?;
            }
        }
        Ok(())
    }

    /// Locks the volumes and single snapshots that go, in the order of their places.  A volume's own
    /// snapshots go with their directory: looked at for users, not locked one by one.
    fn lock(&self, pool: &Pool) -> Result<Vec<(Place, Option<Lock>)>> {
        let snapshots = self.snapshots.iter().cloned().map(Place::Snapshot);
        let mut places: Vec<Place> = snapshots
            .chain(self.volumes.iter().map(Place::volume))
            .collect();
        places.sort();
        places.dedup();
        let mut locks = Vec::new();
        for place in places {
            let lock = match Lock::of_image(pool, &place) {
                Ok(lock) => Some(lock),
                // The image is gone already: nothing to lock, and the index is made right.
                Err(error) if error.errno() == Some(libc::ENOENT) => None,
                Err(error) => return Err(error),
            };
            locks.push((place, lock));
        }
        Ok(locks)
    }
}

/// Fails unless what lies at the place, now that nobody else changes the pool, is what was locked,
/// and nobody uses it.
fn must_be_locked(pool: &Pool, place: &Place, lock: Option<&Lock>) -> Result<()> {
    match lock {
        Some(lock) => {
            lock.must_be_of(pool, place)?;
            lock.lease(&place.to_string())
        }
        None if beneath::exists(pool.dir(), place.path()).doing("look at", place.path())? => {
            Err(lock::replaced(place))
        }
        None => Ok(()),
    }
}

/// Finds a deleted volume by its name in the trash, or by the name it had: the latest of them.
pub fn find<'i>(index: &'i Index, wanted: &str) -> Result<(&'i String, &'i Trashed)> {
    let mut found: Vec<_> = index
        .trash
        .iter()
        .filter(|(id, trashed)| id.as_str() == wanted || trashed.name.as_str() == wanted)
        .collect();
    found.sort_by_key(|(_, trashed)| trashed.deleted);
    found.pop().ok_or_else(|| Error::NotFound {
        kind: "deleted volume named",
        name: wanted.to_owned(),
        hint: Some("'lovol list --trash' lists what can be brought back".into()),
    })
}

/// Brings a deleted volume back.
pub fn undelete(
    pool: &Pool,
    wanted: &str,
    name: Option<&Name>,
    observer: &dyn Observer,
) -> Result<Name> {
    let index = pool.index()?;
    let (id, trashed) = find(&index, wanted)?;
    let what = format!("cannot bring {wanted} back");
    let place = Place::TrashedVolume(id.clone());
    let claim = Claim::Back(&place, trashed.volume.record.size);
    let _claimed = must_allow(pool, &what, claim)?;
    let mut edit = Edit::begin(pool)?;
    let (steps, name) = prepare_undelete(pool, &edit.index, wanted, name)?;
    edit.carry_out(&steps, observer)?;
    Ok(name)
}

/// The steps of [`undelete`], after making sure that they can be carried out.
pub fn prepare_undelete(
    pool: &Pool,
    index: &Index,
    wanted: &str,
    name: Option<&Name>,
) -> Result<(Vec<Step>, Name)> {
    let (id, trashed) = find(index, wanted)?;
    let name = name.unwrap_or(&trashed.name).clone();
    index.must_not_have_volume(&name).map_err(|error| {
        error.with_hint(format!(
            "'lovol undelete {wanted} --as NAME' gives it another name"
        ))
    })?;
    edit::must_be_free(pool, &Place::volume(&name).path())?;
    Ok((plan_undelete(pool, id, &name)?, name))
}

/// Takes deleted volumes away for good.
pub fn purge(pool: &Pool, ids: &[String], observer: &dyn Observer) -> Result<()> {
    let mut edit = Edit::begin(pool)?;
    let usage = Usage::look()?;
    let mut steps = Vec::new();
    for id in ids {
        let (id, trashed) = find(&edit.index, id)?;
        let volume = &trashed.volume;
        let place = Place::TrashedVolume(id.clone());
        image_must_be_closed(pool, &usage, &place, &volume.record)?;
        for (name, record) in &volume.snapshots {
            let place = Place::TrashedSnapshot(id.clone(), name.clone());
            holds::must_not_hold(pool, "purge", &place, record)?;
            image_must_be_closed(pool, &usage, &place, record)?;
        }
        steps.extend(plan_purge(trashed, id));
    }
    edit.carry_out(&steps, observer)
}

/// `1 snapshot`, `2 snapshots`.
pub fn count(snapshots: usize) -> String {
    if snapshots == 1 {
        "1 snapshot".into()
    } else {
        format!("{snapshots} snapshots")
    }
}
