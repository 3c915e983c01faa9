//! A mounted volume whose image has hints, and a file in it that is written at random.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lovol::sys::ioctl;

use crate::random::next;
use crate::support::TestPool;

const MIB: usize = 1 << 20;

/// One sync for so many writes, as databases do it.
const SYNC: u64 = 32;

/// What xfs_io(8) sets; `0` is none.
#[derive(Clone, Copy)]
pub(crate) struct Hints {
    pub(crate) extsize: &'static str,
    pub(crate) cowextsize: &'static str,
}

impl Hints {
    pub(crate) const NONE: Self = Self::all("0");

    /// For allocating what is written where there was nothing; XFS takes the larger of the two
    /// hints where it copies on write.
    pub(crate) const fn all(extsize: &'static str) -> Self {
        Self {
            extsize,
            cowextsize: "0",
        }
    }

    /// For copying on write only.
    pub(crate) const fn cow(cowextsize: &'static str) -> Self {
        Self {
            extsize: "0",
            cowextsize,
        }
    }
}

/// Aligned, as direct I/O wants it.
#[repr(align(4096))]
struct Buffer([u8; MIB]);

static DATA: Buffer = Buffer([0xA5; MIB]);

/// The volume, mounted, and its file, opened for direct I/O.
pub(crate) struct Fragmented {
    pub(crate) name: String,
    pub(crate) hints: Hints,
    dir: PathBuf,
    image: PathBuf,
    file: File,
    random: u64,
}

impl Fragmented {
    pub(crate) const BLOCK: u64 = 4096;
    /// The file's size.
    pub(crate) const SIZE: u64 = Self::BLOCKS * Self::BLOCK;
    pub(crate) const BLOCKS: u64 = 8192;

    /// The file is empty.
    pub(crate) fn new(pool: &TestPool, name: &str, fs: &str, hints: Hints) -> Self {
        let dir = pool.dir(name);
        let image = pool.image(name);
        // As lovol makes them.
        let blocks = match fs {
            "ext4" => "-b 4096",
            _ => "-s size=4096",
        };
        // The hint for allocating can only be set while there is nothing in the file.
        pool.lovol(&format!("create {name} 600M --fs none"))
            .ok_any();
        pool.sh(&format!(
            "xfs_io -c 'extsize {}' -c 'cowextsize {}' {}
             mkfs.{fs} -q {blocks} {}
             lovol mount {name} {}",
            hints.extsize,
            hints.cowextsize,
            image.display(),
            image.display(),
            dir.display()
        ));
        let file = open_new(&dir.join("data"));
        Self {
            name: name.to_owned(),
            hints,
            dir,
            image,
            file,
            random: 42,
        }
    }

    /// Writes the whole file from its beginning to its end.
    pub(crate) fn fill(&self) {
        write_sequentially(&self.file);
    }

    /// Writes another file from its beginning to its end.
    pub(crate) fn write_another(&self, name: &str) -> Duration {
        let file = open_new(&self.dir.join(name));
        let started = Instant::now();
        write_sequentially(&file);
        started.elapsed()
    }

    /// Writes so many blocks, each somewhere in the first `within`.
    pub(crate) fn write(&mut self, count: u64, within: u64) -> Duration {
        let blocks: Vec<u64> = (0..count)
            .map(|_| next(&mut self.random) % within)
            .collect();
        self.write_blocks(blocks)
    }

    /// Writes the blocks of one part of `parts`, which lie all over the file, each once.
    pub(crate) fn write_part(&self, part: u64, parts: u64) -> Duration {
        // Odd, so that it reaches each block; large, so that it jumps about.
        let scattered = |number: u64| number * 5_000_011 % Self::BLOCKS;
        let count = Self::BLOCKS / parts;
        self.write_blocks((part * count..(part + 1) * count).map(scattered))
    }

    fn write_blocks(&self, blocks: impl IntoIterator<Item = u64>) -> Duration {
        let started = Instant::now();
        let block = &DATA.0[..4096];
        for (count, number) in (1..).zip(blocks) {
            self.file.write_all_at(block, number * Self::BLOCK).unwrap();
            if count % SYNC == 0 {
                self.file.sync_data().unwrap();
            }
        }
        self.file.sync_data().unwrap();
        started.elapsed()
    }

    /// Reads the file from its beginning to its end.
    #[allow(
        clippy::large_stack_arrays,
        reason = "nothing else in safe Rust is aligned"
    )]
    pub(crate) fn read(&self) -> Duration {
        let mut buffer = Box::new(Buffer([0; MIB]));
        let started = Instant::now();
        for at in (0..Self::SIZE).step_by(MIB) {
            self.file.read_exact_at(&mut buffer.0, at).unwrap();
        }
        started.elapsed()
    }

    /// How many extents the image has.
    pub(crate) fn extents(&self) -> u64 {
        ioctl::extent_count(File::open(&self.image).unwrap()).unwrap()
    }

    /// What the image takes, in bytes, and what is set aside for it.
    pub(crate) fn allocated(&self) -> u64 {
        self.image.metadata().unwrap().blocks() * 512
    }
}

fn open_new(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.custom_flags(libc::O_DIRECT).open(path).unwrap()
}

fn write_sequentially(file: &File) {
    for at in (0..Fragmented::SIZE).step_by(MIB) {
        file.write_all_at(&DATA.0, at).unwrap();
    }
    file.sync_all().unwrap();
}
