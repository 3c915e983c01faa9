//! What uses an image now: loop devices and mounts, asked of the kernel each time.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::error::{Error, Result};
use crate::sys::loopdev::{self, Attached, FileId};
use crate::sys::mountinfo::{self, MountEntry};

/// The kernel's state at one moment.
#[derive(Debug, Default)]
pub struct Usage {
    /// All bound loop devices.
    pub devices: Vec<Attached>,
    /// The mount table as this process sees it.
    pub mounts: Vec<MountEntry>,
}

impl Usage {
    /// Looks.  Needs root.
    pub fn look() -> Result<Self> {
        Ok(Self {
            devices: loopdev::all_attached()?,
            mounts: mountinfo::read()?,
        })
    }

    /// The devices that are bound to this file.
    pub fn devices_of(&self, file: FileId) -> impl Iterator<Item = &Attached> {
        self.devices
            .iter()
            .filter(move |device| device.file == file)
    }

    /// The mounts of a device's filesystem.
    #[must_use]
    pub fn mounts_of(&self, device: &Attached) -> Vec<&MountEntry> {
        self.mounts
            .iter()
            .filter(|entry| is_mount_of(entry, device.number))
            .collect()
    }

    /// Where a snapshot is viewed or an image is used: `mounted on /home (/dev/loop3)`.
    ///
    /// `reference` finds views, whose device is bound to an unlinked throw-away clone.
    pub fn of_image(&self, file: FileId, reference: Option<&str>) -> Vec<String> {
        let devices = self.devices.iter();
        let devices = devices.filter(|device| device.shows(file, reference));
        devices.flat_map(|device| self.of_device(device)).collect()
    }

    fn of_device(&self, device: &Attached) -> Vec<String> {
        let path = device.path();
        let mounts = self.mounts_of(device);
        if mounts.is_empty() {
            return vec![format!("attached to {}", path.display())];
        }
        let shown = |entry: &&MountEntry| {
            format!("mounted on {} ({})", entry.dir.display(), path.display())
        };
        mounts.iter().map(shown).collect()
    }

    /// Fails when a device is bound to the image.
    pub fn must_not_use(&self, what: &str, file: FileId, reference: Option<&str>) -> Result<()> {
        let by = self.of_image(file, reference);
        if by.is_empty() {
            return Ok(());
        }
        let hint = if by.iter().any(|use_| use_.starts_with("mounted")) {
            "umount"
        } else {
            "detach"
        };
        Err(Error::InUse {
            what: what.to_owned(),
            by,
            hint: Some(format!("'lovol {hint}' it first")),
        })
    }
}

/// Whether a mount's filesystem is on loop device `number`.
///
/// A btrfs has an anonymous device number, so its source is looked at.
fn is_mount_of(entry: &MountEntry, number: u32) -> bool {
    if entry.device == (loopdev::MAJOR, loopdev::minor(number)) {
        return true;
    }
    entry.fstype == "btrfs" && is_loop_node(&entry.source, number)
}

/// Whether a path is the device node of loop device `number`.
#[must_use]
pub fn is_loop_node(path: &std::path::Path, number: u32) -> bool {
    let rdev = loopdev::device_number(number);
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.file_type().is_block_device() && metadata.rdev() == rdev)
}
