//! How many pieces (extents) an image is in, and how XFS is asked to make few of them.
//!
//! Each extent costs a snapshot some tens of microseconds before the freeze, and about one in it, so
//! fragmentation is what makes reflinks slow.  Nothing but rewriting an image mends it: what a
//! snapshot shares stays where it is.  XFS takes two hints against it, and lovol gives one of them to
//! new volumes, clones included: [`SIZE_HINT`].
//!
//! The figures are of `cargo bench --bench stall -- fragments`, in a virtual machine with 2 cores
//! and one virtual disk, Linux 6.18, an ext4 guest, a file of 32 MiB; times are ratios to no hint in
//! the same run.  An xfs guest has about the same extents.
//!
//! # Where nothing is yet: `extsize`, 128 KiB
//! The image is a hole at first, and direct writes are allocated one by one, each wherever there is
//! room.  With the hint a whole aligned piece is allocated for the first of them; what is not
//! written yet in it is marked as such, and is one extent with the rest when it is
//! (xfs_bmap_extsize_align).  Random 4 KiB writes, each block of a new file once:
//!
//! ```text
//! extsize  extents/GiB  allocated  writes/s   read  sequential writes/s
//! none          262528      151 %     1.00x  1.00x                1.00x
//! 64k            17184      152 %     1.13x  2.50x                0.97x
//! 128k            9024      153 %     1.13x  2.82x                0.98x   <- new volumes
//! 256k            4896      156 %     1.18x  2.96x                1.00x
//! 1m              1760      168 %     1.17x  3.02x                1.04x
//! ```
//!
//! Larger pieces are worth little more and take room where a guest writes here and there: after mkfs
//! of 200 GiB, ext4 has 1030 MiB allocated, 1042 with 128 KiB and 1145 with 1 MiB.  And where XFS
//! copies on write it takes the larger of both hints, or 128 KiB if there is none
//! (xfs_get_cowextsz_hint): so these 128 KiB change nothing there, and more would.
//!
//! # Where a snapshot shares: `cowextsize`, none
//! The first write to a shared block sets an aligned piece of so many bytes aside, and its
//! neighbours, when they are written, go there too.  *First room* is what the pool loses in the
//! first hour, compared with what is written.  50 snapshots, between two of them random 4 KiB
//! writes to 2 % of the file:
//!
//! ```text
//! extsize cowextsize  extents/GiB  allocated  first room  writes/s   read  snapshot's time
//! none    none             185664      209 %       24.6x     1.00x  1.00x            1.00x
//! none    4k               229056      151 %        1.0x     0.95x  0.91x            1.24x
//! none    64k              186624      208 %       13.5x     1.00x  1.00x            1.05x
//! none    256k             185088      210 %       35.0x     1.01x  1.00x            0.97x
//! none    1m               184736      215 %       50.3x     1.05x  0.98x            1.04x
//! none    2m               184608      231 %       56.6x     1.04x  1.03x            0.99x
//! 64k     none             186880      209 %       13.5x     1.02x  1.02x            1.02x
//! 128k    none             185856      210 %       24.6x     1.04x  1.01x            1.01x   <-
//! 256k    none             185312      214 %       35.0x     1.00x  1.01x            0.96x
//! 1m      none             184928      230 %       50.3x     1.01x  1.04x            1.04x
//! ```
//!
//! 12 snapshots, between two of them as many random writes as twice a 16th of the file has blocks,
//! all into that 16th:
//!
//! ```text
//! extsize cowextsize  extents/GiB  allocated  first room  writes/s   read  snapshot's time
//! none    none               7520      154 %        0.6x     1.00x  1.00x            1.00x
//! none    4k                16800      151 %        0.4x     0.91x  0.92x            1.72x
//! none    64k                7744      153 %        0.5x     0.99x  0.97x            0.97x
//! none    256k               7392      156 %        0.6x     0.96x  0.99x            1.06x
//! none    1m                 7392      167 %        0.8x     0.99x  0.99x            0.99x
//! none    2m                 7392      177 %        1.5x     1.06x  0.99x            1.02x
//! 64k     none               8000      154 %        0.5x     0.96x  0.99x            1.05x
//! 128k    none               7712      155 %        0.6x     0.97x  0.98x            1.05x   <-
//! 256k    none               7616      160 %        0.6x     0.98x  0.96x            1.10x
//! 1m      none               7584      181 %        0.8x     0.98x  0.96x            1.05x
//! ```
//!
//! So the 128 KiB that XFS takes by itself are worth having, and more are not: single blocks here and
//! there stay extents of their own, however much is set aside around each.  What is set aside
//! is lost to others, too: newer kernels (xfs_prep_free_cowblocks of 6.12.117, and 6.18 here) leave
//! it to an image that is open for writing, even when the pool is full and a write fails for it.
//! Where it is given back before each snapshot, as older kernels do after five minutes, the first
//! table has 227000 to 229000 extents in each line.
//!
//! A clone is made by ranges, for which XFS carries no hint over: it is given its own.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Context, Result};
use crate::pool::{Place, Pool};
use crate::sys::ioctl;

/// In what pieces XFS is asked to allocate a new volume's image, in bytes: see the tables above.
pub const SIZE_HINT: u32 = 128 << 10;

/// From so many extents on, `show` warns: the first pass of a snapshot takes a minute, and the one
/// inside the freeze a second.
pub const MANY: u64 = 1_000_000;

/// statfs(2)'s names for the filesystems whose tools are known.
pub(crate) const XFS_SUPER_MAGIC: i64 = 0x5846_5342;
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
