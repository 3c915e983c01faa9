//! Which parts of a loop device were written: the requests that completed on it, recorded by the
//! tracepoint `block_rq_complete`.
//!
//! A loop device completes a write when the file behind it has it (drivers/block/loop.c,
//! `lo_complete_rq`), so by the time a write is recorded it is in the file, and by the time a
//! filesystem hears of it, it is recorded (block/blk-mq.c: `blk_update_request` traces first).  That
//! makes completions what to follow.  The events of queueing a request (`block_rq_issue`) come before
//! the file changes: whoever clones between the two misses the change.
//!
//! Records may be lost, or never made (on a CPU that came online meanwhile).  Both are counted by the
//! kernel and seen here; then what is known is incomplete, and of no use.

use std::ffi::CString;
use std::io;

use crate::sys::loopdev::MAJOR;
use crate::sys::perf::{Counter, Ring};
use crate::sys::tracefs::{Field, Tracefs};

const COMPLETE: &str = "block/block_rq_complete";

/// Every CPU that comes or goes passes here, on a CPU that was there before (kernel/cpu.c).
const HOTPLUG: &str = "cpuhp/cpuhp_enter";

/// Memory for all rings together, and the most that one gets.  A record takes about 72 bytes.
const ALL_RINGS: usize = 16 << 20;
const LARGEST_RING: usize = 1 << 20;

/// How often a ring is asked whether all is recorded.  What is missing then is lost: on its way from
/// an interrupt on another CPU it is for some microseconds, and asking takes as long.
const TRIES: u32 = 100;

/// A sector is 512 bytes here, whatever the device's are (block/blk.h).
const SECTOR: u64 = 512;

/// The requests that complete on one loop device.
#[derive(Debug)]
pub struct Completions {
    rings: Vec<Ring>,
    hotplug: Vec<Counter>,
    layout: Layout,
}

impl Completions {
    /// Records from now on.
    ///
    /// # Errors
    /// Where the kernel has no such events, or does not let us see them.
    pub fn start(loop_number: u32) -> io::Result<Self> {
        let tracefs = Tracefs::mount().map_err(io::Error::other)?;
        let layout = Layout::of(&tracefs)?;
        let (complete, hotplug) = (tracefs.id(COMPLETE)?, tracefs.id(HOTPLUG)?);
        let cpus = online()?;
        let hotplug = cpus
            .iter()
            .map(|cpu| Counter::start(hotplug, *cpu))
            .collect::<io::Result<Vec<_>>>()?;
        // dev_t as the kernel itself has it (linux/kdev_t.h).
        let filter = CString::new(format!("dev == {}", MAJOR << 20 | loop_number))?;
        let pages = ring_pages(cpus.len());
        let rings = cpus
            .iter()
            .map(|cpu| Ring::start(complete, *cpu, &filter, pages))
            .collect::<io::Result<Vec<_>>>()?;
        if online()? != cpus {
            return Err(io::Error::other("a CPU has come or gone"));
        }
        Ok(Self {
            rings,
            hotplug,
            layout,
        })
    }

    /// Takes what was recorded, and gives the ranges (offset and length in bytes) that were written
    /// or discarded to `each`.  Neither allocates nor calls the kernel.
    pub fn drain(&mut self, mut each: impl FnMut(u64, u64)) {
        for ring in &mut self.rings {
            drain(ring, self.layout, &mut each);
        }
    }

    /// The same, until nothing is missing; false if something is.  Does not allocate either, and
    /// asks the kernel for nothing but how many events it has counted.
    pub fn drain_all(&mut self, mut each: impl FnMut(u64, u64)) -> io::Result<bool> {
        let mut is_all = true;
        for ring in &mut self.rings {
            // More come while we ask: equal once is enough.
            let mut tries = 0..TRIES;
            let mut is_drained = false;
            while !is_drained && tries.next().is_some() {
                drain(ring, self.layout, &mut each);
                is_drained = ring.is_drained()?;
            }
            is_all &= is_drained;
        }
        Ok(is_all)
    }

    /// What was missing until now does not count any more.
    pub fn forgive(&mut self) -> io::Result<()> {
        self.rings.iter_mut().try_for_each(Ring::forgive)
    }

    /// Whether the CPUs are those of the start, so that nothing went unrecorded.
    pub fn sees_all_cpus(&self) -> io::Result<bool> {
        for counter in &self.hotplug {
            if counter.count()? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn drain(ring: &mut Ring, layout: Layout, each: &mut impl FnMut(u64, u64)) {
    ring.drain(|record| {
        if let Some((offset, length)) = layout.changed(record) {
            each(offset, length);
        }
    });
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

fn ring_pages(cpus: usize) -> usize {
    let bytes = (ALL_RINGS / cpus.max(1)).clamp(rustix::param::page_size(), LARGEST_RING);
    let pages = bytes / rustix::param::page_size();
    // The largest power of 2 within.
    1 << pages.max(1).ilog2()
}

/// The numbers of the CPUs that are online: `0-3,8`.
fn online() -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    parse_list(text.trim()).ok_or_else(|| io::Error::other("a list of CPUs that is none"))
}

fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        numbers.extend(first..=last);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list(""), None);
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
