//! Where a file's blocks lie: `FS_IOC_FIEMAP` (Documentation/filesystems/fiemap.rst).

use std::io;
use std::os::fd::AsFd;

use linux_raw_sys::ioctl;

use super::ioctl_ptr;

/// An extent, as the kernel tells it (struct fiemap_extent of uapi/linux/fiemap.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Extent {
    /// Where it is in the file, in bytes.
    pub logical: u64,
    /// Where it is on the device, in bytes.
    pub physical: u64,
    /// Its length in bytes.
    pub length: u64,
    reserved: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
    more_reserved: [u32; 3],
}

impl Extent {
    const LAST: u32 = 0x1;
    const UNWRITTEN: u32 = 0x800;
    const SHARED: u32 = 0x2000;
    /// UNKNOWN, DELALLOC, DATA_INLINE: its physical place means nothing.
    const NOWHERE: u32 = 0x2 | 0x4 | 0x200;

    /// Whether it is the last one of its file.
    pub fn is_last(&self) -> bool {
        self.flags & Self::LAST != 0
    }

    /// Whether another file has it as well.
    pub fn is_shared(&self) -> bool {
        self.flags & Self::SHARED != 0
    }

    /// Whether it lies somewhere by now.
    pub fn has_place(&self) -> bool {
        self.flags & Self::NOWHERE == 0
    }

    /// Whether it is allocated and reads as zeros.  A clone has a hole there, so it counts as one.
    pub fn is_unwritten(&self) -> bool {
        self.flags & Self::UNWRITTEN != 0
    }
}

/// What one call can tell.
const ROOM: usize = 1024;

/// struct fiemap.
#[repr(C)]
struct Fiemap<const N: usize> {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    extents: [Extent; N],
}

impl<const N: usize> Fiemap<N> {
    /// Asks for all that is within so many bytes from `start` on, once dirty pages are written back.
    fn ask(file: impl AsFd, start: u64, length: u64) -> io::Result<Box<Self>> {
        let mut map = Box::new(Self {
            start,
            length,
            flags: ioctl::FIEMAP_FLAG_SYNC,
            mapped_extents: 0,
            extent_count: u32::try_from(N).unwrap_or(u32::MAX),
            reserved: 0,
            extents: [Extent::default(); N],
        });
        ioctl_ptr(file, ioctl::FS_IOC_FIEMAP, &raw mut *map)?;
        Ok(map)
    }
}

/// Some of the extents of `file` at or after `start` (bytes), in their order; none at the end.
pub fn fiemap(file: impl AsFd, start: u64) -> io::Result<Vec<Extent>> {
    some::<ROOM>(file, start, u64::MAX - start)
}

/// The same, fewer at a time: for who reads many files at once.
pub fn fiemap_few(file: impl AsFd, start: u64) -> io::Result<Vec<Extent>> {
    some::<128>(file, start, u64::MAX - start)
}

/// The same within so many bytes.
pub fn fiemap_within(file: impl AsFd, start: u64, length: u64) -> io::Result<Vec<Extent>> {
    some::<16>(file, start, length)
}

fn some<const N: usize>(file: impl AsFd, start: u64, length: u64) -> io::Result<Vec<Extent>> {
    let map = Fiemap::<N>::ask(file, start, length)?;
    let count = usize::try_from(map.mapped_extents).unwrap_or(N);
    Ok(map.extents.iter().copied().take(count).collect())
}

/// How many extents `file` has: with room for none the kernel only counts.
pub fn count_by_fiemap(file: impl AsFd) -> io::Result<u64> {
    Ok(u64::from(
        Fiemap::<0>::ask(file, 0, u64::MAX)?.mapped_extents,
    ))
}
