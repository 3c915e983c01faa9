//! What is measured on: a lovol volume and a btrfs subvolume, side by side on one disk.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lovol::sys::ioctl;

use crate::numbers::timed;
use crate::support::TestPool;

const BLOCK: u64 = 4096;

/// What is written.
const DATA: [u8; 4096] = [0xA5; 4096];
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A mounted volume `home` and a mounted subvolume `home`, on loop devices of the same kind.
pub(crate) struct Bed {
    pub(crate) pool: TestPool,
    /// Where the volume is mounted.
    pub(crate) volume: PathBuf,
    btrfs: PathBuf,
    /// The subvolume.
    pub(crate) subvolume: PathBuf,
}

impl Bed {
    /// With so many extents in the volume's image, and in a file of the subvolume.
    pub(crate) fn new(extents: u64) -> Self {
        let room = 4 * extents * BLOCK;
        // Far more than is used: each allocation group sets room aside for the records of who shares
        // its blocks (rmapbt), in proportion to its size, and here all share all in one of them.
        let pool = TestPool::sized(8 * GIB + 24 * room);
        let volume = pool.dir("volume");
        let btrfs = pool.dir("btrfs");
        let subvolume = btrfs.join("home");

        pool.lovol(&format!("create home {}M", (GIB + room) / MIB))
            .ok_any();
        pool.lovol("mount home").arg(&volume).ok_any();
        pool.sh(&format!(
            "truncate -s {} btrfs.img
             mkfs.btrfs -q btrfs.img
             mount $(losetup --find --show --direct-io=on btrfs.img) btrfs
             btrfs -q subvolume create btrfs/home",
            2 * GIB + room
        ));

        let bed = Self {
            pool,
            volume,
            btrfs,
            subvolume,
        };
        bed.fill(extents);
        bed
    }

    /// Fragments a file as time does: it is written, there is a snapshot, and some of its blocks
    /// are written again.  Here every other one, so that each block is an extent of its own.
    fn fill(&self, extents: u64) {
        let files =
            [&self.volume, &self.subvolume].map(|dir| File::create_new(dir.join("data")).unwrap());
        for file in &files {
            write_blocks(file, 0..extents);
        }
        timed(&mut self.lovol_snapshot("first"));
        timed(&mut self.btrfs_snapshot("first"));
        for file in &files {
            write_blocks(file, (0..extents).step_by(2));
        }
    }

    /// How many extents there really are: in the image, and in the subvolume's file.
    pub(crate) fn extents(&self) -> (u64, u64) {
        let count = |path: &Path| ioctl::extent_count(File::open(path).unwrap()).unwrap();
        (
            count(&self.pool.image("home")),
            count(&self.subvolume.join("data")),
        )
    }

    /// `lovol snapshot -J home@NAME`
    pub(crate) fn lovol_snapshot(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
        command
            .args(["snapshot", "-J", &format!("home@{name}")])
            .env("LOVOL_POOL", self.pool.path());
        command
    }

    /// The same where the kernel does not let it follow what is written: strace refuses that one
    /// call, and is woken for no other.
    pub(crate) fn lovol_snapshot_untracked(&self, name: &str) -> Command {
        let snapshot = self.lovol_snapshot(name);
        let mut command = Command::new("strace");
        command
            .args([
                "--follow-forks",
                "--seccomp-bpf",
                "--quiet=all",
                "--output=/dev/null",
            ])
            .arg("--inject=perf_event_open:error=EACCES")
            .arg(snapshot.get_program())
            .args(snapshot.get_args())
            .env("LOVOL_POOL", self.pool.path());
        command
    }

    /// `btrfs subvolume snapshot -r home home@NAME`
    pub(crate) fn btrfs_snapshot(&self, name: &str) -> Command {
        let mut command = Command::new("btrfs");
        command
            .args(["subvolume", "snapshot", "-r"])
            .arg(&self.subvolume)
            .arg(self.btrfs.join(format!("home@{name}")));
        command
    }

    /// A new file beside the volumes of the pool, for a clone that lovol knows nothing of.
    pub(crate) fn new_file(&self, name: &str) -> File {
        let dir = self.pool.path().join("bench");
        fs::create_dir_all(&dir).unwrap();
        File::create(dir.join(name)).unwrap()
    }
}

fn write_blocks(file: &File, blocks: impl Iterator<Item = u64>) {
    for block in blocks {
        file.write_all_at(&DATA, block * BLOCK).unwrap();
    }
    file.sync_all().unwrap();
}
