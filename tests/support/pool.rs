//! A pool for one test, on an XFS of its own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{Running, bash, finish};
use super::lovol::{Lovol, lovol};
use super::machine::{LoopDevice, Mount, require_root};
use super::scratch::Scratch;

const GIB: u64 = 1 << 30;

/// An XFS with reflinks on a loop device, and a pool on it; all gone when it is dropped.
pub(crate) struct TestPool {
    scratch: Scratch,
    path: PathBuf,
}

impl TestPool {
    /// A pool of 8 GiB, of which nothing is used.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::sized(8 * GIB)
    }

    /// A pool of so many bytes, for those who want to fill it.
    #[track_caller]
    pub(crate) fn sized(bytes: u64) -> Self {
        let pool = Self::filesystem(bytes);
        pool.lovol("init").arg(pool.path()).ok_any();
        pool
    }

    /// A filesystem for a pool, without the pool.
    #[track_caller]
    pub(crate) fn raw() -> Self {
        Self::raw_of(8 * GIB)
    }

    /// The same, of so many bytes.
    #[track_caller]
    pub(crate) fn raw_of(bytes: u64) -> Self {
        Self::filesystem(bytes)
    }

    #[track_caller]
    fn filesystem(bytes: u64) -> Self {
        let pool = Self::unmounted(bytes);
        pool.attach();
        pool
    }

    /// A filesystem for a pool in `$TEMP/pool.xfs`, to be mounted at [`Self::path`] by the test.
    #[track_caller]
    pub(crate) fn unmounted(bytes: u64) -> Self {
        require_root();
        let scratch = Scratch::new();
        let path = scratch.path().join("pool");
        let pool = Self { scratch, path };
        File::create(pool.temp().join("pool.xfs"))
            .unwrap()
            .set_len(bytes)
            .unwrap();
        pool.sh("mkfs.xfs -q -K -m reflink=1,rmapbt=1 $TEMP/pool.xfs");
        pool.dir("pool");
        pool
    }

    #[track_caller]
    fn attach(&self) {
        self.sh("mount $(losetup --find --show --direct-io=on $TEMP/pool.xfs) $POOL");
        fs::set_permissions(&self.path, Permissions::from_mode(0o755)).unwrap();
    }

    /// lovol on this pool, in [`Self::temp`].
    pub(crate) fn lovol(&self, words: &str) -> Lovol {
        lovol(words)
            .env("LOVOL_POOL", &self.path)
            .within(self.temp())
    }

    /// A bash script that knows `$POOL`, `$TEMP` and `lovol`; returns what it printed, trimmed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let mut command = bash(script);
        command
            .env("POOL", &self.path)
            .env("LOVOL_POOL", &self.path)
            .env("TEMP", self.temp());
        finish(command.current_dir(self.temp())).expect_success()
    }

    /// The same, returning while it runs.
    #[track_caller]
    pub(crate) fn start(&self, script: &str) -> Running {
        let mut command = bash(script);
        command
            .env("POOL", &self.path)
            .env("LOVOL_POOL", &self.path)
            .env("TEMP", self.temp());
        Running::start(command.current_dir(self.temp()), Vec::new())
    }

    /// A volume that is mounted at a directory of its own name, which is returned.
    #[track_caller]
    pub(crate) fn mounted(&self, name: &str, size_and_options: &str) -> PathBuf {
        let dir = self.dir(name);
        self.lovol(&format!("create {name} {size_and_options}"))
            .ok_any();
        self.lovol("mount").arg(name).arg(&dir).ok_any();
        dir
    }

    /// The pool's directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The temporary directory that all of it lies in: not a pool, and perhaps without reflinks.
    pub(crate) fn temp(&self) -> &Path {
        self.scratch.path()
    }

    /// A directory to mount on, beside the pool; made if it is not there.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let dir = self.temp().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn image(&self, volume: &str) -> PathBuf {
        self.path.join(format!("volumes/{volume}.img"))
    }

    pub(crate) fn snapshot_image(&self, volume: &str, snapshot: &str) -> PathBuf {
        self.path.join(format!("snapshots/{volume}/{snapshot}.img"))
    }

    /// What is left on the pool's filesystem.
    pub(crate) fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// The loop devices on images of this test; not the pool's own.
    pub(crate) fn loops(&self) -> Vec<LoopDevice> {
        let mut loops = self.scratch.loops();
        loops.retain(|device| device.file != self.temp().join("pool.xfs"));
        loops
    }

    /// The mounts of this test; not the pool itself.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let mut mounts = self.scratch.mounts();
        mounts.retain(|mount| mount.dir != self.path);
        mounts
    }
}
