//! Clones: a writable copy that depends on nothing.
//!
//! In the pool, `volume or snapshot -> new volume`, with a new filesystem UUID, so that it mounts
//! beside its source.  Outside, `path -> path`: what loclone does, frozen if mounted, without its
//! traps.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid};

use crate::error::{Context, Error, Result};
use crate::guest::Fs;
use crate::image::{Named, NewImage, attach_for_us};
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::lock::{self, Lock};
use crate::pool::place::{snapshots_dir, trash_dir};
use crate::pool::{Edit, Place, Pool, edit};
use crate::properties;
use crate::record::{Consistency, Record};
use crate::snapshot::{self, Source, Taken, Way};
use crate::space::{Claim, must_allow};
use crate::staging::{Staging, WHOLE};
use crate::sys::beneath;
use crate::sys::loopdev::FileId;
use crate::sys::probe::Signature;
use crate::sys::signals::Blocked;
use crate::trash;
use crate::usage::Usage;
use crate::volume::{current_record, is_in_a_pool};

/// What is the same for all clones.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Give the filesystem a UUID of its own.
    pub new_uuid: bool,
    /// Replace an existing destination.
    pub force: bool,
    /// Take a source in use without freezing it.
    pub crash: bool,
}

/// A volume to be cloned from an image of the pool.
#[derive(Debug)]
pub struct ToVolume<'p> {
    pool: &'p Pool,
    from: Place,
    to: Name,
    options: Options,
    parent: Record,
    file: File,
    lock: Option<Lock>,
}

impl<'p> ToVolume<'p> {
    /// Opens and locks the source, and looks at the destination.
    pub fn open(pool: &'p Pool, from: Place, to: Name, options: Options) -> Result<Self> {
        // A snapshot never changes, so nothing needs to be kept away from it.
        let lock = if from.is_snapshot() {
            None
        } else {
            Some(Lock::of_image(pool, &from)?)
        };
        let index = pool.index()?;
        let parent = from.record_in(&index)?.clone();
        if index.volumes.contains_key(&to) {
            if from == Place::volume(&to) {
                return Err(Error::refused(
                    format!("cannot clone {from} to itself"),
                    "source and destination are the same",
                ));
            }
            if !options.force {
                return Err(exists(&format!("volume {to}")));
            }
            properties::must_not_be_protected("replace", &to, &index.volume(&to)?.record)?;
            trash::must_not_be_held(pool, "replace", &index, &to)?;
            trash::must_be_unused(pool, &index, &to)?;
        } else {
            edit::must_be_free(pool, &Place::volume(&to).path())?;
        }
        let file = pool.open_settled_image(&from, OFlags::RDONLY)?;
        let parent = current_record(&file, &parent)?;
        Ok(Self {
            pool,
            from,
            to,
            options,
            parent,
            file,
            lock,
        })
    }

    fn source(&self) -> Source<'_> {
        Source {
            name: match &self.from {
                Place::Volume(name) => name.to_string(),
                Place::Snapshot(name) => name.to_string(),
                place => place.to_string(),
            },
            file: &self.file,
            fs: &self.parent.fs,
            sector: self.parent.sector,
            paths: (self.from.path(), Place::volume(&self.to).path()),
        }
    }

    fn way(&self, source: &Source<'_>) -> Result<Way> {
        match self.parent.consistency {
            Some(consistency) if self.from.is_snapshot() => Ok(Way::Immutable(consistency)),
            _ => snapshot::choose(source, &Usage::look()?, self.options.crash),
        }
    }

    /// What [`ToVolume::make`] does.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let source = self.source();
        let mut steps = vec![self.way(&source)?.step(&source)];
        steps.extend(self.uuid_step());
        let index = self.pool.index()?;
        if index.volumes.contains_key(&self.to) {
            let id = trash::new_id(&index, &self.to, crate::time::now_in_seconds());
            let record = self.parent.child();
            steps.extend(self.replacement(&id, &record)?);
        }
        Ok(steps)
    }

    fn uuid_step(&self) -> Option<Step> {
        let is_known = matches!(self.parent.fs, Fs::Xfs | Fs::Ext4 | Fs::Btrfs);
        let image = Place::volume(&self.to).path();
        (self.options.new_uuid && is_known).then_some(Step::NewUuid { image })
    }

    /// Makes it.
    pub fn make(mut self, observer: &dyn Observer) -> Result<Record> {
        let source = self.source();
        let what = format!("cannot make volume {}", self.to);
        let claim = match &self.from {
            // What it has alone becomes the clone's as well.
            Place::Volume(from) => Claim::Clone(from, self.parent.size),
            _ => Claim::Volume(self.parent.size),
        };
        let _claimed = must_allow(self.pool, &what, claim)?;
        let way = self.way(&source)?;
        let image = NewImage::for_place(self.pool, &Place::volume(&self.to))?;
        let taken = snapshot::take(&source, &image, &way, self.pool.wait, observer)?;
        let mut record = self.parent.child();
        record.size = taken.size;
        if let Some(step) = self.uuid_step() {
            observer.begin(&step);
            let signature = renew_uuid(
                &image.file,
                (&self.parent.fs, self.parent.sector),
                taken.consistency,
            )?;
            record.fs_uuid = signature.uuid;
        }
        // Two that replace each other's source would otherwise wait for each other.
        self.lock = None;
        self.publish(image, &record, observer)?;
        Ok(record)
    }

    fn publish(&self, image: NewImage, record: &Record, observer: &dyn Observer) -> Result<()> {
        // The volume that is to be replaced is locked before the pool, as everywhere.
        let is_taken = self.pool.index()?.volumes.contains_key(&self.to);
        if !is_taken || !self.options.force {
            return crate::volume::add(self.pool, &self.to, image, record);
        }
        let place = Place::volume(&self.to);
        let old = Lock::of_image(self.pool, &place)?;
        let mut edit = Edit::begin(self.pool)?;
        let record_of_old = &edit.index.volume(&self.to)?.record;
        properties::must_not_be_protected("replace", &self.to, record_of_old)?;
        trash::must_not_be_held(self.pool, "replace", &edit.index, &self.to)?;
        trash::must_be_unused(self.pool, &edit.index, &self.to)?;
        old.must_be_of(self.pool, &place)?;
        old.lease(&place.to_string())?;
        let id = trash::new_id(&edit.index, &self.to, crate::time::now_in_seconds());
        observer.warn(&format!(
            "the volume that {} was goes to the trash as {id}",
            self.to
        ));
        let steps = self.replacement(&id, record)?;
        let (make_dir, rest) = steps.split_at(1);
        edit.carry_out(make_dir, observer)?;
        let result = self.exchange(image, &id, record, &mut edit, rest, observer);
        if result.is_err() && edit.index.intents.is_empty() {
            drop(beneath::remove_dir(self.pool.dir(), &trash_dir(&id)));
        }
        result
    }

    fn exchange(
        &self,
        image: NewImage,
        id: &str,
        record: &Record,
        edit: &mut Edit<'_>,
        steps: &[Step],
        observer: &dyn Observer,
    ) -> Result<()> {
        let place = Place::TrashedVolume(id.to_owned());
        let named: Named = image.publish(self.pool, &place, record)?;
        // Whoever finds it in the old one's place waits until the index knows that as well.
        let _lock = Lock::of_image(self.pool, &place)?;
        let result = edit.carry_out(steps, observer);
        if result.is_ok() || !edit.index.intents.is_empty() {
            // Done, or to be finished by the next lovol: the new image must stay for that.
            named.keep();
        }
        result
    }

    /// The new image lies in the trash until it is exchanged with the old one, which so is never
    /// without a name, and can be undeleted.
    fn replacement(&self, id: &str, record: &Record) -> Result<Vec<Step>> {
        let mut steps = vec![
            Step::MakeDir {
                path: trash_dir(id),
            },
            Step::Exchange {
                path: Place::volume(&self.to).path(),
                with: Place::TrashedVolume(id.to_owned()).path(),
                uuid: record.uuid,
            },
        ];
        if edit::has_snapshots(self.pool, &snapshots_dir(&self.to))? {
            steps.push(Step::Move {
                from: snapshots_dir(&self.to),
                to: trash_dir(id).join("snapshots"),
            });
        }
        steps.push(Step::Trash {
            volume: self.to.clone(),
            id: id.to_owned(),
            deleted: crate::time::now_in_seconds(),
        });
        steps.push(Step::AddVolume {
            volume: self.to.clone(),
            record: Box::new(record.clone()),
        });
        Ok(steps)
    }
}

fn exists(what: &str) -> Error {
    Error::Exists {
        what: what.to_owned(),
        hint: Some("--force replaces it".into()),
    }
}

/// Gives the filesystem in a finished clone a new UUID.
fn renew_uuid(
    file: &File,
    (fs, sector): (&Fs, Option<u32>),
    consistency: Consistency,
) -> Result<Signature> {
    let device = attach_for_us(file, false, sector)?;
    fs.renew_uuid(&device.path(), consistency)?;
    let (_, signature) = Fs::recognise(&device.path())?;
    device.close()?;
    Ok(signature)
}

/// An image file outside any pool, to be cloned to another path.
#[derive(Debug)]
pub struct ToPath {
    from: PathBuf,
    to: PathBuf,
    dir: OwnedFd,
    file: File,
    fs: Fs,
    sector: Option<u32>,
    options: Options,
}

impl ToPath {
    /// Opens source and destination's directory.
    pub fn open(from: &Path, to: &Path, options: Options) -> Result<Self> {
        let file = File::open(from).doing("open", from)?;
        let metadata = file.metadata().doing("look at", from)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::refused(
                format!("cannot clone {}", from.display()),
                "it is not an image file with something in it",
            ));
        }
        let name = to.file_name().ok_or_else(|| {
            Error::usage(
                format!("{} names no file", to.display()),
                "DEST is the path of the new image",
            )
        })?;
        let parent = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().doing("find", parent)?;
        if is_in_a_pool(&parent) {
            return Err(Error::refused(
                format!("cannot clone to {}", to.display()),
                "it lies in a pool",
            )
            .with_hint("'lovol create NAME --from FILE' takes an image into the pool"));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&parent, flags, Mode::empty()).doing("open", &parent)?;
        let (fs, signature) = Fs::recognise(Path::new(&beneath::fd_path_for_tools(&file)))?;
        let clone = Self {
            from: from.to_owned(),
            to: parent.join(name),
            dir,
            file,
            fs,
            sector: signature.small_sector(),
            options,
        };
        drop(clone.existing()?);
        Ok(clone)
    }

    fn source(&self) -> Source<'_> {
        Source {
            name: self.from.display().to_string(),
            file: &self.file,
            fs: &self.fs,
            sector: self.sector,
            paths: (self.from.clone(), self.to.clone()),
        }
    }

    /// What [`ToPath::make`] does.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let source = self.source();
        let mut steps =
            vec![snapshot::choose(&source, &Usage::look()?, self.options.crash)?.step(&source)];
        steps.extend(self.uuid_step());
        Ok(steps)
    }

    fn uuid_step(&self) -> Option<Step> {
        self.options.new_uuid.then(|| Step::NewUuid {
            image: self.to.clone(),
        })
    }

    /// The destination, if it exists, may be replaced and is nobody's: held so until dropped.
    fn existing(&self) -> Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&self.to, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Error::io("open", &self.to, error.into())),
        };
        let what = self.to.display().to_string();
        if !self.options.force {
            return Err(exists(&what));
        }
        let metadata = file.metadata().doing("look at", &self.to)?;
        if !metadata.is_file() {
            return Err(Error::refused(
                format!("cannot replace {what}"),
                "it is not a regular file",
            ));
        }
        let id = FileId::from(&metadata);
        if id == FileId::of(&self.file).doing("look at", &self.from)? {
            return Err(Error::refused(
                format!("cannot replace {what}"),
                "it is the source",
            ));
        }
        Usage::look()?.must_not_use(&what, id, None)?;
        lock::lease(&file, &what)?;
        Ok(Some(file))
    }

    /// Takes away what killed ones have left where it goes to.
    pub fn sweep(&self) {
        Staging::sweep(&self.dir);
    }

    /// Makes the clone, with its source's owner, and its mode less what others may do.
    pub fn make(&self, observer: &dyn Observer, patience: std::time::Duration) -> Result<Taken> {
        let source = self.source();
        let way = snapshot::choose(&source, &Usage::look()?, self.options.crash)?;
        let image = NewImage::in_dir(&self.dir, self.to.clone())?;
        let taken = snapshot::take(&source, &image, &way, patience, observer)?;
        if let Some(step) = self.uuid_step() {
            observer.begin(&step);
            renew_uuid(&image.file, (&self.fs, self.sector), taken.consistency)?;
        }
        let stat = rustix::fs::fstat(&self.file).doing("look at", &self.from)?;
        let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(&image.file, Some(user), Some(group)).doing("own", &self.to)?;
        // An image is the raw content of all its users' files.
        rustix::fs::fchmod(&image.file, Mode::from_raw_mode(stat.st_mode & 0o600))
            .doing("set the mode of", &self.to)?;
        rustix::fs::fsync(&image.file).doing("write back", &self.to)?;
        self.name(&image)?;
        Ok(taken)
    }

    fn name(&self, image: &NewImage) -> Result<()> {
        // ^C comes when it is the one or the other.
        let _signals = Blocked::all().doing("block", "signals")?;
        let name = self.to.file_name().map(PathBuf::from).unwrap_or_default();
        let Some(old) = self.existing()? else {
            beneath::link(&image.file, &self.dir, &name).doing("name", &self.to)?;
            return beneath::sync(&self.dir)
                .doing("write back the directory of", &self.to)
                .inspect_err(|_| {
                    let _ = rustix::fs::unlinkat(&self.dir, &name, AtFlags::empty());
                });
        };
        let result = self.exchange(image, &name, &old);
        // Held until here, so that nobody could begin to use the old one.
        drop(old);
        result
    }

    /// The old image keeps a name until the new one is durable under its own.
    fn exchange(&self, image: &NewImage, name: &Path, old: &File) -> Result<()> {
        let staging = Staging::make(&self.dir, &self.to)?;
        beneath::link(&image.file, &staging.inner, WHOLE).doing("name", &self.to)?;
        let exchange = || {
            let flags = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(&staging.inner, WHOLE, &self.dir, name, flags)
        };
        exchange().doing("replace", &self.to)?;
        let is_old = || {
            let out = rustix::fs::statat(&staging.inner, WHOLE, AtFlags::SYMLINK_NOFOLLOW)?;
            let id = FileId {
                device: out.st_dev,
                inode: out.st_ino,
            };
            Ok::<_, std::io::Error>(id == FileId::of(old)?)
        };
        let done = is_old().and_then(|is_old| {
            if !is_old {
                return Err(std::io::Error::other(
                    "another file took its place meanwhile",
                ));
            }
            beneath::sync(&self.dir)?;
            beneath::sync(&staging.inner)
        });
        let Err(error) = done else { return Ok(()) };
        if exchange().is_ok() {
            return Err(Error::io("replace", &self.to, error));
        }
        // It is somebody's image, whatever has become of the other.
        let kept = self.to.with_file_name(staging.keep(name));
        Err(Error::refused(
            format!("cannot replace {}", self.to.display()),
            format!(
                "{error}, and it could not be taken back: what was there is {}",
                kept.display()
            ),
        ))
    }
}
