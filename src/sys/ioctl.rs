//! The only place with `unsafe`: ioctls, and the few calls beside them that no safe wrapper offers
//! (a lease, a fork, memory shared with a child or the kernel, perf events).
//!
//! Every function here is safe to call: it takes borrowed file descriptors and owned structures,
//! and turns the kernel's answer into an [`io::Result`].  What an errno *means* is for the callers.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use linux_raw_sys::loop_device::{loop_config, loop_info64};
use linux_raw_sys::{btrfs, ioctl, loop_device};
use nix::sys::signal::{SigHandler, Signal, signal};

mod fiemap;
mod memory;
mod perf;
mod size;

pub use fiemap::{Extent, count_by_fiemap, fiemap, fiemap_few, fiemap_within};
pub use linux_raw_sys::btrfs::btrfs_ioctl_fs_info_args;
pub use memory::{SharedPages, SharedWord};
pub use perf::{perf_enable, perf_open_tracepoint, perf_set_filter};
pub use size::{btrfs_resize, btrfs_size, ext4_grow, trim, xfs_grow, xfs_size};

/// Calls `ioctl(2)` with a pointer to `arg`, which must be the structure that `request` names.
fn ioctl_ptr<T>(fd: impl AsFd, request: u32, arg: *mut T) -> io::Result<c_int> {
    // SAFETY: every caller in this module passes what the request number names (a structure, whose
    // size is part of that number, or a string), alive for the whole call.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), c_ulong::from(request), arg) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Calls `ioctl(2)` with a plain number.
fn ioctl_int(fd: impl AsFd, request: u32, arg: c_ulong) -> io::Result<c_int> {
    // SAFETY: the callers' requests take a number, so the kernel follows no pointer of ours.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), c_ulong::from(request), arg) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Freezes the filesystem that `fd` is on (`FIFREEZE`, fs/ioctl.c).
///
/// `EBUSY`: somebody else has frozen it.  `EOPNOTSUPP`: this filesystem cannot be frozen.
/// Uninterruptible while the kernel waits for writers.
pub fn freeze(fd: impl AsFd) -> io::Result<()> {
    ioctl_int(fd, ioctl::FIFREEZE, 0).map(drop)
}

/// Thaws the filesystem that `fd` is on (`FITHAW`).  `EINVAL`: it was not frozen.
pub fn thaw(fd: impl AsFd) -> io::Result<()> {
    ioctl_int(fd, ioctl::FITHAW, 0).map(drop)
}

/// Makes `length` bytes of `destination` at `offset` share the blocks of `source` at the same
/// offset (`FICLONERANGE`, `ioctl_ficlonerange(2)`).
///
/// Never with a length of 0: that means "to the end", for which XFS of Linux 4.20 to 6.12 may
/// report success after cloning only a part.
pub fn clone_range(
    source: impl AsFd,
    destination: impl AsFd,
    offset: u64,
    length: u64,
) -> io::Result<()> {
    if length == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut range = btrfs::file_clone_range {
        src_fd: i64::from(source.as_fd().as_raw_fd()),
        src_offset: offset,
        src_length: length,
        dest_offset: offset,
    };
    ioctl_ptr(destination, ioctl::FICLONERANGE, &raw mut range).map(drop)
}

/// Binds a loop device to an open file in one step (`LOOP_CONFIGURE`, Linux 5.8).
pub fn loop_configure(device: impl AsFd, config: &mut loop_config) -> io::Result<()> {
    ioctl_ptr(device, loop_device::LOOP_CONFIGURE, &raw mut *config).map(drop)
}

/// What a loop device is bound to; `ENXIO` when it is not bound.
pub fn loop_status(device: impl AsFd) -> io::Result<loop_info64> {
    let mut info = empty_loop_info();
    ioctl_ptr(device, loop_device::LOOP_GET_STATUS64, &raw mut info)?;
    Ok(info)
}

/// Gives a loop device the size that its file has by now (`LOOP_SET_CAPACITY`).
pub fn loop_refresh(device: impl AsFd) -> io::Result<()> {
    ioctl_int(device, loop_device::LOOP_SET_CAPACITY, 0).map(drop)
}

/// A `loop_info64` of zeros.
pub fn empty_loop_info() -> loop_info64 {
    // SAFETY: the structure consists of integers and byte arrays; zero is a value of each.
    unsafe { std::mem::zeroed() }
}

/// A `loop_config` of zeros.
pub fn empty_loop_config() -> loop_config {
    // SAFETY: as above.
    unsafe { std::mem::zeroed() }
}

/// The number of extents of a file, where the filesystem keeps count: XFS does
/// (`FS_IOC_FSGETXATTR`, fsx_nextents).
pub fn counted_extents(file: impl AsFd) -> Option<u64> {
    let count = attributes(file).ok()?.fsx_nextents;
    (count > 0).then_some(count.into())
}

/// The number of extents of a file.
///
/// Where the filesystem does not keep count, `FIEMAP` counts, dirty pages written back first; it
/// looks every extent of a reflinked file up in the reference counts, which for 100,000 of them holds
/// up whoever writes for a third of a second.
pub fn extent_count(file: impl AsFd) -> io::Result<u64> {
    match counted_extents(&file) {
        Some(count) => Ok(count),
        None => count_by_fiemap(file),
    }
}

/// Asks the filesystem to allocate the file in pieces of so many bytes (`FS_IOC_FSSETXATTR`,
/// `ioctl_xfs_fsgetxattr(2)`).  Only XFS does, and only while nothing is allocated.
pub fn set_extent_size_hint(file: impl AsFd, bytes: u32) -> io::Result<()> {
    let mut attributes = attributes(&file)?;
    attributes.fsx_xflags |= btrfs::FS_XFLAG_EXTSIZE;
    attributes.fsx_extsize = bytes;
    ioctl_ptr(file, ioctl::FS_IOC_FSSETXATTR, &raw mut attributes).map(drop)
}

/// `FS_IOC_FSGETXATTR`, which every filesystem understands and XFS fills in.
fn attributes(file: impl AsFd) -> io::Result<btrfs::fsxattr> {
    // SAFETY: integers and byte arrays only.
    let mut attributes: btrfs::fsxattr = unsafe { std::mem::zeroed() };
    ioctl_ptr(file, ioctl::FS_IOC_FSGETXATTR, &raw mut attributes)?;
    Ok(attributes)
}

/// The inode flags of `chattr(1)`.
pub fn inode_flags(file: impl AsFd) -> io::Result<u32> {
    let mut flags: u32 = 0;
    ioctl_ptr(file, ioctl::FS_IOC_GETFLAGS, &raw mut flags)?;
    Ok(flags)
}

/// Sets the inode flags of `chattr(1)`.
pub fn set_inode_flags(file: impl AsFd, mut flags: u32) -> io::Result<()> {
    ioctl_ptr(file, ioctl::FS_IOC_SETFLAGS, &raw mut flags).map(drop)
}

/// `BTRFS_IOC_SYNC`: commits what a btrfs has not written yet; unlike syncfs(2), also asked of one that
/// has become read-only.  `EROFS`: it has given up (fs/btrfs/inode.c, `btrfs_start_delalloc_roots`).
pub fn btrfs_sync(fd: impl AsFd) -> io::Result<()> {
    ioctl_int(fd, ioctl::BTRFS_IOC_SYNC, 0).map(drop)
}

/// `BTRFS_IOC_FS_INFO`: how many devices a mounted btrfs has.
pub fn btrfs_fs_info(fd: impl AsFd) -> io::Result<btrfs_ioctl_fs_info_args> {
    // SAFETY: integers and byte arrays only.
    let mut info: btrfs_ioctl_fs_info_args = unsafe { std::mem::zeroed() };
    ioctl_ptr(fd, ioctl::BTRFS_IOC_FS_INFO, &raw mut info)?;
    Ok(info)
}

/// `BTRFS_IOC_DEV_INFO`: what the kernel knows of device `devid`.
fn btrfs_device_info(fd: impl AsFd, devid: u64) -> io::Result<btrfs::btrfs_ioctl_dev_info_args> {
    // SAFETY: integers and byte arrays only.
    let mut info: btrfs::btrfs_ioctl_dev_info_args = unsafe { std::mem::zeroed() };
    info.devid = devid;
    ioctl_ptr(fd, ioctl::BTRFS_IOC_DEV_INFO, &raw mut info)?;
    Ok(info)
}

/// The path by which the kernel knows device `devid`, up to its NUL.
pub fn btrfs_device_path(fd: impl AsFd, devid: u64) -> io::Result<Vec<u8>> {
    Ok(btrfs_device_info(fd, devid)?
        .path
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect())
}

/// Takes a write lease (`fcntl(2)`, `F_SETLEASE`): refused with `EAGAIN` while anything else, a
/// loop device included, has the file open.  It ends when `file` is closed.
///
/// Whoever opens the file meanwhile waits, this process too: what is to be known of it must be
/// asked without opening it.
pub fn write_lease(file: impl AsFd) -> io::Result<()> {
    ignore_lease_breaks()?;
    set_lease(file, libc::F_WRLCK)
}

/// Ends a lease before `file` is closed.
pub fn end_lease(file: impl AsFd) -> io::Result<()> {
    set_lease(file, libc::F_UNLCK)
}

fn set_lease(file: impl AsFd, kind: c_int) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_SETLEASE takes a number and follows no pointer.
    let result = unsafe { libc::fcntl(fd, libc::F_SETLEASE, kind) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether a write lease is still there (`F_GETLEASE`): it is taken away some time after somebody has
/// opened the file (`/proc/sys/fs/lease-break-time`).
pub fn has_write_lease(file: impl AsFd) -> bool {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: F_GETLEASE takes nothing and follows no pointer.
    let lease = unsafe { libc::fcntl(fd, libc::F_GETLEASE) };
    lease == libc::F_WRLCK
}

/// Whether nobody has the file open for writing, as a read lease can be had (`F_SETLEASE`), which is
/// given back at once.  `file` must be open for reading only.
pub fn is_nobody_writing(file: impl AsFd) -> io::Result<bool> {
    ignore_lease_breaks()?;
    match set_lease(&file, libc::F_RDLCK) {
        Ok(()) => end_lease(file).map(|()| true),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel tells of whoever opens a leased file by SIGIO, which kills whoever does not expect it.
///
/// Blocking it is not enough: it would be pending when signals are unblocked again.
fn ignore_lease_breaks() -> nix::Result<()> {
    // SAFETY: no handler is installed, so nothing of ours runs when the signal comes.
    unsafe { signal(Signal::SIGIO, SigHandler::SigIgn) }.map(drop)
}

/// Forks, and runs `child` in the child, which then leaves without running any destructor.
///
/// The process must have one thread only, as lovol has: otherwise the child could inherit a lock
/// that nobody releases.
pub fn fork(child: impl FnOnce()) -> io::Result<nix::unistd::Pid> {
    // SAFETY: lovol starts no threads that live on, so the child is a whole copy of the process.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            child();
            // SAFETY: `_exit(2)` is always safe; `exit` would flush the parent's buffers twice.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Borrows the descriptor of a handle that only knows its number (loopdev's).
pub fn borrow(handle: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the handle owns its descriptor and is borrowed for as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(handle.as_raw_fd()) }
}

/// Closes every descriptor but `keep`: what a forked child does with what it inherited, so that
/// a lock or a pipe ends when its real owner ends.
///
/// Only for a child that goes on with nothing but `keep`: the owners of the closed descriptors
/// must never be used or dropped again, which `fork` makes sure of by `_exit`.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep
        .iter()
        .map(|fd| fd.as_raw_fd().unsigned_abs())
        .collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if fd > first {
            // SAFETY: closing descriptors follows no pointer; nobody uses them in this process.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0_u32) };
        }
        first = fd.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as uapi/linux/fs.h and uapi/linux/loop.h give them: a wrong one would be
    /// another ioctl.
    #[test]
    fn request_numbers_are_the_kernels() {
        assert_eq!(ioctl::FIFREEZE, 0xC004_5877);
        assert_eq!(ioctl::FITHAW, 0xC004_5878);
        assert_eq!(ioctl::FICLONERANGE, 0x4020_940D);
        assert_eq!(ioctl::FS_IOC_FIEMAP, 0xC020_660B);
        assert_eq!(ioctl::FS_IOC_FSGETXATTR, 0x801C_581F);
        assert_eq!(ioctl::FS_IOC_FSSETXATTR, 0x401C_5820);
        assert_eq!(loop_device::LOOP_CONFIGURE, 0x4C0A);
        assert_eq!(loop_device::LOOP_GET_STATUS64, 0x4C05);
    }
}
