//! Making an image: without a name until it is whole and durable.
//!
//! `O_TMPFILE`, filled, fsynced, its record set, linked to its name (which never replaces), the
//! directory fsynced; the index comes last.  A kill anywhere leaves nothing to sweep, or a whole
//! image that the index does not name.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::fragments;
use crate::pool::{Place, Pool};
use crate::record::Record;
use crate::sys::loopdev::{LoopDevice, Options};
use crate::sys::{beneath, ioctl};

/// The mode of a volume's image.
pub const VOLUME_MODE: u32 = 0o600;
/// The mode of a snapshot's image, which nobody is to write to.
pub const SNAPSHOT_MODE: u32 = 0o400;

/// An image that has no name yet.
#[derive(Debug)]
pub struct NewImage {
    /// Its file, open for reading and writing.
    pub file: File,
    shown: PathBuf,
}

impl NewImage {
    /// Makes an empty one on the pool's filesystem, to be named `place` later.
    pub fn for_place(pool: &Pool, place: &Place) -> Result<Self> {
        pool.must_not_be_frozen()?;
        let shown = pool.full_path(place);
        let parent = if place.is_snapshot() {
            "snapshots"
        } else {
            "volumes"
        };
        let dir = beneath::open_dir(pool.dir(), parent).doing("open", pool.path().join(parent))?;
        let image = Self::in_dir(&dir, shown)?;
        if !place.is_snapshot() {
            // Where the filesystem takes no such hint, it allocates as it likes.
            drop(ioctl::set_extent_size_hint(
                &image.file,
                fragments::SIZE_HINT,
            ));
        }
        Ok(image)
    }

    /// Makes an empty one in an open directory; `shown` is what messages call it.
    pub fn in_dir(dir: impl AsFd, shown: PathBuf) -> Result<Self> {
        let file = beneath::unnamed(dir).doing("make", &shown)?;
        Ok(Self { file, shown })
    }

    /// Gives it its size; the new part is a hole.
    pub fn set_size(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).doing("size", &self.shown)
    }

    /// What it takes, in bytes.
    pub fn allocated(&self) -> Result<u64> {
        let metadata = self.file.metadata().doing("look at", &self.shown)?;
        Ok(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512)
    }

    /// Binds it to a loop device for as long as the result lives.
    pub fn attach(&self, read_only: bool, sector: Option<u32>) -> Result<LoopDevice> {
        attach_for_us(&self.file, read_only, sector)
    }

    /// Writes its record, makes it durable, and names it.
    ///
    /// The pool's lock must be held.  Until [`Named::keep`] it is taken back when dropped.
    pub fn publish(self, pool: &Pool, place: &Place, record: &Record) -> Result<Named> {
        let mode = if place.is_snapshot() {
            SNAPSHOT_MODE
        } else {
            VOLUME_MODE
        };
        self.publish_with(mode, pool, place, record)
    }

    /// The same with another mode than that of the place: it is to go on to another.
    pub fn publish_with(
        self,
        mode: u32,
        pool: &Pool,
        place: &Place,
        record: &Record,
    ) -> Result<Named> {
        let shown = &self.shown;
        record
            .write(&self.file)
            .doing("write the record of", shown)?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
            .doing("set the mode of", shown)?;
        rustix::fs::fsync(&self.file).doing("write back", shown)?;
        let path = place.path();
        let parent = path.parent().unwrap_or(Path::new("."));
        let made_dir = if place.is_snapshot() {
            MadeDir::make(pool, parent)?
        } else {
            None
        };
        let dir = beneath::open_dir(pool.dir(), parent).doing("open", pool.path().join(parent))?;
        let name = path.file_name().map(PathBuf::from).unwrap_or_default();
        beneath::link(&self.file, &dir, &name).map_err(|error| link_error(error, shown))?;
        let named = Named {
            dir,
            name,
            made_dir,
            is_kept: false,
        };
        beneath::sync(&named.dir).doing("write back the directory of", shown)?;
        Ok(named)
    }
}

/// Binds an image to a loop device for as long as the result lives.
///
/// The device gets a description of its own, as ours may hold a lock.
pub fn attach_for_us(file: &File, read_only: bool, sector: Option<u32>) -> Result<LoopDevice> {
    let flags = if read_only {
        OFlags::RDONLY
    } else {
        OFlags::RDWR
    };
    let backing = beneath::reopen(file, flags).doing("open", "the image")?;
    LoopDevice::attach(
        &backing,
        Options {
            read_only,
            autoclear: true,
            direct_io: true,
            sector,
            reference: "lovol",
        },
    )
}

fn link_error(error: std::io::Error, shown: &Path) -> Error {
    match error.raw_os_error() {
        Some(libc::EEXIST) => Error::Exists {
            what: shown.display().to_string(),
            hint: Some("the index does not name it: 'lovol check' says more".into()),
        },
        _ => Error::io("name", shown, error),
    }
}

/// An image that has its name, and loses it again when dropped without [`Named::keep`].
#[derive(Debug)]
pub struct Named {
    dir: OwnedFd,
    name: PathBuf,
    made_dir: Option<MadeDir>,
    is_kept: bool,
}

impl Named {
    /// Everything that names it is saved: it stays.
    pub fn keep(mut self) {
        self.is_kept = true;
        if let Some(dir) = &mut self.made_dir {
            dir.is_kept = true;
        }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be undone is an image that the index does not name, which check shows.
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}

/// A directory that we made, and remove again when dropped without being kept.
#[derive(Debug)]
struct MadeDir {
    dir: OwnedFd,
    path: PathBuf,
    is_kept: bool,
}

impl MadeDir {
    fn make(pool: &Pool, path: &Path) -> Result<Option<Self>> {
        match beneath::make_dir(pool.dir(), path) {
            Ok(()) => {
                let dir = pool.dir().try_clone().doing("open", pool.path())?;
                Ok(Some(Self {
                    dir,
                    path: path.to_owned(),
                    is_kept: false,
                }))
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(None),
            Err(error) => Err(Error::io("make", pool.path().join(path), error)),
        }
    }
}

impl Drop for MadeDir {
    fn drop(&mut self) {
        if !self.is_kept {
            // Not empty means that it is somebody's after all.
            drop(beneath::remove_dir(&self.dir, &self.path));
        }
    }
}
