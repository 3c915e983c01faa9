//! ext4 as a guest.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::guest::{Fs, replay};
use crate::size::{MIB, Size};
use crate::sys::ioctl;
use crate::sys::tool::Tool;

pub(super) const MKFS: Tool = Tool {
    program: "mkfs.ext4",
    package: "e2fsprogs",
};
const CHECK: Tool = Tool {
    program: "e2fsck",
    package: "e2fsprogs",
};
const RESIZE: Tool = Tool {
    program: "resize2fs",
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

/// Resize2fs wants its log empty and a check after the last mount.
pub fn make_ready(device: &Path) -> Result<()> {
    replay(device, &Fs::Ext4)?;
    check(device)
}

/// Makes it larger or smaller, on a device where it is not mounted, and has been made ready.
pub fn resize(device: &Path, bytes: u64) -> Result<()> {
    // resize2fs(8): K means KiB.
    let size = format!("{}K", bytes / 1024);
    RESIZE
        .run_undisturbed(&[&*device.to_string_lossy(), &size], &[0])
        .map(drop)
}

/// Makes it larger where it is mounted, and `root` is its root directory.
pub(super) fn grow(root: &OwnedFd, device: &Path, bytes: u64) -> Result<()> {
    let grown = Superblock::read(device)
        .and_then(|superblock| ioctl::ext4_grow(root, bytes, superblock.block));
    grown.map_err(|error| match error.raw_os_error() {
        // fs/ext4/resize.c, `ext4_resize_begin`: of root, too, a container may have taken it.
        Some(libc::EPERM) => Error::refused(
            format!("cannot grow the mounted ext4 on {}", device.display()),
            "the kernel asks for CAP_SYS_RESOURCE, which this root has not",
        )
        .with_hint("unmount it first: then it grows without"),
        _ => Error::io("grow the filesystem on", device, error),
    })
}

/// How large it is, in bytes, by its device.
pub fn size(device: &Path) -> Result<u64> {
    let superblock = Superblock::read(device).doing("ask for the size of", device)?;
    Ok(superblock.bytes())
}

/// Whether resize2fs, which failed, has changed nothing of one that was ready and had so many bytes.
///
/// It writes the new size last.  Before it moves anything it sets the bit for errors, and clears it at its
/// end (e2fsprogs, resize/resize2fs.c, `resize_fs`).
pub fn is_untouched(device: &Path, bytes: u64) -> Result<bool> {
    let superblock = Superblock::read(device).doing("ask for the state of", device)?;
    Ok(superblock.bytes() == bytes && !superblock.has_errors)
}

/// What its superblock says of its size and state (Documentation/filesystems/ext4/super.rst).
struct Superblock {
    /// The size of a block in bytes.
    block: u64,
    blocks: u64,
    /// It is to be checked before it is used.
    has_errors: bool,
}

impl Superblock {
    /// Reads it through the device, where a mounted filesystem's is the kernel's own copy.
    fn read(device: &Path) -> io::Result<Self> {
        const START: u64 = 1024;
        let device = File::open(device)?;
        let word = |at| -> io::Result<u32> {
            let mut bytes = [0; 4];
            device.read_exact_at(&mut bytes, START + at)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let has_high_half = word(0x60)? & 0x80 != 0;
        let high = if has_high_half { word(0x150)? } else { 0 };
        Ok(Self {
            block: 1024 << (word(0x18)? & 0xF),
            blocks: u64::from(high) << 32 | u64::from(word(0x4)?),
            // The upper half is s_state, at 0x3A; 2: errors.
            has_errors: word(0x38)? >> 16 & 2 != 0,
        })
    }

    /// The filesystem's size.
    fn bytes(&self) -> u64 {
        self.blocks * self.block
    }
}
