//! btrfs as a guest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::guest::{Fs, replay};
use crate::record::Consistency;
use crate::size::{MIB, Size};
use crate::sys::kernel;
use crate::sys::tool::Tool;

pub(super) const MKFS: Tool = Tool {
    program: "mkfs.btrfs",
    package: "btrfs-progs",
};
const BTRFS: Tool = Tool {
    program: "btrfs",
    package: "btrfs-progs",
};
const TUNE: Tool = Tool {
    program: "btrfstune",
    package: "btrfs-progs",
};

/// mkfs.btrfs asks for 109 MiB with metadata stored twice.
pub(super) const LEAST_SIZE: Size = Size(109 * MIB);

/// Sectors of 4096 bytes, no discard of what is a hole anyway.
pub(super) const MKFS_OPTIONS: &[&str] = &["-q", "-K", "--sectorsize", "4096"];

/// Reads all trees (btrfs-check(8)); the log is replayed by whoever mounts it next.
pub(super) fn check(device: &Path) -> Result<()> {
    let device = device.to_string_lossy();
    BTRFS.run(&["check", "--readonly", &device], &[0]).map(drop)
}

/// Whether a btrfs can be mounted beside another of the same UUID: Linux 6.7 gives the second one
/// a temporary UUID (commit a5b8a5f9f835).  Before, the kernel may take one for the other.
pub fn kernel_tells_twins_apart() -> bool {
    kernel::is_at_least(6, 7)
}

/// Whether its log is empty, by its superblock alone: for kernels on which a mount could tell, but
/// could also disturb a mounted twin.
pub(super) fn has_empty_log(device: &Path) -> io::Result<bool> {
    /// `struct btrfs_super_block`: where the first one lies, and where it has these.
    const SUPERBLOCK: u64 = 64 << 10;
    const MAGIC: u64 = SUPERBLOCK + 0x40;
    const LOG_ROOT: u64 = SUPERBLOCK + 0x60;

    let device = File::open(device)?;
    let bytes = |place| {
        let mut bytes = [0; 8];
        device.read_exact_at(&mut bytes, place).map(|()| bytes)
    };
    Ok(bytes(MAGIC)? == *b"_BHRfS_M" && bytes(LOG_ROOT)? == [0; 8])
}

/// A new `fsid` in the superblock, the old one kept as `metadata_uuid` (`btrfstune -m`): quick, as
/// no tree is rewritten.
pub(super) fn renew_uuid(device: &Path, consistency: Consistency) -> Result<()> {
    // Frozen or clean, there is no log tree, and mounting could disturb a mounted twin.
    if consistency == Consistency::Crash {
        if !kernel_tells_twins_apart() {
            return Err(Error::refused(
                "cannot give this btrfs a new UUID",
                "its log must be replayed first, which before Linux 6.7 is not safe beside its origin",
            )
            .with_hint("snapshot the volume while it is mounted, and clone that snapshot"));
        }
        replay(device, &Fs::Btrfs)?;
    }
    let device = device.to_string_lossy();
    TUNE.run(&["-f", "-m", &device], &[0]).map(drop)
}
