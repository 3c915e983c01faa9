//! A pool: a directory on a filesystem with reflinks, with volumes, snapshots and their index.
//!
//! ```text
//! POOL/                       0755, root's; xattr user.lovol: the pool's UUID and settings
//!   lock                      0600, the only pool lock
//!   index.json                0644
//!   ballast                   given up when the filesystem is full
//!   shares                    what is known of the snapshots' extents; losing it only takes time
//!   volumes/NAME.img          0700 directory, 0600 image
//!   snapshots/NAME/SNAP.img   0700 directories, 0400 image
//!   trash/ID/                 0700; volume.img and snapshots/, as they were
//! ```
//! [`Pool`] reads; [`Edit`], which holds the pool's lock, writes.

pub mod abilities;
pub mod ballast;
pub mod change;
pub mod clock;
pub mod edit;
pub mod init;
pub mod lock;
pub mod on_image;
pub mod place;
pub mod safety;
pub mod settings;
mod unfinished;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Context, Error, Result};
use crate::index::{Index, Unreadable};
use crate::sys::loopdev::FileId;
use crate::sys::{beneath, tryout};

pub use edit::Edit;
pub use place::Place;

/// Where the pool is if nobody says otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/lovol";

/// The index's file name.
pub const INDEX: &str = "index.json";

/// The pool's own settings, in the xattr of its directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// The version of the pool's form.
    pub version: u32,
    /// The pool's UUID.
    pub uuid: Uuid,
    /// What was set.
    #[serde(
        default,
        rename = "settings",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub values: BTreeMap<String, String>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// An open pool.
#[derive(Debug)]
pub struct Pool {
    path: PathBuf,
    dir: OwnedFd,
    id: FileId,
    settings: Settings,
    is_known_writable: Cell<bool>,
    /// How long to wait for a lock.
    pub wait: Duration,
}

impl Pool {
    /// Opens the pool at `path`.
    ///
    /// # Errors
    /// [`Error::NoPool`], [`Error::PoolNotMounted`], [`Error::UnsafePool`].
    pub fn open(path: &Path, wait: Duration) -> Result<Self> {
        let path = match path.canonicalize() {
            Ok(path) => path,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoPool {
                    dir: path.to_owned(),
                });
            }
            Err(error) => return Err(Error::io("open the pool", path, error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).doing("open the pool", &path)?;
        init::must_be_mounted(&path, &dir)?;
        let settings = Self::read_settings(&path, &dir)?;
        safety::check(&path, &dir)?;
        let stat = rustix::fs::fstat(&dir).doing("look at", &path)?;
        let id = FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        Ok(Self {
            path,
            dir,
            id,
            settings,
            is_known_writable: Cell::new(false),
            wait,
        })
    }

    fn read_settings(path: &Path, dir: &OwnedFd) -> Result<Settings> {
        let Some(bytes) = crate::record::read_xattr(dir).doing("read the settings of", path)?
        else {
            return Err(Error::NoPool {
                dir: path.to_owned(),
            });
        };
        let settings: Settings = serde_json::from_slice(&bytes)
            .map_err(std::io::Error::from)
            .doing("read the settings of", path)?;
        if settings.version > crate::index::VERSION {
            return Err(Error::refused(
                format!("cannot use the pool {}", path.display()),
                format!("its version is {}, newer than this lovol", settings.version),
            ));
        }
        Ok(settings)
    }

    /// Finishes what a killed lovol has begun, if it has left something.
    pub fn settle(&self) -> Result<()> {
        if self.index()?.intents.is_empty() {
            Ok(())
        } else {
            Edit::begin(self).map(drop)
        }
    }

    /// Makes sure, once, that writing to the pool does not hang: somebody (a backup agent) may have
    /// frozen its filesystem.
    ///
    /// # Errors
    /// [`Error::Locked`] when it does not come to life in time.
    pub fn must_not_be_frozen(&self) -> Result<()> {
        if self.is_known_writable.get() {
            return Ok(());
        }
        // A busy filesystem may take its time, however short a wait was asked for.
        let limit = self.wait.max(Duration::from_secs(5));
        if !tryout::comes_back(&self.dir, limit).doing("try", &self.path)? {
            return Err(Error::Locked {
                what: format!("the filesystem of the pool {}", self.path.display()),
                holder: Some("another program that froze it, or it is very busy".into()),
                waited: limit,
            });
        }
        self.is_known_writable.set(true);
        Ok(())
    }

    /// Its directory, absolute and without symlinks.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, open.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Its UUID.
    pub fn uuid(&self) -> Uuid {
        self.settings.uuid
    }

    /// `st_dev` of everything in it.
    pub fn device(&self) -> u64 {
        self.id.device
    }

    /// Which directory it is.  Its UUID does not tell: a copy of a pool has it, too.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The index as it is now, without a lock: it is only ever replaced as a whole.
    pub fn index(&self) -> Result<Index> {
        let path = self.path.join(INDEX);
        let mut text = Vec::new();
        let read = beneath::open(&self.dir, INDEX, OFlags::RDONLY)
            .and_then(|fd| File::from(fd).read_to_end(&mut text));
        let unusable = |why| Error::Index {
            path: path.clone(),
            why,
        };
        if let Err(error) = read {
            return match error.kind() {
                std::io::ErrorKind::NotFound => Err(unusable(Unreadable::Missing)),
                _ => Err(Error::io("read", path, error)),
            };
        }
        let index = Index::parse(&text).map_err(unusable)?;
        if index.pool != self.uuid() {
            return Err(unusable(Unreadable::OfAnother));
        }
        Ok(index)
    }

    /// Opens an image, which must be a regular file of root's with one name.
    pub fn open_image(&self, place: &Place, flags: OFlags) -> Result<File> {
        let path = place.path();
        beneath::open_ours(&self.dir, &path, self.id.device, flags)
            .doing("open", self.path.join(&path))
            .map_err(|error| self.or_gone(place, error))
    }

    /// The same, where another lovol may be about to move the image: waits until that is done.
    /// The pool's lock must not be held.
    pub fn open_settled_image(&self, place: &Place, flags: OFlags) -> Result<File> {
        match self.open_image(place, flags) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                drop(lock::Lock::of_pool(self)?);
                self.open_image(place, flags)
            }
            result => result,
        }
    }

    /// Another lovol may have taken the image away since its name was looked up: then that it has
    /// no such name any more is what went wrong.
    fn or_gone(&self, place: &Place, error: Error) -> Error {
        let is_in_trash = matches!(place, Place::TrashedVolume(_) | Place::TrashedSnapshot(..));
        if error.errno() != Some(libc::ENOENT) || is_in_trash {
            return error;
        }
        let now = self.index();
        now.and_then(|index| place.record_in(&index).map(drop))
            .err()
            .unwrap_or(error)
    }

    /// The identity of an image, without opening it.
    pub fn image_id(&self, place: &Place) -> Result<FileId> {
        self.look_at(place).map(|metadata| FileId::from(&metadata))
    }

    /// What `stat(2)` says of an image, without opening it.
    pub fn look_at(&self, place: &Place) -> Result<std::fs::Metadata> {
        let path = place.path();
        let shown = self.path.join(&path);
        let file = beneath::open(&self.dir, &path, OFlags::PATH | OFlags::NOFOLLOW)
            .doing("look at", &shown)?;
        File::from(file).metadata().doing("look at", &shown)
    }

    /// The full path of something in the pool, for messages and plans.
    pub fn full_path(&self, place: &Place) -> PathBuf {
        self.path.join(place.path())
    }

    /// The place of the image with this identity, if it is one of the pool's.
    #[must_use]
    pub fn find_image(&self, index: &Index, id: FileId) -> Option<Place> {
        if id.device != self.id.device {
            return None;
        }
        let volumes = index.volumes.iter().flat_map(|(name, volume)| {
            let snapshots = volume
                .snapshots
                .keys()
                .map(|snapshot| Place::snapshot(name, snapshot));
            std::iter::once(Place::volume(name)).chain(snapshots)
        });
        volumes
            .into_iter()
            .find(|place| self.image_id(place).is_ok_and(|found| found == id))
    }
}
