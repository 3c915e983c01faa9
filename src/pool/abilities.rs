//! What a directory's filesystem can do: tried, never guessed from its name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, XattrFlags};
use serde::Serialize;

use crate::error::{Context, Result};
use crate::pool::init::open_dir;
use crate::record::XATTR;
use crate::sys::{beneath, ioctl, mountinfo};

/// What a directory's filesystem turned out to be able to do.
#[derive(Clone, Debug, Serialize)]
pub struct Abilities {
    /// Its type, as the mount table has it: for showing only, nothing is decided by it.
    pub fstype: String,
    /// A clone of two blocks shared them.
    pub reflink: bool,
    /// A file could be read and written past the page cache.
    pub direct_io: bool,
    /// A hole could be punched.
    pub punch_hole: bool,
    /// A user xattr could be set.
    pub xattr: bool,
}

impl Abilities {
    /// Tries each on files without names in `dir`.
    pub fn try_in(dir: &Path) -> Result<Self> {
        let fd = open_dir(dir)?;
        let new_file = || beneath::unnamed(&fd).doing("make a file in", dir);
        let (source, destination) = (new_file()?, new_file()?);
        source
            .write_all_at(&[0x5a; 8192], 0)
            .doing("write in", dir)?;
        rustix::fs::fsync(&source).doing("write back in", dir)?;
        Ok(Self {
            fstype: fstype_of(dir)?,
            reflink: can_reflink(&source, &destination),
            direct_io: beneath::reopen(&source, OFlags::RDWR | OFlags::DIRECT).is_ok(),
            punch_hole: can_punch(&source),
            xattr: rustix::fs::fsetxattr(&source, XATTR, b"{}", XattrFlags::empty()).is_ok(),
        })
    }

    /// What a pool needs and this lacks.
    pub fn lacks(&self) -> Option<&'static str> {
        if !self.reflink {
            Some("has no reflinks, or none of 4096 bytes")
        } else if !self.xattr {
            Some("has no user xattrs")
        } else if !self.punch_hole {
            Some("cannot punch holes")
        } else {
            None
        }
    }
}

/// Blocks of 4096 bytes must be clonable one by one, as the guests write them: not so where the
/// filesystem has larger ones.
fn can_reflink(source: &File, destination: &File) -> bool {
    let mut copy = [0; 8192];
    ioctl::clone_range(source, destination, 0, 4096).is_ok()
        && ioctl::clone_range(source, destination, 4096, 4096).is_ok()
        && destination.read_exact_at(&mut copy, 0).is_ok()
        && copy == [0x5a; 8192]
}

fn can_punch(file: &File) -> bool {
    rustix::fs::fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        4096,
    )
    .is_ok()
}

fn fstype_of(dir: &Path) -> Result<String> {
    let table = mountinfo::read()?;
    let found = dir
        .ancestors()
        .find_map(|ancestor| mountinfo::at(&table, ancestor));
    Ok(found.map_or_else(|| "unknown".to_owned(), |entry| entry.fstype.clone()))
}
