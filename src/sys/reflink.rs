//! Cloning by reflink: two files that share their blocks until one of them is written.
//!
//! Always by ranges of exact length (see [`ioctl::clone_range`]); data is never copied instead.

use std::fs::File;
use std::io;

use rustix::fs::SeekFrom;

use crate::sys::ioctl;

/// What one call clones while the source is in use.
///
/// The kernel holds the source's lock for the whole call, and writers wait for it: 4 MiB keeps
/// that at tens of milliseconds even where each block is an extent of its own.
pub const SMALL_RANGE: u64 = 4 << 20;

/// What one call clones while the source is frozen: nobody writes, but between two calls we can
/// look at the clock.
pub const FROZEN_RANGE: u64 = 1 << 30;

/// Clones `[offset, offset + length)` in steps of `step`, asking before each whether to go on.
///
/// # Errors
/// The kernel's, and `ETIMEDOUT` when `may_go_on` said no.
pub fn clone_in_steps(
    source: &File,
    destination: &File,
    (offset, length): (u64, u64),
    step: u64,
    mut may_go_on: impl FnMut() -> bool,
) -> io::Result<()> {
    let end = offset + length;
    let mut at = offset;
    while at < end {
        if !may_go_on() {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        let now = step.min(end - at);
        ioctl::clone_range(source, destination, at, now)?;
        at += now;
    }
    Ok(())
}

/// Clones all data of `source`, which may be written meanwhile, in small ranges; holes are
/// passed over, as `destination` is empty there.  Calls `progress` with the bytes looked at.
pub fn clone_data(
    source: &File,
    destination: &File,
    length: u64,
    mut progress: impl FnMut(u64),
) -> io::Result<()> {
    let mut at = 0;
    while let Some((from, to)) = next_data(source, at, length)? {
        // Whole blocks, so that the clone stays aligned whatever the holes are.
        let from = from - from % 4096;
        let to = to.next_multiple_of(4096).min(length);
        clone_in_steps(source, destination, (from, to - from), SMALL_RANGE, || {
            progress(from);
            true
        })?;
        at = to;
    }
    progress(length);
    Ok(())
}

/// The next run of data at or after `at`, within `length` (`lseek(2)`, `SEEK_DATA`).
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let from = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(from) if from < length => from,
        // No data until the end.
        Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let to = rustix::fs::seek(file, SeekFrom::Hole(from))?.min(length);
    Ok(Some((from, to)))
}

/// Clones the whole of `source` by one single call: one instant, without a freeze.
pub fn clone_at_once(source: &File, destination: &File, length: u64) -> io::Result<()> {
    ioctl::clone_range(source, destination, 0, length)
}
