//! Looks at the loop devices all the time: no image of the pool is attached read-write twice, and no
//! snapshot or deleted volume read-write at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) struct Watcher {
    is_over: Arc<AtomicBool>,
    wrong: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<usize>>,
}

impl Watcher {
    pub(super) fn start(pool: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let (is_seen_over, seen) = (Arc::clone(&is_over), Arc::clone(&wrong));
        let pool = pool.to_owned();
        let watch = move || {
            let mut looks = 0;
            while !is_seen_over.load(SeqCst) {
                seen.lock().unwrap().extend(wrongly_attached(&pool));
                looks += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            looks
        };
        Self {
            is_over,
            wrong,
            thread: Some(std::thread::spawn(watch)),
        }
    }

    /// Fails if it has ever seen what must not be.
    #[track_caller]
    pub(super) fn must_have_seen_nothing(&self) {
        let wrong = self.wrong.lock().unwrap().clone();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Fails if it has not looked all the time.
    #[track_caller]
    pub(super) fn stop(mut self) {
        self.is_over.store(true, SeqCst);
        let looks = self.thread.take().unwrap().join().unwrap();
        assert!(looks > 100, "it has looked only {looks} times");
        self.must_have_seen_nothing();
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_over.store(true, SeqCst);
    }
}

/// A device that is attached read-write: its number in `/sys`, its sequence number, its file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Writable {
    device: String,
    /// Another one each time that the device is bound to a file.
    sequence: String,
    file: PathBuf,
}

/// What is wrong with the devices of the pool at one moment.
///
/// Devices are read one after the other, but what is there in two passes, with the same sequence
/// number, was there at the moment between them.
fn wrongly_attached(pool: &Path) -> Vec<String> {
    let before = writable(pool);
    let mut by_file: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for seen in writable(pool) {
        if before.contains(&seen) {
            by_file.entry(seen.file).or_default().push(seen.device);
        }
    }
    let volumes = pool.join("volumes");
    let is_wrong = |(file, devices): &(PathBuf, Vec<String>)| {
        let is_named = !file.to_string_lossy().ends_with(" (deleted)");
        devices.len() > 1 || (is_named && !file.starts_with(&volumes))
    };
    let wrong = by_file.into_iter().filter(is_wrong);
    wrong
        .map(|(file, devices)| format!("{}: {}", file.display(), devices.join(", ")))
        .collect()
}

fn writable(pool: &Path) -> Vec<Writable> {
    let entries = fs::read_dir("/sys/block").unwrap().flatten();
    let loops = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("loop"));
    loops
        .filter_map(|entry| look_at(&entry.path(), pool))
        .collect()
}

/// Nothing if the device has no file of the pool, or is read-only.
fn look_at(device: &Path, pool: &Path) -> Option<Writable> {
    let read = |name: &str| fs::read_to_string(device.join(name)).ok();
    let file = PathBuf::from(read("loop/backing_file")?.trim_end());
    let is_ours = file.starts_with(pool) && read("ro")?.trim() == "0";
    is_ours.then_some(Writable {
        device: device.file_name()?.to_string_lossy().into_owned(),
        sequence: read("diskseq")?,
        file,
    })
}

#[test]
fn the_watcher_sees_what_is_attached_twice() {
    let pool = crate::support::TestPool::new();
    pool.lovol("create a 20M --fs ext4").ok_any();
    pool.lovol("snapshot a@s").ok_any();
    pool.lovol("attach a").ok_any();
    pool.lovol("attach a@s").ok_any();
    assert_eq!(wrongly_attached(pool.path()), [""; 0]);
    pool.sh("losetup -f $POOL/volumes/a.img");
    let seen = wrongly_attached(pool.path());
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].contains("volumes/a.img: loop"), "{seen:?}");
    pool.sh("losetup -f $POOL/snapshots/a/s.img");
    assert_eq!(wrongly_attached(pool.path()).len(), 2);
}
