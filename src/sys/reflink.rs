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

/// A part of a file that is to be cloned while it is in use.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Where it begins, in bytes.
    pub at: u64,
    /// How long it is.
    pub length: u64,
    /// The most that one call is to clone.
    pub most: u64,
}

/// Clones parts of `source`, which may be written meanwhile, in small calls.  Calls `after` after each
/// with where it has got to, and how long the call took.  Returns how long all calls took.
pub fn clone_in_use(
    source: &File,
    destination: &File,
    parts: impl Iterator<Item = io::Result<Part>>,
    mut after: impl FnMut(u64, Duration),
) -> io::Result<Duration> {
    let mut pace = None;
    let mut sum = Duration::ZERO;
    for part in parts {
        let Part { at, length, most } = part?;
        let (mut at, end) = (at, at + length);
        while at < end {
            let is_paced = most < HOLES;
            if is_paced && pace.is_none() {
                pace = Some(Pace::measure(source, destination)?);
            }
            let mut pace = pace.as_mut().filter(|_| is_paced);
            let step = pace.as_ref().map_or(most, |pace| pace.step.min(most));
            let now = step.min(end - at);
            let time = timed_clone(source, destination, at, now)?;
            if let Some(pace) = &mut pace {
                pace.adapt(now, time);
            }
            at += now;
            sum += time;
            after(at, time);
        }
    }
    Ok(sum)
}

/// The most that one call clones of data, by whether it is shared already.
///
/// Where every block is an extent, that is 512 or 2048 of them: 30 ms or 1.5 ms, at 60 or 0.75 us
/// each.  Up to 1 GiB at a time a writer waited for 190 ms in 4 runs of 5, with 1,000,000 extents: as
/// long as one call over a dense part takes, after a sparse one.
///
/// Where there are few extents in all, no call can be long: 8 ms or 1.5 ms.
pub fn most_data(source: &File, is_shared: bool) -> u64 {
    let (few, most) = if is_shared { (2048, 2048) } else { (128, 512) };
    match ioctl::counted_extents(source) {
        Some(count) if count <= few => HOLES,
        _ => most * BLOCK,
    }
}

/// The most that one call clones of what has no extents, or few: then the clock has no say.
const HOLES: u64 = 1 << 30;

/// How much one call clones while the source is in use.
///
/// The kernel holds the source's lock for the whole call, and writers wait for it.  How long that
/// is depends on the extents, of which 4 MiB can hold one or a thousand: so the clock decides.
struct Pace {
    step: u64,
    /// What a call costs however little it clones: microseconds, but milliseconds where a process is
    /// traced, or the kernel is one.  Smaller calls would then only be more of them.
    least_time: Duration,
}

impl Pace {
    const FIRST: u64 = 256 << 10;
    const LEAST: u64 = 128 << 10;
    /// A call that took longer is followed by a smaller one.  With 10 ms a log writer's worst stall
    /// was 24 ms, with 4 ms 15 to 20 ms, with 1.5 ms 10 to 16 ms (100,000 extents, 'make bench', while
    /// nothing else used the disk), and the total the same.
    const LONG: Duration = Duration::from_micros(1500);
    const SHORT: Duration = Duration::from_micros(400);

    /// Finds out what a call costs, with one block that is shared already from the second time on.
    fn measure(source: &File, destination: &File) -> io::Result<Self> {
        let mut least_time = Duration::MAX;
        for _ in 0..3 {
            least_time = timed_clone(source, destination, 0, BLOCK)?.min(least_time);
        }
        Ok(Self {
            step: Self::FIRST,
            least_time,
        })
    }

    fn adapt(&mut self, cloned: u64, time: Duration) {
        let long = Self::LONG.max(self.least_time * 2);
        let short = Self::SHORT.max(self.least_time * 5 / 4);
        if time > long {
            // Far too long: at once to what would have been right.
            let times = time.as_micros() / long.as_micros() + 1;
            let right = cloned / u64::try_from(times).unwrap_or(u64::MAX);
            self.step = right.next_power_of_two().max(Self::LEAST);
        } else if time < short && cloned >= self.step {
            self.step = (self.step * 2).min(HOLES);
        }
    }
}

fn timed_clone(source: &File, destination: &File, at: u64, length: u64) -> io::Result<Duration> {
    let started = Instant::now();
    ioctl::clone_range(source, destination, at, length)?;
    Ok(started.elapsed())
}

/// The parts of the first `length` bytes that have data (`lseek(2)`, `SEEK_DATA`), in whole blocks, so
/// that a clone stays aligned whatever the holes are.
pub fn data(file: &File, length: u64) -> impl Iterator<Item = io::Result<Part>> {
    let most = most_data(file, false);
    let runs = runs(file, length).filter(|run| !matches!(run, Ok((_, _, false))));
    runs.map(move |run| run.map(|(at, length, _)| Part { at, length, most }))
}

/// All of the first `length` bytes: data that is shared already, for the most part, and holes.
pub fn whole(file: &File, length: u64) -> impl Iterator<Item = io::Result<Part>> {
    let most = most_data(file, true);
    runs(file, length).map(move |run| {
        run.map(|(at, length, is_data)| Part {
            at,
            length,
            most: if is_data { most } else { HOLES },
        })
    })
}

/// Runs of data and of holes in turn: offset, length, and whether there is data.
fn runs(file: &File, length: u64) -> impl Iterator<Item = io::Result<(u64, u64, bool)>> {
    let (mut at, mut data) = (0, 0..0);
    std::iter::from_fn(move || {
        if at >= length {
            return None;
        }
        if data.end <= at {
            data = match next_data(file, at, length) {
                Ok(Some((from, to))) => {
                    (from - from % BLOCK).max(at)..to.next_multiple_of(BLOCK).min(length)
                }
                Ok(None) => length..length,
                Err(error) => {
                    at = length;
                    return Some(Err(error));
                }
            };
        }
        let (start, is_data) = (at, data.start <= at);
        at = if is_data { data.end } else { data.start };
        Some(Ok((start, at - start, is_data)))
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
