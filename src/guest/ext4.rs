//! ext4 as a guest.

use std::path::Path;

use crate::error::Result;
use crate::guest::{Fs, replay};
use crate::size::{MIB, Size};
use crate::sys::tool::Tool;

pub(super) const MKFS: Tool = Tool {
    program: "mkfs.ext4",
    package: "e2fsprogs",
};
const CHECK: Tool = Tool {
    program: "e2fsck",
    package: "e2fsprogs",
};
const TUNE: Tool = Tool {
    program: "tune2fs",
    package: "e2fsprogs",
};

/// Below this mkfs.ext4 leaves the journal out (mke2fs(8)), and the guest could not be frozen
/// consistently.
pub(super) const LEAST_SIZE: Size = Size(16 * MIB);

/// Blocks of 4096 bytes, no discard of what is a hole anyway.
pub(super) const MKFS_OPTIONS: &[&str] = &["-q", "-F", "-b", "4096", "-E", "nodiscard"];

/// Without `-f` it believes the superblock's word that all is clean.  1: errors were corrected
/// (e2fsck(8)).
pub(super) fn check(device: &Path) -> Result<()> {
    CHECK
        .run(&["-f", "-p", &device.to_string_lossy()], &[0, 1])
        .map(drop)
}

/// tune2fs(8) changes the UUID of a freshly checked filesystem only.
pub(super) fn renew_uuid(device: &Path) -> Result<()> {
    replay(device, &Fs::Ext4)?;
    let device = device.to_string_lossy();
    // 1: errors were corrected (e2fsck(8)).
    CHECK.run(&["-f", "-p", &device], &[0, 1])?;
    TUNE.run(&["-U", "random", &device], &[0]).map(drop)
}
