//! The ballast: a file of nothing, given up when the pool's filesystem is full.
//!
//! Deleting writes the index first, which takes room that a full filesystem has not.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FallocateFlags};

use crate::pool::INDEX;
use crate::sys::beneath;

const NAME: &str = "ballast";

/// The least that is kept, in bytes.
const LEAST: u64 = 1 << 20;

/// Makes the ballast if it is not there: room for two indexes.  Where there is none, so be it.
pub fn keep_in(dir: impl AsFd) {
    let length =
        |name| rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_size);
    // There may be none, or the index has grown since.
    let is_enough =
        matches!((length(NAME), length(INDEX)), (Ok(own), Ok(index)) if own >= index * 2);
    if !is_enough {
        drop(make(dir.as_fd()));
    }
}

fn make(dir: impl AsFd) -> io::Result<()> {
    let index = rustix::fs::statat(&dir, INDEX, AtFlags::SYMLINK_NOFOLLOW)?;
    let room = u64::try_from(index.st_size).unwrap_or(0) * 2;
    let room = room.next_multiple_of(LEAST).max(LEAST);
    let stat = rustix::fs::fstatvfs(&dir)?;
    // Not even tried: what a failed try has taken comes free only a moment later.
    if stat.f_bavail * stat.f_frsize < room * 2 {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let file = beneath::unnamed(&dir)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, room)?;
    // The smaller one goes only now that there is room for the larger.
    drop_from(&dir)?;
    beneath::link(&file, &dir, NAME)
}

/// Writes, and where the filesystem is full again without the ballast; keeps one for the next time, where
/// there is room.
pub fn make_room_for(dir: impl AsFd, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut written = write();
    if matches!(&written, Err(error) if error.kind() == io::ErrorKind::StorageFull) {
        drop_from(&dir)?;
        written = write();
    }
    keep_in(dir);
    written
}

fn drop_from(dir: impl AsFd) -> io::Result<()> {
    match beneath::unlink(dir, Path::new(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
