//! How large a mounted filesystem is, and making it larger; and giving back what it does not use.

use std::io;
use std::os::fd::AsFd;

use linux_raw_sys::{btrfs, ioctl};

use super::{btrfs_device_info, btrfs_fs_info, ioctl_ptr};

/// `XFS_IOC_FSGEOMETRY_V1` of xfs_fs.h: `_IOR('X', 100, struct xfs_fsop_geom_v1)`.
const XFS_IOC_FSGEOMETRY: u32 = 0x8070_5864;
/// `_IOW('X', 110, struct xfs_growfs_data)`.
const XFS_IOC_FSGROWFSDATA: u32 = 0x4010_586E;

/// struct xfs_fsop_geom_v1.
#[derive(Default)]
#[repr(C)]
struct XfsGeometry {
    blocksize: u32,
    rtextsize: u32,
    agblocks: u32,
    agcount: u32,
    logblocks: u32,
    sectsize: u32,
    inodesize: u32,
    imaxpct: u32,
    datablocks: u64,
    rtblocks: u64,
    rtextents: u64,
    logstart: u64,
    uuid: [u8; 16],
    rest: [u32; 7],
}

/// struct xfs_growfs_data.
#[repr(C)]
struct XfsGrowth {
    newblocks: u64,
    imaxpct: u32,
}

fn xfs_geometry(root: impl AsFd) -> io::Result<XfsGeometry> {
    let mut geometry = XfsGeometry::default();
    ioctl_ptr(root, XFS_IOC_FSGEOMETRY, &raw mut geometry)?;
    Ok(geometry)
}

/// The size of a mounted XFS, in bytes.
pub fn xfs_size(root: impl AsFd) -> io::Result<u64> {
    let XfsGeometry {
        blocksize,
        datablocks,
        ..
    } = xfs_geometry(root)?;
    Ok(datablocks * u64::from(blocksize))
}

/// Makes a mounted XFS as large as `bytes`, or somewhat less where its last part would be too small;
/// nothing where it is.
pub fn xfs_grow(root: impl AsFd, bytes: u64) -> io::Result<()> {
    let geometry = xfs_geometry(&root)?;
    let newblocks = bytes / u64::from(geometry.blocksize);
    if newblocks <= geometry.datablocks {
        return Ok(());
    }
    let mut growth = XfsGrowth {
        newblocks,
        imaxpct: geometry.imaxpct,
    };
    ioctl_ptr(root, XFS_IOC_FSGROWFSDATA, &raw mut growth).map(drop)
}

/// Makes a mounted ext4 of blocks of `block` bytes as large as `bytes` (`EXT4_IOC_RESIZE_FS`,
/// fs/ext4/resize.c); nothing where it is.
pub fn ext4_grow(root: impl AsFd, bytes: u64, block: u64) -> io::Result<()> {
    let mut blocks = bytes / block;
    ioctl_ptr(root, ioctl::EXT4_IOC_RESIZE_FS, &raw mut blocks).map(drop)
}

/// The number and the size in bytes of a mounted btrfs's only device.
pub fn btrfs_size(root: impl AsFd) -> io::Result<(u64, u64)> {
    let last = btrfs_fs_info(&root)?.max_id;
    let mut found = (1..=last).filter_map(|id| btrfs_device_info(&root, id).ok());
    let info = found
        .next()
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    Ok((info.devid, info.total_bytes))
}

/// Makes a mounted btrfs larger or smaller (`BTRFS_IOC_RESIZE`).
pub fn btrfs_resize(root: impl AsFd, bytes: u64) -> io::Result<()> {
    let (id, _) = btrfs_size(&root)?;
    let mut arguments = btrfs::btrfs_ioctl_vol_args {
        fd: 0,
        name: [0; 4088],
    };
    let words = format!("{id}:{bytes}");
    for (to, from) in arguments.name.iter_mut().zip(words.bytes()) {
        *to = std::ffi::c_char::from_ne_bytes([from]);
    }
    ioctl_ptr(root, ioctl::BTRFS_IOC_RESIZE, &raw mut arguments).map(drop)
}

/// struct fstrim_range.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    least: u64,
}

/// Gives everything back that the mounted filesystem does not use (`FITRIM`); returns how many bytes
/// it says that is.
pub fn trim(root: impl AsFd) -> io::Result<u64> {
    let mut range = TrimRange {
        start: 0,
        length: u64::MAX,
        least: 0,
    };
    ioctl_ptr(root, ioctl::FITRIM, &raw mut range)?;
    Ok(range.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_that_the_numbers_say() {
        let size_in = |request: u32| usize::try_from(request >> 16 & 0x3FFF).expect("small");
        assert_eq!(size_of::<XfsGeometry>(), size_in(XFS_IOC_FSGEOMETRY));
        assert_eq!(size_of::<XfsGrowth>(), size_in(XFS_IOC_FSGROWFSDATA));
        assert_eq!(size_of::<TrimRange>(), size_in(ioctl::FITRIM));
        let arguments = size_of::<btrfs::btrfs_ioctl_vol_args>();
        assert_eq!(arguments, size_in(ioctl::BTRFS_IOC_RESIZE));
    }
}
