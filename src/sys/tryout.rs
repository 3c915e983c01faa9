//! Trying something that may hang in the kernel, where no signal reaches it: in a child.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;

use crate::sys::guardian::wait_for_end;
use crate::sys::{beneath, ioctl};

/// Whether making a file in `dir` comes back within `limit`; whether it succeeds is not asked.
///
/// A child that hangs goes when the filesystem is thawed.
pub fn comes_back(dir: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let child = ioctl::fork(|| {
        ioctl::close_all_but(&[dir.as_fd(), writer.as_fd()]);
        drop(beneath::unnamed(dir));
    })?;
    drop(writer);
    let is_back = wait_for_end(&reader, limit);
    if is_back {
        let _ = waitpid(child, None);
    }
    Ok(is_back)
}
