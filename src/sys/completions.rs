//! Which parts of a loop device were written: the requests that completed on it, recorded by the
//! tracepoint `block_rq_complete`.
//!
//! A loop device completes a write when the file behind it has it (drivers/block/loop.c,
//! `lo_complete_rq`), so by the time a write is recorded it is in the file, and by the time a
//! filesystem hears of it, it is recorded (block/blk-mq.c: `blk_update_request` traces first).  That
//! makes completions what to follow.  The events of queueing a request (`block_rq_issue`) come before
//! the file changes: whoever clones between the two misses the change.
//!
//! Records may be lost, kept back by others who follow the same tracepoint, or never made (on a CPU
//! that came online meanwhile).  So they are held against the device's own statistics, which nobody
//! but the block layer writes: the sectors recorded must be as many as the sectors counted.  Where
//! they are not, what is known is incomplete, and of no use.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys::loopdev::{MAJOR, minor};
use crate::sys::perf::{Ring, open_on_all_cpus};
use crate::sys::tracefs::{Field, Tracefs};

const COMPLETE: &str = "block/block_rq_complete";

/// Memory for all rings of all devices together, and the most that one gets.  A record takes about
/// 72 bytes.
const ALL_RINGS: usize = 16 << 20;
const LARGEST_RING: usize = 1 << 20;

/// How often it is asked whether all is recorded.  What is missing then is lost: on its way from the
/// record to the statistics, or from an interrupt on another CPU, it is for some microseconds, and
/// asking takes as long.
const TRIES: u32 = 100;

/// How often, at the start, for a moment in which nothing completes.
const TRIES_TO_START: u32 = 10_000;

/// A sector is 512 bytes here, whatever the device's are (block/blk.h).
const SECTOR: u64 = 512;

/// The requests that complete on one loop device.
#[derive(Debug)]
pub struct Completions {
    rings: Vec<Ring>,
    layout: Layout,
    statistics: Statistics,
    /// What the statistics were when the first record counted, and the sectors recorded since.
    before: u64,
    recorded: u64,
}

impl Completions {
    /// Records from now on what completes on one of `devices` loop devices that are followed.
    ///
    /// # Errors
    /// Where the kernel has no such events, or does not let us see them.
    pub fn start(loop_number: u32, devices: usize) -> io::Result<Self> {
        let tracefs = Tracefs::mount().map_err(io::Error::other)?;
        let statistics = Statistics::of_loop(loop_number)?;
        // dev_t as the kernel itself has it (linux/kdev_t.h).
        let filter = CString::new(format!("dev == {}", MAJOR << 20 | minor(loop_number)))?;
        let mut completions = Self {
            rings: rings(tracefs.id(COMPLETE)?, &filter, devices)?,
            layout: Layout::of(&tracefs)?,
            statistics,
            before: 0,
            recorded: 0,
        };
        completions.begin()?;
        Ok(completions)
    }

    /// Finds a moment at which all that is counted is recorded: nothing completes around it.
    fn begin(&mut self) -> io::Result<()> {
        for _ in 0..TRIES_TO_START {
            self.drain(|_, _| {});
            self.before = self.statistics.sectors_changed()?;
            self.recorded = 0;
            self.drain(|_, _| {});
            if self.recorded == 0 && self.statistics.sectors_changed()? == self.before {
                return Ok(());
            }
        }
        Err(io::Error::other("the device never rests"))
    }

    /// Takes what was recorded, and gives the ranges (offset and length in bytes) that were written
    /// or discarded to `each`.  Neither allocates nor calls the kernel.
    pub fn drain(&mut self, mut each: impl FnMut(u64, u64)) {
        for ring in &mut self.rings {
            ring.drain(|record| {
                if let Some((offset, length)) = self.layout.changed(record) {
                    self.recorded += length / SECTOR;
                    each(offset, length);
                }
            });
        }
    }

    /// The same, until nothing is missing; false if something is.  Does not allocate either, and
    /// asks the kernel for nothing but the device's statistics.
    pub fn drain_all(&mut self, mut each: impl FnMut(u64, u64)) -> io::Result<bool> {
        for _ in 0..TRIES {
            self.drain(&mut each);
            // More come while we ask: equal once is enough.
            if self.statistics.sectors_changed()?.wrapping_sub(self.before) == self.recorded {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A ring for each CPU.
fn rings(id: u64, filter: &CStr, devices: usize) -> io::Result<Vec<Ring>> {
    let events = open_on_all_cpus(id)?;
    let pages = ring_pages(events.len() * devices);
    let start = |event| Ring::start(event, filter, pages);
    events.into_iter().map(start).collect()
}

/// What the block layer counts of a device (Documentation/block/stat.rst): for each request, right
/// after it is traced (block/blk-mq.c, `blk_update_request`).
#[derive(Debug)]
struct Statistics(File);

impl Statistics {
    fn of_loop(number: u32) -> io::Result<Self> {
        let dir = format!("/sys/block/loop{number}");
        if std::fs::read_to_string(format!("{dir}/queue/iostats"))?.trim() != "1" {
            return Err(io::Error::other("the device keeps no statistics"));
        }
        File::open(format!("{dir}/stat")).map(Self)
    }

    /// The sectors that were written or discarded.
    ///
    /// Does not allocate; nor does the kernel, but for the first time.
    fn sectors_changed(&self) -> io::Result<u64> {
        let mut text = [0; 512];
        let length = self.0.read_at(&mut text, 0)?;
        sectors_changed(&text[..length])
            .ok_or_else(|| io::Error::other("statistics of another form"))
    }
}

fn sectors_changed(line: &[u8]) -> Option<u64> {
    const WRITTEN: usize = 6;
    const DISCARDED: usize = 13;
    let mut numbers = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let written: u64 = numbers.nth(WRITTEN)?.parse().ok()?;
    let discarded: u64 = numbers.nth(DISCARDED - WRITTEN - 1)?.parse().ok()?;
    Some(written.wrapping_add(discarded))
}

/// Where the fields of a record are that we need.
#[derive(Clone, Copy, Debug)]
struct Layout {
    sector: Field,
    sectors: Field,
    /// What it did, in letters, such as `WS` or `D` (kernel/trace/blktrace.c, `blk_fill_rwbs`).
    letters: Field,
}

impl Layout {
    fn of(tracefs: &Tracefs) -> io::Result<Self> {
        let format = tracefs.format(COMPLETE)?;
        let field = |name| {
            let missing = || io::Error::other(format!("{COMPLETE} has no {name}"));
            format.field(name).ok_or_else(missing)
        };
        let layout = Self {
            sector: field("sector")?,
            sectors: field("nr_sector")?,
            letters: field("rwbs")?,
        };
        if layout.sector.size == 8 && layout.sectors.size == 4 {
            Ok(layout)
        } else {
            Err(io::Error::other(format!("{COMPLETE} is of another form")))
        }
    }

    /// The range that a record says may have changed.
    ///
    /// All but reads count, as old kernels have no letter of their own for writing zeroes, and
    /// failed ones as well: they may have changed a part.
    fn changed(&self, record: &[u8]) -> Option<(u64, u64)> {
        let at = |field: Field| record.get(field.offset..field.offset + field.size);
        let sector = u64::from_ne_bytes(at(self.sector)?.try_into().ok()?);
        let sectors = u32::from_ne_bytes(at(self.sectors)?.try_into().ok()?);
        let letters = at(self.letters)?;
        let is_read = letters.first() == Some(&b'R');
        (!is_read && sectors > 0).then(|| {
            (
                sector.saturating_mul(SECTOR),
                u64::from(sectors).saturating_mul(SECTOR),
            )
        })
    }
}

fn ring_pages(rings: usize) -> usize {
    let bytes = (ALL_RINGS / rings.max(1)).clamp(rustix::param::page_size(), LARGEST_RING);
    let pages = bytes / rustix::param::page_size();
    // The largest power of 2 within.
    1 << pages.max(1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_sectors_written_and_discarded() {
        let line = b"  11  0  5672  1  14  2  4097  31  0  8  32  3  0  900  5  6  7\n";
        assert_eq!(sectors_changed(line), Some(4097 + 900));
        assert_eq!(sectors_changed(b"1 2 3 4 5 6 7 8"), None);
    }

    #[test]
    fn reads_and_flushes_change_nothing() {
        let layout = Layout {
            sector: Field { offset: 0, size: 8 },
            sectors: Field { offset: 8, size: 4 },
            letters: Field {
                offset: 12,
                size: 4,
            },
        };
        let record = |sector: u64, sectors: u32, letters: &[u8; 4]| {
            [&sector.to_ne_bytes()[..], &sectors.to_ne_bytes(), letters].concat()
        };
        assert_eq!(
            layout.changed(&record(8, 16, b"WS\0\0")),
            Some((4096, 8192))
        );
        assert_eq!(layout.changed(&record(8, 16, b"FWFS")), Some((4096, 8192)));
        assert_eq!(
            layout.changed(&record(8, 16, b"D\0\0\0")),
            Some((4096, 8192))
        );
        assert_eq!(layout.changed(&record(8, 16, b"RA\0\0")), None);
        assert_eq!(layout.changed(&record(0, 0, b"FF\0\0")), None);
        assert_eq!(layout.changed(b"short"), None);
    }
}
