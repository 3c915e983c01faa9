//! What is mounted already, without its lock: a snapshot that takes its time holds that, and is no
//! reason to wait.

use std::path::Path;

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::mounting::Options;
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::sys::loopdev::FileId;
use crate::sys::mount;
use crate::sys::mountinfo::{self, MountEntry};
use crate::usage::Usage;

/// The mounts of an image, and of views of it.
pub(super) fn mounts_of(usage: &Usage, id: FileId, uuid: Uuid) -> Vec<&MountEntry> {
    let reference = uuid.to_string();
    let devices = usage.devices.iter();
    let own = devices.filter(|device| device.shows(id, Some(&reference)));
    own.flat_map(|device| usage.mounts_of(device)).collect()
}

/// An image that is what is seen at a directory.
#[derive(Debug)]
pub struct Mounted {
    entry: MountEntry,
    is_snapshot: bool,
}

impl Mounted {
    /// Looks; `None` where it is not mounted there, or something else is over it.
    pub fn find(pool: &Pool, place: &Place, dir: &Path) -> Result<Option<Self>> {
        let uuid = place.record_in(&pool.index()?)?.uuid;
        let usage = Usage::look()?;
        let own = mounts_of(&usage, pool.image_id(place)?, uuid);
        let here = mountinfo::at(&usage.mounts, dir);
        let is_own = |here: &&MountEntry| own.iter().any(|mount| mount.id == here.id);
        Ok(here.filter(is_own).map(|entry| Self {
            entry: entry.clone(),
            is_snapshot: place.is_snapshot(),
        }))
    }

    /// Gives it other options.
    pub fn remount(&self, options: &Options, observer: &dyn Observer) -> Result<()> {
        let mut options = options.guest.clone();
        if self.is_snapshot {
            // Its throw-away clone may lie on a device that could be written to.
            options.add("ro");
        }
        let MountEntry { dir, fstype, .. } = &self.entry;
        observer.begin(&Step::Remount {
            dir: dir.clone(),
            read_only: options.is_read_only(),
        });
        mount::remount(dir, fstype, &options)
    }

    /// What to say where it is not.
    pub fn missing(place: &Place, dir: &Path) -> Error {
        Error::refused(
            format!("cannot remount {}", dir.display()),
            format!("{place} is not mounted there"),
        )
    }
}
