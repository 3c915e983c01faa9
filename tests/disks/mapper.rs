//! Devices of the device mapper.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{TestPool, sh};

/// A mapped device, removed when it is dropped; whatever is mounted from it must be gone by then.
pub(crate) struct Mapped {
    name: String,
}

impl Mapped {
    /// A device of the size of `under`, with one target over all of it: `log-writes /dev/loop0 ...`.
    #[track_caller]
    pub(crate) fn new(under: &Path, target: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("lovol-test.{}.{number}", std::process::id());
        require(target.split(' ').next().unwrap());
        let table = table(under, target);
        sh(&format!(
            "dmsetup create --verifyudev {name} --table '{table}'"
        ));
        Self { name }
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Puts another target in its place, at once: what is mounted is neither flushed nor frozen.
    #[track_caller]
    pub(crate) fn turn_into(&self, under: &Path, target: &str) {
        let Self { name } = self;
        let table = table(under, target);
        sh(&format!(
            "dmsetup load {name} --table '{table}'; dmsetup suspend --nolockfs --noflush {name}; dmsetup resume {name}"
        ));
    }

    /// Says something to its target.
    #[track_caller]
    pub(crate) fn message(&self, text: &str) {
        sh(&format!("dmsetup message {} 0 {text}", self.name));
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut remove = Command::new("dmsetup");
        remove.args(["remove", "--retry", &self.name]).status().ok();
    }
}

/// Unmounts what is mounted at these directories of the test, if it is, so that its disk can go.
pub(crate) fn unmount(pool: &TestPool, dirs: &[&str]) {
    for dir in dirs {
        let mut umount = Command::new("umount");
        let dir = pool.temp().join(dir);
        umount
            .arg("--quiet")
            .arg(dir)
            .stderr(Stdio::null())
            .status()
            .ok();
    }
}

#[track_caller]
fn table(under: &Path, target: &str) -> String {
    let sectors = sh(&format!("blockdev --getsz {}", under.display()));
    format!("0 {sectors} {target}")
}

/// Fails, and says where it can be had, if the kernel does not know this kind of target.
#[track_caller]
fn require(kind: &str) {
    let known = sh(&format!(
        "modprobe --quiet dm-{kind} 2>/dev/null || true; dmsetup targets || true"
    ));
    let is_it = |line: &str| line.split_whitespace().next() == Some(kind);
    assert!(
        known.lines().any(is_it),
        "this kernel has no dm-{kind}: make check-6.1 runs one that has"
    );
}
