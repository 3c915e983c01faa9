//! Tracepoints through perf, on one CPU each, recorded in a ring.
//!
//! Source of the ring's rules: perf_event_open(2), "MMAP layout", and kernel/events/ring_buffer.c.

use std::ffi::CStr;
use std::fs::File;
use std::io;
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

/// A tracepoint's events, one of each CPU, switched off.
///
/// perf is asked which CPUs there are: the files that list them are the container's in a container,
/// and its devices are worked on by all.
pub fn open_on_all_cpus(id: u64) -> io::Result<Vec<File>> {
    let mut events = Vec::new();
    for cpu in 0.. {
        match perf_open_tracepoint(id, cpu) {
            Ok(event) => events.push(File::from(event)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && cpu > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

/// A tracepoint's records on one CPU.
#[derive(Debug)]
pub struct Ring {
    pages: SharedPages,
    /// Where the ring begins in the mapping, and its size, a power of 2.
    start: usize,
    size: usize,
    /// Records as long as this is open.
    event: File,
}

impl Ring {
    /// Records from now on the events of `event` that match `filter`, in a ring of `pages` pages, a
    /// power of 2.
    pub fn start(event: File, filter: &CStr, pages: usize) -> io::Result<Self> {
        perf_set_filter(&event, filter)?;
        let page = rustix::param::page_size();
        let length = NonZeroUsize::new((1 + pages) * page).ok_or(io::ErrorKind::InvalidInput)?;
        let ring = Self {
            pages: SharedPages::map(&event, length)?,
            start: page,
            size: pages * page,
            event,
        };
        perf_enable(&ring.event)?;
        Ok(ring)
    }

    /// Takes the records that are there, oldest first, and gives each's raw data to `each`.
    ///
    /// Neither allocates nor calls the kernel.  Some may be missing without a word: on a busy machine
    /// Linux 6.18 lost some in 100,000 and did not count them as lost, and a program of BPF on the
    /// same tracepoint can keep all of them from perf (kernel/trace/trace_event_perf.c,
    /// `perf_trace_run_bpf_submit`).
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
