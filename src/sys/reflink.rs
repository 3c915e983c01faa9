//! Cloning by reflink: two files that share their blocks until one of them is written.
//!
//! Always by ranges of exact length (see [`ioctl::clone_range`]); data is never copied instead.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::SeekFrom;

use crate::sys::ioctl;

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

/// Clones ranges of `source`, which may be written meanwhile, in small calls of at most `most` bytes.
/// Calls `after` after each with where it has got to, and how long the call took.  Returns how long
/// all calls took.
pub fn clone_in_use(
    source: &File,
    destination: &File,
    ranges: impl Iterator<Item = io::Result<(u64, u64)>>,
    most: u64,
    mut after: impl FnMut(u64, Duration),
) -> io::Result<Duration> {
    let mut pace = Pace::new(most);
    let mut sum = Duration::ZERO;
    for range in ranges {
        let (mut at, length) = range?;
        let end = at + length;
        while at < end {
            let now = pace.step.min(end - at);
            let started = Instant::now();
            ioctl::clone_range(source, destination, at, now)?;
            let time = started.elapsed();
            pace.adapt(now, time);
            at += now;
            sum += time;
            after(at, time);
        }
    }
    Ok(sum)
}

/// The most that one call clones, of what is not shared yet: where every block is an extent, 512 of
/// them, 30 ms.  Large extents would allow more, but nobody knows how large the next ones are.
pub const NOT_SHARED: u64 = 2 << 20;

/// The same of what is shared already: 2048 extents, 1.5 ms.  With 1 GiB a writer waited for 190 ms,
/// when a sparse part of an image with 1,000,000 extents was followed by a dense one.
pub const SHARED: u64 = 8 << 20;

/// How much one call clones while the source is in use.
///
/// The kernel holds the source's lock for the whole call, and writers wait for it.  How long that
/// is depends on the extents, of which 4 MiB can hold one or a thousand: so the clock decides.
struct Pace {
    step: u64,
    most: u64,
}

impl Pace {
    const LEAST: u64 = 64 << 10;
    /// A call that took longer is followed by a smaller one.  With 10 ms a log writer's worst stall
    /// was 24 ms, with 4 ms 16 to 20 ms, with 1.5 ms 10 to 16 ms (100,000 extents, 'make bench');
    /// the total is the same.
    const LONG: Duration = Duration::from_micros(1500);
    const SHORT: Duration = Duration::from_micros(400);

    fn new(most: u64) -> Self {
        Self {
            step: 256 << 10,
            most,
        }
    }

    fn adapt(&mut self, cloned: u64, time: Duration) {
        if time > Self::LONG {
            // Far too long: at once to what would have been right.
            let times = time.as_micros() / Self::LONG.as_micros() + 1;
            let right = cloned / u64::try_from(times).unwrap_or(u64::MAX);
            self.step = right.next_power_of_two().max(Self::LEAST);
        } else if time < Self::SHORT && cloned == self.step {
            self.step = (self.step * 2).min(self.most);
        }
    }
}

/// The ranges of the first `length` bytes that have data (`lseek(2)`, `SEEK_DATA`), in whole blocks,
/// so that a clone stays aligned whatever the holes are.
pub fn data(file: &File, length: u64) -> impl Iterator<Item = io::Result<(u64, u64)>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let found = next_data(file, at, length).transpose()?;
        Some(found.map(|(from, to)| {
            let from = from - from % BLOCK;
            at = to.next_multiple_of(BLOCK).min(length);
            (from, at - from)
        }))
    })
}

const BLOCK: u64 = 4096;

/// The next run of data at or after `at`, within `length`.
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
