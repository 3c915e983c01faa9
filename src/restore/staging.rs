//! The directory that a copy is made in: beside its destination, and closed to all but root.
//!
//! A copy with many files has no way to be without a name until it is whole.  What a killed `restore` leaves
//! of it is taken away by the next one beside it: its lock is free then, and its process is gone.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::sys::beneath;
use crate::sys::tool::Tool;

const RM: Tool = Tool {
    program: "rm",
    package: "coreutils",
};

/// Before the number of the process in its name.
const PREFIX: &str = ".lovol-restore-";

/// What is copied is called so in there.
pub(super) const WHOLE: &str = "whole";

/// A directory of ours; removed with all that is in it.
pub(super) struct Staging<'d> {
    outer: &'d OwnedFd,
    name: OsString,
    pub(super) inner: OwnedFd,
}

impl<'d> Staging<'d> {
    /// Makes one in `outer`, where `to` is to be.
    pub(super) fn make(outer: &'d OwnedFd, to: &Path) -> Result<Self> {
        let name = OsString::from(format!("{PREFIX}{}", std::process::id()));
        // Fails where somebody has put something there, a symlink for example.
        rustix::fs::mkdirat(outer, &name, Mode::RWXU).doing("make a directory beside", to)?;
        match open(outer, &name) {
            Ok(Some(inner)) => Ok(Self { outer, name, inner }),
            Ok(None) => Err(Error::refused(
                format!("cannot restore to {}", to.display()),
                "somebody has put another directory in the place of lovol's own",
            )),
            Err(error) => {
                let _ = rustix::fs::unlinkat(outer, &name, AtFlags::REMOVEDIR);
                Err(Error::io("open the directory beside", to, error.into()))
            }
        }
    }

    /// Takes away what the dead have left in `outer`; what cannot be is left.
    pub(super) fn sweep(outer: &'d OwnedFd) {
        let Ok(entries) = Dir::read_from(outer) else {
            return;
        };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if !is_of_the_dead(name) {
                continue;
            }
            if let Ok(Some(inner)) = open(outer, name) {
                let name = name.to_owned();
                drop(Self { outer, name, inner });
            }
        }
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let remove = || rustix::fs::unlinkat(self.outer, &self.name, AtFlags::REMOVEDIR);
        // Empty, once what was in it has its name.
        if remove().is_ok() {
            return;
        }
        let left = Path::new(&beneath::fd_path_for_tools(&self.inner)).join(WHOLE);
        drop(RM.run(&["-rf".as_ref(), "--".as_ref(), left.as_os_str()], &[0]));
        let _ = remove();
    }
}

/// Between making it and its lock it may be taken for one of the dead: not while its process is seen.
fn is_of_the_dead(name: &OsStr) -> bool {
    let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Opens one that is root's, closed to others, and in nobody's use; locks it.
fn open(outer: impl AsFd, name: &OsStr) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(outer, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&inner)?;
    if stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
        return Ok(None);
    }
    rustix::fs::flock(&inner, FlockOperation::NonBlockingLockExclusive)?;
    Ok(Some(inner))
}
