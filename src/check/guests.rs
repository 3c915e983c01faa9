//! Whether the filesystems of mounted volumes still work: one that could not write when the pool was full
//! has given up, until it is mounted anew.

use rustix::io::Errno;

use crate::check::scan::Scanned;
use crate::check::{Finding, Kind};
use crate::error::show_path;
use crate::guest::proof;
use crate::pool::Place;
use crate::sys::loopdev::Attached;
use crate::sys::mountinfo::MountEntry;
use crate::usage::Usage;

/// Tries each that is mounted writable, by writing back what its root directory is known by.
///
/// An XFS that has shut down and an ext4 that has aborted its journal answer with EIO, a btrfs that went
/// read-only with EROFS.  Nothing is written where nothing has changed.  Linux 6.1.176
/// answers for an ext4 as if nothing were wrong; it has noted the error all the same.
#[must_use]
pub fn try_all(scanned: &Scanned, usage: &Usage) -> Vec<Finding> {
    let volumes = scanned
        .images
        .iter()
        .filter(|(place, _)| !place.is_snapshot());
    let mut findings = Vec::new();
    for (place, found) in volumes {
        for device in usage
            .devices_of(found.id)
            .filter(|device| !device.read_only)
        {
            let mounts = usage.mounts_of(device);
            // The filesystem may have become read-only by itself: the mount itself has not.
            let was_writable = |entry: &&&MountEntry| entry.options.split(',').next() == Some("rw");
            let Some(entry) = mounts.iter().find(was_writable) else {
                continue;
            };
            if let Some(why) = try_one(entry, device).or_else(|| noted(entry, device)) {
                findings.push(finding(place, &why, &show_path(&entry.dir)));
            }
        }
    }
    findings
}

/// The error of a filesystem that has given up, in words.
fn try_one(entry: &MountEntry, device: &Attached) -> Option<String> {
    let errno = match proof::open(entry, device) {
        Ok(root) => rustix::fs::fsync(root).err()?,
        // An XFS that has shut down does not even open its root.
        Err(error) => Errno::from_raw_os_error(error.errno()?),
    };
    let words = nix::errno::Errno::from_raw(errno.raw_os_error()).desc();
    [Errno::IO, Errno::ROFS]
        .contains(&errno)
        .then(|| format!("has given up ({words})"))
}

/// What an ext4 has noted in its superblock, until an fsck (fs/ext4/sysfs.c, `errors_count`).
fn noted(entry: &MountEntry, device: &Attached) -> Option<String> {
    if entry.fstype != "ext4" {
        return None;
    }
    let path = format!("/sys/fs/ext4/loop{}/errors_count", device.number);
    let count: u64 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (count > 0).then(|| format!("has met errors, or has given up ({count} noted)"))
}

fn finding(place: &Place, why: &str, dir: &str) -> Finding {
    let name = place.target();
    Finding {
        kind: Kind::GuestFailed,
        what: place.to_string(),
        problem: format!(
            "its filesystem, mounted on {dir}, {why}, as after writes that the pool had no room for"
        ),
        hint: Some(format!(
            "make room in the pool; end what uses it ('fuser -vm {dir}'); 'lovol umount {name}'; 'lovol mount {name} {dir} -o fsck'"
        )),
    }
}
