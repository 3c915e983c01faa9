//! Proof that a descriptor is on the guest and on nothing else.
//!
//! FIFREEZE freezes whatever filesystem the descriptor is on.  Between looking up a mount point
//! and opening it, the guest may have been unmounted; the same path would then freeze the pool or
//! the root filesystem, for ever.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::sys::ioctl;
use crate::sys::loopdev::{self, Attached};
use crate::sys::mountinfo::MountEntry;
use crate::usage::is_loop_node;

/// Opens the root of a mount of the device's filesystem and proves that it is that.
pub fn open(entry: &MountEntry, device: &Attached) -> Result<OwnedFd> {
    // O_NOATIME, so that even a strictatime guest is not written to.
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let root = rustix::fs::open(&entry.dir, flags, Mode::empty()).doing("open", &entry.dir)?;
    prove(&root, entry, device)?;
    Ok(root)
}

fn prove(root: &OwnedFd, entry: &MountEntry, device: &Attached) -> Result<()> {
    let is_proven = if entry.fstype.as_str() == "btrfs" {
        is_btrfs_on(root, device.number)?
    } else {
        let stat = rustix::fs::fstat(root).doing("look at", &entry.dir)?;
        let expected = loopdev::device_number(device.number);
        stat.st_dev == expected && stat.st_dev != device.file.device
    };
    let is_still_bound =
        || matches!(loopdev::status(device.number), Ok(Some(now)) if now.file == device.file);
    if is_proven && is_still_bound() {
        return Ok(());
    }
    Err(Error::refused(
        format!("cannot use {}", entry.dir.display()),
        format!(
            "it is no longer the filesystem on {}",
            device.path().display()
        ),
    )
    .with_hint("it was mounted or unmounted meanwhile: try again"))
}

/// btrfs knows its devices by ID; a guest has exactly one, and it must be ours.
fn is_btrfs_on(root: &OwnedFd, number: u32) -> Result<bool> {
    let info = match ioctl::btrfs_fs_info(root.as_fd()) {
        Ok(info) => info,
        // Something else is mounted there by now.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => return Ok(false),
        Err(error) => return Err(Error::io("ask", "the btrfs", error)),
    };
    if info.num_devices != 1 {
        return Err(Error::refused(
            "cannot use this btrfs",
            format!(
                "it has {} devices, of which only one is in the image",
                info.num_devices
            ),
        ));
    }
    let path =
        (1..=info.max_id).find_map(|devid| ioctl::btrfs_device_path(root.as_fd(), devid).ok());
    Ok(
        path.is_some_and(|path| {
            is_loop_node(Path::new(std::ffi::OsStr::from_bytes(&path)), number)
        }),
    )
}
