//! Changing a pool: with its lock held, on an index that was read under that lock.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use uuid::Uuid;

use crate::error::{Context, Error, Result};
use crate::image::{Named, SNAPSHOT_MODE, VOLUME_MODE};
use crate::index::{Index, Trashed, Volume};
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::place::records;
use crate::pool::{INDEX, Pool, ballast};
use crate::record::Record;
use crate::sys::beneath;
use crate::sys::loopdev::FileId;
use crate::sys::signals::Blocked;
use crate::usage::Usage;

/// A pool whose lock we hold.
#[derive(Debug)]
pub struct Edit<'p> {
    pool: &'p Pool,
    /// The index; what is changed here is saved by [`Edit::save`].
    pub index: Index,
    _lock: Lock,
    /// Its few moments are not interrupted: ^C comes before or after.
    _signals: Blocked,
}

impl<'p> Edit<'p> {
    /// Waits for the pool's lock, reads the index, and finishes what a killed lovol has begun.
    pub fn begin(pool: &'p Pool) -> Result<Self> {
        pool.must_not_be_frozen()?;
        let lock = Lock::of_pool(pool)?;
        let index = pool.index()?;
        let signals = Blocked::all().doing("block", "signals")?;
        let mut edit = Self {
            pool,
            index,
            _lock: lock,
            _signals: signals,
        };
        edit.finish_intents()?;
        Ok(edit)
    }

    /// Like [`Edit::begin`], but with this index in the place of the one that is there.
    pub fn with_index(pool: &'p Pool, lock: Lock, index: Index) -> Result<Self> {
        pool.must_not_be_frozen()?;
        let signals = Blocked::all().doing("block", "signals")?;
        Ok(Self {
            pool,
            index,
            _lock: lock,
            _signals: signals,
        })
    }

    /// Finishes what was begun.  What is in use by now is not moved: then it is taken back, if
    /// possible, as is what was being taken back.  What cannot be removed is left; the index does not
    /// name it any more.
    fn finish_intents(&mut self) -> Result<()> {
        if self.index.intents.is_empty() {
            return Ok(());
        }
        for steps in std::mem::take(&mut self.index.intents) {
            // They run in order: what comes behind it was not begun.
            let begun = self
                .first_not_to_go_on_with(&steps)?
                .map(|at| &steps[..=at]);
            match begun {
                Some(begun) if self.undo_all(begun).is_ok() => {}
                _ => self.finish(&steps)?,
            }
        }
        self.save()
    }

    fn finish(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            match (step, self.apply(step)) {
                (_, Ok(())) | (Step::Remove { .. } | Step::RemoveDir { .. }, Err(_)) => {}
                (_, Err(error)) => {
                    let what = format!("cannot finish what an earlier lovol has begun ({step})");
                    return Err(Error::refused(what, error.to_string())
                        .with_hint("remove what is in the way, then 'lovol check --repair'"));
                }
            }
        }
        Ok(())
    }

    /// The first step that would move what is in use by now, or the exchange that was taken back.
    fn first_not_to_go_on_with(&self, steps: &[Step]) -> Result<Option<usize>> {
        let usage = Usage::look()?;
        let is_used = |path: &Path| {
            let place = beneath::open(self.pool.dir(), path, OFlags::PATH | OFlags::NOFOLLOW);
            let id = place.and_then(|fd| FileId::of(&File::from(fd)));
            id.is_ok_and(|id| usage.devices_of(id).next().is_some())
        };
        let is_gone = |path: &Path| matches!(beneath::exists(self.pool.dir(), path), Ok(false));
        Ok(steps.iter().position(|step| match step {
            Step::Move { from, .. } => is_used(from),
            // Where it is done already, who uses what is there by now is not disturbed by going on.
            Step::Exchange { path, with, uuid } => {
                !self.has_uuid(path, *uuid).unwrap_or(false) && (is_used(path) || is_gone(with))
            }
            _ => false,
        }))
    }

    /// Saves `steps` as an intent, carries them out, and saves what has become of the index.
    ///
    /// Steps at the front that change the index only are saved together with the intent: so what
    /// is removed leaves the index first.  When a later step fails, those before it are taken back.
    /// What cannot be taken back (a removal) stays an intent, which the next lovol finishes.
    pub fn carry_out(&mut self, steps: &[Step], observer: &dyn Observer) -> Result<()> {
        let before = self.index.clone();
        let first_of_files = steps
            .iter()
            .position(|step| !step.is_of_index())
            .unwrap_or(steps.len());
        let (first, rest) = steps.split_at(first_of_files);
        for step in first {
            observer.begin(step);
            self.apply_to_index(step);
        }
        if !rest.is_empty() {
            self.index.intents.push(rest.to_vec());
        }
        if let Err(error) = self.save() {
            self.index = before;
            return Err(error);
        }
        for (number, step) in rest.iter().enumerate() {
            observer.begin(step);
            if let Err(error) = self.apply(step) {
                return Err(self.take_back(&rest[..=number], before, error));
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let intent = self.index.intents.pop();
        self.save().map_err(|error| {
            self.index.intents.extend(intent);
            self.take_back(rest, before, error)
        })
    }

    /// Names new images by `name_all` and saves the index with them: all of them or none, whenever
    /// this process dies.  Until then the index has the steps that remove them.
    pub fn add_together<T>(
        &mut self,
        if_killed: Vec<Step>,
        name_all: impl FnOnce(&mut Self) -> Result<(Vec<Named>, T)>,
    ) -> Result<T> {
        let before = self.index.clone();
        let is_one = if_killed.len() == 1;
        let name_and_save = || {
            if !is_one {
                self.index.intents.push(if_killed);
                self.save()?;
            }
            let (named, result) = name_all(self)?;
            self.index.intents.clone_from(&before.intents);
            self.save()?;
            named.into_iter().for_each(Named::keep);
            Ok(result)
        };
        let result = name_and_save();
        if result.is_err() {
            self.index = before;
            if !is_one {
                // If this fails, the index on disk still has the intent, and the next lovol removes
                // the images by it.
                drop(self.save());
            }
        }
        result
    }

    /// Takes `steps` back, of which the last may have been carried out or not.
    fn take_back(&mut self, steps: &[Step], before: Index, why: Error) -> Error {
        let unfinished = self.index.clone();
        let undone = self.undo_all(steps);
        self.index = before;
        if undone.is_ok() && self.save().is_ok() {
            return why;
        }
        self.index = unfinished;
        Error::Unfinished { why: Box::new(why) }
    }

    /// Undoes steps, the last first.
    fn undo_all(&self, steps: &[Step]) -> Result<()> {
        steps.iter().rev().try_for_each(|step| self.undo(step))
    }

    /// Undoes a step on files, or nothing where it was not carried out.
    fn undo(&self, step: &Step) -> Result<()> {
        let dir = self.pool.dir();
        let exists = |path: &Path| beneath::exists(dir, path).doing("look at", path);
        match step {
            Step::MakeDir { path } => {
                unless_done(beneath::remove_dir(dir, path), libc::ENOENT).doing("remove", path)
            }
            Step::Move { from, .. } if exists(from)? => Ok(()),
            Step::Move { from, to } => self.apply_move(to, from),
            Step::Exchange { path, with, uuid } => {
                if self.has_uuid(path, *uuid)? {
                    beneath::exchange(dir, path, with).doing("exchange", path)?;
                }
                // Where the old one was to come to lies the new one, which nobody will name.
                self.remove_new(with, *uuid)
            }
            Step::BecomeSnapshot { path, before, .. } => self.describe(path, before, VOLUME_MODE),
            Step::Remove { path } | Step::RemoveDir { path } if !exists(path)? => {
                Err(Error::refused(path.display().to_string(), "it is removed"))
            }
            _ => Ok(()),
        }
    }

    /// Carries out one step, or nothing where it was carried out before.
    fn apply(&mut self, step: &Step) -> Result<()> {
        let dir = self.pool.dir();
        match step {
            Step::MakeDir { path } => {
                let make = || unless_done(beneath::make_dir(dir, path), libc::EEXIST);
                ballast::make_room_for(dir, make).doing("make", path)
            }
            Step::Remove { path } => {
                unless_done(beneath::unlink(dir, path), libc::ENOENT).doing("remove", path)
            }
            Step::RemoveNew { path, uuid } => self.remove_new(path, *uuid),
            Step::RemoveDir { path } => {
                // Somebody else's file in it is no reason to stop; `check` names it.
                let removed = unless_done(beneath::remove_dir(dir, path), libc::ENOTEMPTY);
                unless_done(removed, libc::ENOENT).doing("remove", path)
            }
            Step::Move { from, to } => self.apply_move(from, to),
            Step::Exchange { path, with, uuid } => self.apply_exchange(path, with, *uuid),
            Step::BecomeSnapshot { path, record, .. } => self.describe(path, record, SNAPSHOT_MODE),
            _ => {
                self.apply_to_index(step);
                Ok(())
            }
        }
    }

    /// A move whose source is gone was carried out before, or there was nothing to move.
    fn apply_move(&self, from: &Path, to: &Path) -> Result<()> {
        let dir = self.pool.dir();
        if beneath::exists(dir, from).doing("look at", from)? {
            // An empty directory, left by a kill, is in nobody's way.
            drop(beneath::remove_dir(dir, to));
        }
        unless_done(beneath::rename(dir, from, to), libc::ENOENT).doing("rename", from)
    }

    /// Exchanging twice would undo it, so the image's own record says whether it is done.
    fn apply_exchange(&self, path: &Path, with: &Path, uuid: Uuid) -> Result<()> {
        if self.has_uuid(path, uuid)? {
            return Ok(());
        }
        beneath::exchange(self.pool.dir(), path, with).doing("exchange", path)
    }

    /// Gives the image at `path` a record and a mode, if it is the one that the record is of.
    ///
    /// By its path: a lease of ours may keep even us from opening it, so all of the pool is written
    /// back.
    fn describe(&self, path: &Path, record: &Record, mode: u32) -> Result<()> {
        if !self.has_uuid(path, record.uuid)? {
            return Ok(());
        }
        let place = beneath::open(self.pool.dir(), path, OFlags::PATH | OFlags::NOFOLLOW)
            .doing("open", path)?;
        // Also on a full filesystem: nothing else could be done, not even deleted, before this is.
        ballast::make_room_for(self.pool.dir(), || record.write_closed(&place))
            .doing("write the record of", path)?;
        rustix::fs::chmod(beneath::fd_path(&place), Mode::from_raw_mode(mode))
            .doing("set the mode of", path)?;
        rustix::fs::syncfs(self.pool.dir()).doing("write back", path)
    }

    /// What was never named, or is another's by now, is left.
    fn remove_new(&self, path: &Path, uuid: Uuid) -> Result<()> {
        let dir = self.pool.dir();
        if beneath::exists(dir, path).doing("look at", path)? && self.has_uuid(path, uuid)? {
            beneath::unlink(dir, path).doing("remove", path)?;
        }
        Ok(())
    }

    /// Whether the image at `path` carries this UUID.
    fn has_uuid(&self, path: &Path, uuid: Uuid) -> Result<bool> {
        // By O_PATH, as we may hold a lease on it.
        let place = beneath::open(self.pool.dir(), path, OFlags::PATH | OFlags::NOFOLLOW)
            .doing("open", path)?;
        let record = Record::read_closed(&place).doing("read the record of", path)?;
        Ok(record.is_some_and(|record| record.uuid == uuid))
    }

    fn apply_to_index(&mut self, step: &Step) {
        let index = &mut self.index;
        match step {
            Step::RenameVolume { from, to } => {
                if let Some(volume) = index.volumes.remove(from) {
                    index.volumes.insert(to.clone(), volume);
                }
            }
            Step::RenameSnapshot { from, to } => {
                let volume = index.volumes.get_mut(&from.volume);
                if let Some(volume) = volume {
                    if let Some(record) = volume.snapshots.remove(&from.snapshot) {
                        volume.snapshots.insert(to.clone(), record);
                    }
                }
            }
            Step::Trash {
                volume: name,
                id,
                deleted,
            } => {
                if let Some(volume) = index.volumes.remove(name) {
                    let trashed = Trashed {
                        name: name.clone(),
                        deleted: *deleted,
                        volume,
                    };
                    index.trash.insert(id.clone(), trashed);
                }
            }
            Step::RollBack {
                volume: name,
                record,
                snapshot,
                before,
            } => {
                if let Some(volume) = index.volumes.get_mut(name) {
                    volume.record = record.as_ref().clone();
                    volume
                        .snapshots
                        .insert(snapshot.clone(), before.as_ref().clone());
                }
            }
            Step::AddVolume { volume, record } => {
                index
                    .volumes
                    .insert(volume.clone(), Volume::new(record.as_ref().clone()));
            }
            Step::Restore { id, volume } => {
                if let Some(trashed) = index.trash.remove(id) {
                    index.volumes.insert(volume.clone(), trashed.volume);
                }
            }
            Step::ForgetSnapshot { snapshot } => {
                if let Some(volume) = index.volumes.get_mut(&snapshot.volume) {
                    volume.snapshots.remove(&snapshot.snapshot);
                }
            }
            Step::ForgetTrash { id } => {
                index.trash.remove(id);
            }
            // The other steps are never saved as an intent.
            _ => {}
        }
    }

    /// Replaces the index's file by what is in memory: a new file, made durable, then renamed.
    ///
    /// On a full filesystem the ballast makes room, so that deleting is always possible.
    pub fn save(&self) -> Result<()> {
        let dir = self.pool.dir();
        ballast::make_room_for(dir, || write_index_in(dir, &self.index))
            .doing("write", self.pool.path().join(INDEX))
    }
}

fn unless_done(result: io::Result<()>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        result => result,
    }
}

/// Seen only between two calls of ours, or after a kill there; the next save replaces it.
pub(super) const NEW_INDEX: &str = ".index.json.new";

/// Writes the index: the old one stays whole until the new one is durable.
pub fn write_index_in(dir: impl std::os::fd::AsFd, index: &Index) -> io::Result<()> {
    let dir = dir.as_fd();
    let mut file: File = beneath::unnamed(dir)?;
    file.write_all(&serde_json::to_vec(index)?)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
    rustix::fs::fsync(&file)?;
    match rustix::fs::unlinkat(dir, NEW_INDEX, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    beneath::link(&file, dir, NEW_INDEX)?;
    let replaced = replace(dir, NEW_INDEX);
    // What is there now is the old index, or a new one that did not become the index.
    let _ = rustix::fs::unlinkat(dir, NEW_INDEX, AtFlags::empty());
    replaced
}

/// Puts `new` in the place of the index, or leaves the old one there.
fn replace(dir: BorrowedFd<'_>, new: &str) -> io::Result<()> {
    let exchange = || rustix::fs::renameat_with(dir, new, dir, INDEX, RenameFlags::EXCHANGE);
    match exchange() {
        Ok(()) => beneath::sync(dir).inspect_err(|_| {
            // Not known to be durable is not done: whoever called takes back what it names.
            let _ = exchange();
        }),
        Err(rustix::io::Errno::NOENT) => {
            rustix::fs::renameat(dir, new, dir, INDEX)?;
            beneath::sync(dir)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether anything lies in the directory of a volume's snapshots: those that the index does not name, as
/// whoever took them was killed before, go where their volume goes, too.
pub fn has_snapshots(pool: &Pool, dir: &Path) -> Result<bool> {
    match beneath::names(pool.dir(), dir) {
        Ok(names) => Ok(!names.is_empty()),
        Err(error) => match error.raw_os_error() {
            // Somebody else's file or symlink is not ours to move.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => Ok(false),
            _ => Err(Error::io("list", pool.path().join(dir), error)),
        },
    }
}

/// Refuses when something lies at a place where a step is to put something.
pub fn must_be_free(pool: &Pool, path: &Path) -> Result<()> {
    let is_taken = beneath::exists(pool.dir(), path).doing("look at", path)?;
    let is_empty_dir = || beneath::names(pool.dir(), path).is_ok_and(|names| names.is_empty());
    if !is_taken || is_empty_dir() {
        return Ok(());
    }
    // Without the pool's lock, another lovol may have put it there since the caller looked.
    let index = pool.index()?;
    let named = records(&index).into_keys();
    let by_another = named
        .into_iter()
        .find(|place| place.path().starts_with(path));
    Err(match by_another {
        Some(place) => Error::Exists {
            what: place.to_string(),
            hint: None,
        },
        None => Error::Exists {
            what: pool.path().join(path).display().to_string(),
            hint: Some(
                "another lovol is making it just now, or the index does not name it: 'lovol check' says more".into(),
            ),
        },
    })
}
