//! Tracepoints through perf, on one CPU each: recorded in a ring, or only counted.
//!
//! Source of the ring's rules: perf_event_open(2), "MMAP layout", and kernel/events/ring_buffer.c.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use crate::sys::ioctl::{SharedPages, perf_enable, perf_open_tracepoint, perf_set_filter};

/// `PERF_RECORD_SAMPLE`
const RECORD_SAMPLE: u32 = 9;
/// Offsets in the ring's first page (struct perf_event_mmap_page).
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// The longest record that is taken, in words of 8 bytes: a block event's has about 10.
const LONGEST: usize = 32;

/// A tracepoint's count on one CPU.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// Counts from now on.
    pub fn start(id: u64, cpu: u32) -> io::Result<Self> {
        let counter = Self(File::from(perf_open_tracepoint(id, false, cpu)?));
        perf_enable(&counter.0)?;
        Ok(counter)
    }

    /// How many there were.
    pub fn count(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        (&self.0).read_exact(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// A tracepoint's records on one CPU.
#[derive(Debug)]
pub struct Ring {
    counter: Counter,
    pages: SharedPages,
    /// Where the ring begins in the mapping, and its size, a power of 2.
    start: usize,
    size: usize,
    taken: u64,
    forgiven: u64,
}

impl Ring {
    /// Records from now on what matches `filter`, in a ring of `pages` pages, a power of 2.
    pub fn start(id: u64, cpu: u32, filter: &CStr, pages: usize) -> io::Result<Self> {
        let counter = Counter(File::from(perf_open_tracepoint(id, true, cpu)?));
        perf_set_filter(&counter.0, filter)?;
        let page = rustix::param::page_size();
        let length = NonZeroUsize::new((1 + pages) * page).ok_or(io::ErrorKind::InvalidInput)?;
        let ring = Self {
            pages: SharedPages::map(&counter.0, length)?,
            counter,
            start: page,
            size: pages * page,
            taken: 0,
            forgiven: 0,
        };
        perf_enable(&ring.counter.0)?;
        Ok(ring)
    }

    /// Takes the records that are there, oldest first, and gives each's raw data to `each`.
    ///
    /// Neither allocates nor calls the kernel.  Some may be missing without a word: see
    /// [`Ring::is_drained`].
    pub fn drain(&mut self, mut each: impl FnMut(&[u8])) {
        // Acquire: the records before the head are read after it.
        let head = self.pages.word(HEAD).load(Ordering::Acquire);
        let mut tail = self.pages.word(TAIL).load(Ordering::Relaxed);
        while tail < head {
            let header = Header::of(self.word(tail));
            if header.size == 0 {
                break;
            }
            if header.kind == RECORD_SAMPLE && header.size <= LONGEST * 8 {
                let mut record = [0; LONGEST * 8];
                for (at, bytes) in record.chunks_exact_mut(8).take(header.size / 8).enumerate() {
                    bytes.copy_from_slice(&self.word(tail + 8 * at as u64).to_ne_bytes());
                }
                each(raw_data(&record));
                self.taken += 1;
            }
            tail += header.size as u64;
        }
        // Release: the kernel writes there only after we have read.
        self.pages.word(TAIL).store(tail, Ordering::Release);
    }

    fn word(&self, position: u64) -> u64 {
        // The ring's size is a power of 2, so the position wraps by its lowest bits.
        let within = usize::try_from(position % self.size as u64).unwrap_or(0);
        self.pages.word(self.start + within).load(Ordering::Relaxed)
    }

    /// Whether every event that the kernel has counted until now was taken.
    ///
    /// It counts an event before it records it (kernel/events/core.c, `perf_swevent_event`), and
    /// counts those too that it has no room to record.  On a busy machine it lost some without
    /// counting them as lost (Linux 6.18, some in 100,000; against ftrace's record of the same
    /// tracepoint the count was exact each time).
    pub fn is_drained(&self) -> io::Result<bool> {
        Ok(self.counter.count()? == self.taken + self.forgiven)
    }

    /// From now on what is missing until now is not missed.
    pub fn forgive(&mut self) -> io::Result<()> {
        self.forgiven = self.counter.count()?.saturating_sub(self.taken);
        Ok(())
    }
}

/// struct perf_event_header: type, misc, size.
struct Header {
    kind: u32,
    size: usize,
}

impl Header {
    fn of(word: u64) -> Self {
        let bytes = word.to_ne_bytes();
        Self {
            kind: u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            size: u16::from_ne_bytes([bytes[6], bytes[7]]).into(),
        }
    }
}

/// The raw data of a sample: behind the header (8 bytes) its length (4 bytes), then the data.
fn raw_data(record: &[u8; LONGEST * 8]) -> &[u8] {
    let length = u32::from_ne_bytes([record[8], record[9], record[10], record[11]]);
    let rest = &record[12..];
    rest.get(..usize::try_from(length).unwrap_or(0))
        .unwrap_or(rest)
}
