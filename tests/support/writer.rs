//! Somebody who works in the guest all the time, and notices when it stands still.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::wait::{happens, wait_until};

const BLOCK: usize = 4096;

/// The file goes around at 4 MiB.
const BLOCKS: u64 = 1024;

/// No write of a test takes as long as this, unless the guest hangs.
const LIMIT: Duration = Duration::from_secs(15);

/// Writes 4 KiB and syncs, again and again, until it is dropped.
#[must_use = "it stops when it is dropped"]
pub(crate) struct Writer {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    rests: AtomicBool,
    count: AtomicU64,
    worst_nanos: AtomicU64,
}

impl Writer {
    /// Starts to write `DIR/writer`; returns after the first write.
    #[track_caller]
    pub(crate) fn start(dir: impl AsRef<Path>) -> Self {
        let file = File::create(dir.as_ref().join("writer")).unwrap();
        let tally = Arc::new(Tally::default());
        let its_tally = Arc::clone(&tally);
        let writer = Self {
            tally,
            thread: Some(thread::spawn(move || write(&file, &its_tally))),
        };
        writer.must_go_on();
        writer
    }

    /// How many writes are durable.
    pub(crate) fn count(&self) -> u64 {
        self.tally.count.load(SeqCst)
    }

    /// The longest that a finished write has taken; first waits for the one that is under way.
    #[track_caller]
    pub(crate) fn worst(&self) -> Duration {
        self.must_go_on();
        Duration::from_nanos(self.tally.worst_nanos.load(SeqCst))
    }

    /// Forgets the worst so far.
    pub(crate) fn forget_worst(&self) {
        self.tally.worst_nanos.store(0, SeqCst);
    }

    /// Fails unless the guest takes another write soon: it is not frozen, not read-only, not dead.
    #[track_caller]
    pub(crate) fn must_go_on(&self) {
        self.tally.rests.store(false, SeqCst);
        self.thread
            .iter()
            .for_each(|thread| thread.thread().unpark());
        let before = self.count();
        wait_until("the writer writes", LIMIT, || {
            self.count() > before || self.has_ended()
        });
        assert!(!self.has_ended(), "the writer has failed");
    }

    /// Rests from the next write on, until it is to [go on](Self::must_go_on).
    pub(crate) fn rest(&self) {
        self.tally.rests.store(true, SeqCst);
    }

    /// Stops, and returns how many writes are durable.
    #[track_caller]
    pub(crate) fn stop(mut self) -> u64 {
        self.end();
        wait_until("the writer stops", LIMIT, || self.has_ended());
        self.thread
            .take()
            .unwrap()
            .join()
            .unwrap()
            .expect("the writer has failed");
        self.count()
    }

    /// Waits until a write fails, and returns why.
    #[track_caller]
    pub(crate) fn failure(mut self) -> io::Error {
        wait_until("a write fails", LIMIT, || self.has_ended());
        let result = self.thread.take().unwrap().join().unwrap();
        result.expect_err("the writer goes on until it fails")
    }

    fn end(&self) {
        self.tally.stop.store(true, SeqCst);
        self.thread
            .iter()
            .for_each(|thread| thread.thread().unpark());
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
        // In a frozen guest it cannot end; whoever drops the pool will thaw that.
        happens(Duration::from_secs(2), || self.has_ended());
    }
}

fn write(file: &File, tally: &Tally) -> io::Result<()> {
    while !tally.stop.load(SeqCst) {
        if tally.rests.load(SeqCst) {
            thread::park();
            continue;
        }
        let count = tally.count.load(SeqCst);
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&count.to_le_bytes());

        let start = Instant::now();
        file.write_all_at(&block, count % BLOCKS * BLOCK as u64)?;
        file.sync_data()?;
        let nanos = start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);

        tally.worst_nanos.fetch_max(nanos, SeqCst);
        tally.count.fetch_add(1, SeqCst);
    }
    Ok(())
}
