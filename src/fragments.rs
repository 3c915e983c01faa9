//! How many pieces an image is in, and when that is too many.
//!
//! TABLE

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Context, Result};
use crate::pool::{Place, Pool};
use crate::sys::ioctl;

/// In what pieces XFS allocates a new volume's image, in bytes.
pub const SIZE_HINT: u32 = 128 << 10;

/// From so many extents on, `show` warns: the first pass of a snapshot takes a minute, and the one
/// inside the freeze a second.
pub const MANY: u64 = 1_000_000;

/// statfs(2)'s names for the filesystems whose tools are known.
const XFS_SUPER_MAGIC: i64 = 0x5846_5342;
const BTRFS_SUPER_MAGIC: i64 = 0x9123_683E;

/// The extents of an image at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// How many there are.
    pub count: u64,
    /// What the image takes, in bytes, with what the filesystem has set aside for its next writes.
    pub allocated: u64,
    /// The tool that makes fewer of them, if the pool's filesystem has one.
    tool: Option<&'static str>,
}

impl Extents {
    /// Asks the pool's filesystem.  Needs root.
    pub fn of_image(pool: &Pool, place: &Place) -> Result<Self> {
        let shown = pool.full_path(place);
        // Nobody is waited for who holds a lease on it.
        let file = pool.open_image(place, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let count = ioctl::extent_count(&file).doing("count the extents of", &shown)?;
        let metadata = file.metadata().doing("look at", &shown)?;
        Ok(Self {
            count,
            allocated: metadata.blocks() * 512,
            tool: tool_for(&file),
        })
    }

    /// What to say about an image that has too many, if it has.
    pub fn warning(&self, volume: &str, image: &Path) -> Option<String> {
        if self.count <= MANY {
            return None;
        }
        let what = format!(
            "{volume} has {} extents, so that snapshots and clones of it take a minute or more",
            self.count
        );
        Some(match self.tool {
            Some(tool) => format!(
                "{what}; while it is not in use, '{tool} {}' makes them few: see lovol-show(8)",
                image.display()
            ),
            None => what,
        })
    }
}

/// How many extents there are to a GiB of what is allocated.
pub fn per_gib(count: u64, allocated: u64) -> Option<u64> {
    let per_gib = (u128::from(count) << 30).checked_div(allocated.into())?;
    u64::try_from(per_gib).ok()
}

/// The program that rewrites a file in few pieces, in the place of its old ones.
fn tool_for(file: impl AsFd) -> Option<&'static str> {
    match rustix::fs::fstatfs(file).ok()?.f_type {
        XFS_SUPER_MAGIC => Some("xfs_fsr"),
        BTRFS_SUPER_MAGIC => Some("btrfs filesystem defragment"),
        _ => None,
    }
}
