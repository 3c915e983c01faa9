//! Who else may change a pool's directory, or put another in its place.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::error::{Context, Error, Result};

/// Write permission for the group and for others.
const OTHERS_WRITE: u32 = 0o022;
/// In such a directory only an entry's owner may rename or remove it.
const STICKY: u32 = 0o1000;

/// Refuses a pool that others than root may write to or replace.
///
/// A parent that others may write to is fine only with the sticky bit, as in `/tmp`: then they
/// can make entries beside the pool, but not take its name.
pub fn check(path: &Path, dir: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(dir).doing("look at", path)?;
    check_one(path, stat.st_uid, stat.st_mode, false)?;
    for parent in path.ancestors().skip(1) {
        let stat = rustix::fs::lstat(parent).doing("look at", parent)?;
        check_one(parent, stat.st_uid, stat.st_mode, true)?;
    }
    Ok(())
}

fn check_one(path: &Path, owner: u32, mode: u32, is_parent: bool) -> Result<()> {
    let unsafe_pool = |why: &str| {
        Err(Error::UnsafePool {
            dir: path.to_owned(),
            why: why.into(),
        })
    };
    if owner != 0 {
        return unsafe_pool("does not belong to root");
    }
    let may_replace = mode & OTHERS_WRITE != 0 && !(is_parent && mode & STICKY != 0);
    if may_replace {
        return unsafe_pool("may be written to by others than root");
    }
    Ok(())
}
