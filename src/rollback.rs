//! Rolling a volume back to one of its snapshots: nothing is lost, and it can be undone.
//!
//! ```text
//! snapshots/home/a.img --clone--> new image, mounted once where nobody sees it: it can be
//! exchange    volumes/home.img <-> snapshots/home/before-rollback-TIME.img
//! record      what the volume was is a snapshot of its own from then on
//! ```
//! The new image is a volume with a UUID of its own; newer snapshots stay where they are.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use rustix::fs::OFlags;

use crate::claims::Claimed;
use crate::error::{Context, Error, Result};
use crate::guest::Fs;
use crate::image::{NewImage, VOLUME_MODE, attach_for_us};
use crate::index::{Index, Volume};
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::change::change_in;
use crate::pool::lock::Lock;
use crate::pool::{Edit, Place, Pool};
use crate::properties::{RESIZING, ROLLBACK_TO, ROLLED_BACK_TO};
use crate::record::{Consistency, Record};
use crate::size::Size;
use crate::space::{Claim, must_allow};
use crate::sys::mount::Detached;
use crate::sys::reflink;
use crate::usage::Usage;

/// A volume that is to be rolled back.
#[derive(Debug)]
pub struct Rollback<'p> {
    pool: &'p Pool,
    volume: Name,
    to: SnapshotName,
}

impl<'p> Rollback<'p> {
    /// To this snapshot.
    pub fn new(pool: &'p Pool, to: SnapshotName) -> Result<Self> {
        pool.index()?.snapshot(&to)?;
        Ok(Self {
            pool,
            volume: to.volume.clone(),
            to,
        })
    }

    /// To what the volume was before it was rolled back the last time.
    pub fn undo(pool: &'p Pool, volume: &Name) -> Result<Self> {
        let index = pool.index()?;
        let before = index
            .volume(volume)?
            .last_undo()
            .ok_or_else(|| Error::NotFound {
                kind: "rollback of",
                name: volume.to_string(),
                hint: Some(format!("'lovol list -a {volume}' lists its snapshots")),
            })?;
        Self::new(
            pool,
            SnapshotName {
                volume: volume.clone(),
                snapshot: before.0.clone(),
            },
        )
    }

    /// The snapshot that it goes back to.
    pub fn to(&self) -> &SnapshotName {
        &self.to
    }

    /// What [`Rollback::carry_out`] does.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let index = self.pool.index()?;
        let volume = index.volume(&self.volume)?;
        let new = self.new_record(&index)?;
        let before = name_of_before(volume);
        let mut steps = vec![Step::CloneAtOnce {
            from: Place::Snapshot(self.to.clone()).path(),
            to: Place::volume(&self.volume).path(),
        }];
        let record = self.record_of_before(&volume.record, Consistency::Clean);
        steps.extend(self.steps(&new, &before, &record, &volume.record));
        Ok(steps)
    }

    /// Fails where somebody uses the volume.
    pub fn must_be_possible(&self) -> Result<()> {
        self.must_be_unused(&self.pool.index()?)
    }

    /// Rolls it back, and returns the name of what it was.  Nobody may use it.
    pub fn carry_out(&self, claimed: &Claimed, observer: &dyn Observer) -> Result<SnapshotName> {
        let lock = Lock::of_image(self.pool, &Place::volume(&self.volume))?;
        self.locked(claimed, &lock, observer)
    }

    /// Room for what the volume was, and for what it has more then.
    pub fn claim(&self) -> Result<Claimed> {
        let index = self.pool.index()?;
        let old = index.volume(&self.volume)?.record.size;
        let more = self.new_record(&index)?.size.saturating_sub(old);
        let what = format!("cannot roll {} back", self.volume);
        must_allow(self.pool, &what, Claim::Rollback(&self.volume, more))
    }

    fn locked(
        &self,
        _claimed: &Claimed,
        lock: &Lock,
        observer: &dyn Observer,
    ) -> Result<SnapshotName> {
        let place = Place::volume(&self.volume);
        let index = self.pool.index()?;
        self.must_be_unused(&index)?;
        let mut new = self.new_record(&index)?;
        let image = self.clone_snapshot(&new, observer)?;
        let consistency = self.look_at_live(&index)?;
        // The pool is written back once more with its lock held, which is to be for a moment only.  An
        // error is of somebody else's files: ours were synced one by one.
        let _ = rustix::fs::syncfs(self.pool.dir());

        let mut edit = Edit::begin(self.pool)?;
        self.must_be_unused(&edit.index)?;
        lock.must_be_of(self.pool, &place)?;
        lock.lease(&place.to_string())?;
        let volume = edit.index.volume(&self.volume)?;
        edit.index.snapshot(&self.to)?;
        let was = volume.record.clone();
        let before = name_of_before(volume);
        // What was set of it meanwhile stays.
        new.properties = properties_of_new(&was);
        let mut record = self.record_of_before(&was, consistency);
        // A resize may be unfinished: the image is as long as it is.
        let old = self.pool.look_at(&place)?;
        record.size = old.len();
        record.allocated = Some(old.blocks() * 512);
        let steps = self.steps(&new, &before, &record, &was);
        self.exchange(image, &new, &before, &mut edit, &steps, observer)?;
        if new.size != record.size {
            observer.warn(&format!(
                "{} has {} again, as at {}, and had {}",
                self.volume,
                Size(new.size),
                self.to,
                Size(record.size)
            ));
        }
        Ok(SnapshotName {
            volume: self.volume.clone(),
            snapshot: before,
        })
    }

    fn must_be_unused(&self, index: &Index) -> Result<()> {
        let place = Place::volume(&self.volume);
        let record = &index.volume(&self.volume)?.record;
        crate::trash::image_must_be_unused(self.pool, &Usage::look()?, &place, record).map_err(
            |error| {
                error.with_hint(format!(
                    "--remount unmounts it, rolls back, and mounts it again; --next-mount rolls back when it is next mounted: lovol rollback --next-mount {}",
                    self.to
                ))
            },
        )
    }

    /// What the volume will be: with what was set of it, and the snapshot for a parent.
    fn new_record(&self, index: &Index) -> Result<Record> {
        let volume = &index.volume(&self.volume)?.record;
        let mut record = index.snapshot(&self.to)?.child();
        record.properties = properties_of_new(volume);
        Ok(record)
    }

    fn record_of_before(&self, volume: &Record, consistency: Consistency) -> Record {
        let mut record = volume.clone();
        record.volume = Some(volume.uuid);
        record.created = crate::time::now();
        record.consistency = Some(consistency);
        record.properties = [(ROLLED_BACK_TO.to_owned(), self.to.snapshot.to_string())].into();
        record
    }

    /// A clone of the snapshot that was mounted once, so that nothing is exchanged for what cannot be.
    fn clone_snapshot(&self, new: &Record, observer: &dyn Observer) -> Result<NewImage> {
        let from = Place::Snapshot(self.to.clone());
        let place = Place::volume(&self.volume);
        observer.begin(&Step::CloneAtOnce {
            from: from.path(),
            to: place.path(),
        });
        let source = self.pool.open_settled_image(&from, OFlags::RDONLY)?;
        let image = NewImage::for_place(self.pool, &place)?;
        reflink::clone_at_once(&source, &image.file, new.size)
            .doing("clone", self.pool.full_path(&from))?;
        // What nobody can mount cannot be tried: LVM, or a disk with partitions.
        if matches!(new.fs, Fs::Xfs | Fs::Ext4 | Fs::Btrfs) {
            let device = image.attach(false, new.sector)?;
            let options = new.fs.replay_options();
            let mount = Detached::new(&device.path(), new.fs.as_str(), options)?;
            mount.close().doing("unmount", device.path())?;
            device.close()?;
        }
        Ok(image)
    }

    /// How consistent what the volume is now will be as a snapshot.
    fn look_at_live(&self, index: &Index) -> Result<Consistency> {
        let record = &index.volume(&self.volume)?.record;
        let file = self
            .pool
            .open_image(&Place::volume(&self.volume), OFlags::RDONLY)?;
        let device = attach_for_us(&file, true, record.sector)?;
        let is_clean = record.fs.is_clean(&device.path());
        device.close()?;
        Ok(if is_clean {
            Consistency::Clean
        } else {
            Consistency::Crash
        })
    }

    fn place_of_before(&self, before: &Name) -> Place {
        Place::snapshot(&self.volume, before)
    }

    fn steps(&self, new: &Record, before: &Name, record: &Record, was: &Record) -> Vec<Step> {
        let path = self.place_of_before(before).path();
        vec![
            Step::Exchange {
                path: Place::volume(&self.volume).path(),
                with: path.clone(),
                uuid: new.uuid,
            },
            Step::BecomeSnapshot {
                path,
                record: Box::new(record.clone()),
                before: Box::new(was.clone()),
            },
            Step::RollBack {
                volume: self.volume.clone(),
                record: Box::new(new.clone()),
                snapshot: before.clone(),
                before: Box::new(record.clone()),
            },
        ]
    }

    /// The new image lies among the snapshots until it is exchanged with the volume's, which so is
    /// never without a name.
    fn exchange(
        &self,
        image: NewImage,
        new: &Record,
        before: &Name,
        edit: &mut Edit<'_>,
        steps: &[Step],
        observer: &dyn Observer,
    ) -> Result<()> {
        let place = self.place_of_before(before);
        // If we are killed until the exchange is noted, the next lovol takes it away.
        edit.index.intents.push(vec![Step::RemoveNew {
            path: place.path(),
            uuid: new.uuid,
        }]);
        edit.save()?;
        let named = match image.publish_with(VOLUME_MODE, self.pool, &place, new) {
            Ok(named) => named,
            Err(error) => {
                edit.index.intents.clear();
                drop(edit.save());
                return Err(error);
            }
        };
        // Whoever finds it in the old one's place waits until the index knows that as well.
        let _lock = match Lock::of_image(self.pool, &place) {
            Ok(lock) => lock,
            Err(error) => {
                drop(named);
                edit.index.intents.clear();
                drop(edit.save());
                return Err(error);
            }
        };
        edit.index.intents.clear();
        let result = edit.carry_out(steps, observer);
        if result.is_ok() || !edit.index.intents.is_empty() {
            // Done, or to be finished by the next lovol: the image must stay for that.
            named.keep();
        } else {
            drop(named);
            // The index on disk may still have the intent; then this is the second to see to it.
            drop(edit.save());
        }
        result
    }

    /// Notes that it is to be rolled back when it is next mounted.
    pub fn at_next_mount(&self) -> Result<()> {
        let place = Place::volume(&self.volume);
        change_in(self.pool, &place, |index, record| {
            // It may have been deleted meanwhile.
            index.snapshot(&self.to)?;
            let to = self.to.snapshot.to_string();
            record.properties.insert(ROLLBACK_TO.into(), to);
            Ok(())
        })
        .map(drop)
    }
}

fn properties_of_new(volume: &Record) -> BTreeMap<String, String> {
    let mut properties = volume.properties.clone();
    properties.remove(ROLLBACK_TO);
    properties.remove(RESIZING);
    properties
}

fn name_of_before(volume: &Volume) -> Name {
    let now = crate::time::now_in_seconds();
    Name::before_rollback(now, |name| volume.snapshots.contains_key(name))
}

/// Rolls a volume back that is about to be mounted, if that was asked for.  In use, it is not.
pub fn if_due(pool: &Pool, place: &Place, observer: &dyn Observer) -> Result<()> {
    let Place::Volume(name) = place else {
        return Ok(());
    };
    if !is_wanted(pool, name)? {
        return Ok(());
    }
    // Two mounts at once, by two lines of fstab: the second looks when the first has done it.  Nor is a
    // device that another lovol has for a moment somebody's use.
    let lock = Lock::of_image(pool, place)?;
    let Some(to) = due(pool, name, place, observer)? else {
        return Ok(());
    };
    let roll_back = || {
        let to = SnapshotName {
            volume: name.clone(),
            snapshot: to.parse().map_err(|why: String| Error::refused(&to, why))?,
        };
        let rollback = Rollback::new(pool, to)?;
        rollback.locked(&rollback.claim()?, &lock, observer)
    };
    let before = roll_back().map_err(|why| match why {
        // Of another lovol or a moment: what they say is what to do.
        Error::Locked { .. } | Error::InUse { .. } | Error::Unfinished { .. } => why,
        why => Error::refused(
            format!("cannot mount {place}: it is to be rolled back to {to} first"),
            why.to_string(),
        )
        .with_hint(format!("'lovol set {name} {ROLLBACK_TO}=' forgets that")),
    })?;
    observer.warn(&format!(
        "{name} was rolled back to {to}; what it was is {before}"
    ));
    Ok(())
}

fn is_wanted(pool: &Pool, name: &Name) -> Result<bool> {
    let index = pool.index()?;
    Ok(index
        .volume(name)?
        .record
        .properties
        .contains_key(ROLLBACK_TO))
}

/// What it is to be rolled back to, where nobody uses it.
fn due(pool: &Pool, name: &Name, place: &Place, observer: &dyn Observer) -> Result<Option<String>> {
    let index = pool.index()?;
    let Some(to) = index.volume(name)?.record.properties.get(ROLLBACK_TO) else {
        return Ok(None);
    };
    let usage = Usage::look()?;
    let is_used = usage.devices_of(pool.image_id(place)?).next().is_some();
    if is_used {
        observer.warn(&format!(
            "{name} is to be rolled back to {to}, but it is in use: that waits until nothing uses it"
        ));
    }
    Ok((!is_used).then(|| to.clone()))
}

/// Fails where a volume is to be rolled back to this snapshot.
pub fn must_not_wait_for(what: &str, index: &Index, snapshot: &SnapshotName) -> Result<()> {
    let record = &index.volume(&snapshot.volume)?.record;
    let is_wanted =
        record.properties.get(ROLLBACK_TO).map(String::as_str) == Some(snapshot.snapshot.as_str());
    if !is_wanted {
        return Ok(());
    }
    Err(Error::refused(
        format!("cannot {what} snapshot {snapshot}"),
        format!(
            "{} is rolled back to it when it is next mounted",
            snapshot.volume
        ),
    )
    .with_hint(format!(
        "'lovol set {} {ROLLBACK_TO}=' forgets that",
        snapshot.volume
    )))
}
