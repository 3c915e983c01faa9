//! Whether the filesystems of mounted volumes still work: one that could not write when the pool was full
//! has given up, until it is mounted anew.

use std::io;

use nix::errno::Errno;

use crate::check::scan::Scanned;
use crate::check::{Finding, Kind};
use crate::error::show_path;
use crate::guest::{has_given_up, is_end, proof};
use crate::pool::Place;
use crate::sys::loopdev::Attached;
use crate::sys::mountinfo::MountEntry;
use crate::usage::Usage;

/// Tries each that is mounted writable.
///
/// Linux 6.1.176 answers for an ext4 as if nothing were wrong; it has noted the error all the same.
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
    let why = match proof::open(entry, device) {
        Ok(root) => has_given_up(root, &entry.fstype)?,
        // An XFS that has shut down does not even open its root.
        Err(error) => Some(io::Error::from_raw_os_error(error.errno()?)).filter(is_end)?,
    };
    let words = Errno::from_raw(why.raw_os_error()?).desc();
    Some(format!("has given up ({words})"))
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
