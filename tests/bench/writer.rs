//! Somebody who writes 4 KiB and syncs, all the time, and notices each wait.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;

/// What is written.
const DATA: [u8; 4096] = [0x5A; 4096];

/// Where it writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Around a file of 4 MiB of its own.
    Log,
    /// Anywhere in the file that has all the extents.
    Database,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Log, Self::Database];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Log => "log",
            Self::Database => "database",
        })
    }
}

/// It writes until it is dropped.
pub(crate) struct Writer {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    count: AtomicU64,
    worst_nanos: AtomicU64,
}

impl Writer {
    pub(crate) fn start(dir: &Path, kind: Kind) -> Self {
        let name = match kind {
            Kind::Log => "log",
            Kind::Database => "data",
        };
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let file = options.open(dir.join(name)).unwrap();
        let tally = Arc::new(Tally::default());
        let its_tally = Arc::clone(&tally);
        Self {
            tally,
            thread: Some(thread::spawn(move || write(&file, kind, &its_tally))),
        }
    }

    /// Forgets the waits so far.
    pub(crate) fn forget(&self) {
        self.wait_for_a_write();
        self.tally.worst_nanos.store(0, SeqCst);
    }

    /// How many writes were made durable.
    pub(crate) fn count(&self) -> u64 {
        self.tally.count.load(SeqCst)
    }

    /// The longest wait, the one that may be under way included.
    pub(crate) fn worst(&self) -> Duration {
        self.wait_for_a_write();
        Duration::from_nanos(self.tally.worst_nanos.load(SeqCst))
    }

    fn wait_for_a_write(&self) {
        let before = self.tally.count.load(SeqCst);
        while self.tally.count.load(SeqCst) == before {
            let is_writing = self.thread.as_ref().is_some_and(|t| !t.is_finished());
            assert!(is_writing, "the writer has failed");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.tally.stop.store(true, SeqCst);
        // After a panic nobody may have thawed what it waits for: its end is not awaited then.
        if let (Some(thread), false) = (self.thread.take(), thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

fn write(file: &File, kind: Kind, tally: &Tally) {
    let blocks = match kind {
        Kind::Log => 1024,
        Kind::Database => file.metadata().unwrap().len() / BLOCK,
    };
    let mut random = 1_u64;
    while !tally.stop.load(SeqCst) {
        let block = match kind {
            Kind::Log => tally.count.load(SeqCst) % blocks,
            Kind::Database => next(&mut random) % blocks,
        };
        let started = Instant::now();
        file.write_all_at(&DATA, block * BLOCK).unwrap();
        file.sync_data().unwrap();
        let nanos = started.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
        tally.worst_nanos.fetch_max(nanos, SeqCst);
        tally.count.fetch_add(1, SeqCst);
    }
}

/// George Marsaglia's xorshift: good enough to jump about, and the same each time.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
