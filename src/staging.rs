//! A directory beside a destination outside the pool, closed to all but root, for what needs a name and is
//! not to be seen.
//!
//! A copy of many files has no way to be without a name until it is whole, and an image that is replaced
//! keeps one until the new one is durable.  What a killed lovol leaves in it is taken away by the next that
//! works in the same place: its lock is free then.

use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::{Context, Error, Result};
use crate::sys::beneath;
use crate::sys::tool::Tool;

const RM: Tool = Tool {
    program: "rm",
    package: "coreutils",
};

/// What its name begins with.
const PREFIX: &str = ".lovol-staging-";

/// What is in there is called so.
pub(crate) const WHOLE: &str = "whole";

/// A directory of ours; removed with what is in it.
pub(crate) struct Staging<'d> {
    outer: &'d OwnedFd,
    name: OsString,
    pub(crate) inner: OwnedFd,
}

impl<'d> Staging<'d> {
    /// Makes one in `outer`, where `to` is to be.
    pub(crate) fn make(outer: &'d OwnedFd, to: &Path) -> Result<Self> {
        loop {
            let name = OsString::from(format!("{PREFIX}{}", Uuid::new_v4().simple()));
            rustix::fs::mkdirat(outer, &name, Mode::RWXU).doing("make a directory beside", to)?;
            match open(outer, &name) {
                Ok(Opened::Ours(inner) | Opened::Unlockable(inner))
                    if is_there(outer, &name, &inner) =>
                {
                    return Ok(Self { outer, name, inner });
                }
                // Before it had its lock another lovol has taken it for one of the dead.
                Ok(Opened::Ours(_) | Opened::Unlockable(_))
                | Err(Errno::NOENT | Errno::WOULDBLOCK) => {}
                Ok(Opened::NotOurs) => {
                    let _ = rustix::fs::unlinkat(outer, &name, AtFlags::REMOVEDIR);
                    return Err(Error::refused(
                        format!("cannot make {}", to.display()),
                        "a directory that is made beside it is not root's alone",
                    )
                    .with_hint(
                        "a filesystem without owners and modes cannot keep them: use another",
                    ));
                }
                Err(error) => {
                    let _ = rustix::fs::unlinkat(outer, &name, AtFlags::REMOVEDIR);
                    return Err(Error::io("open the directory beside", to, error.into()));
                }
            }
        }
    }

    /// Gives what is in it a name of its own beside `to`, or leaves all of it there; returns where it is.
    pub(crate) fn keep(self, to: &Path) -> PathBuf {
        let kept = PathBuf::from(format!("{}.kept-{}", to.display(), Uuid::new_v4().simple()));
        let flags = RenameFlags::NOREPLACE;
        let renamed = rustix::fs::renameat_with(&self.inner, WHOLE, self.outer, &kept, flags);
        if renamed.is_ok() {
            return kept;
        }
        let staging = ManuallyDrop::new(self);
        Path::new(&staging.name).join(WHOLE)
    }

    /// Takes away what the dead have left in `outer`; what cannot be is left.
    pub(crate) fn sweep(outer: &'d OwnedFd) {
        let Ok(entries) = Dir::read_from(outer) else {
            return;
        };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            if let Ok(Opened::Ours(inner)) = open(outer, name) {
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
        // A file needs no tool.
        let _ = rustix::fs::unlinkat(&self.inner, WHOLE, AtFlags::empty());
        if remove().is_ok() {
            return;
        }
        let left = Path::new(&beneath::fd_path_for_tools(&self.inner)).join(WHOLE);
        drop(RM.run(&["-rf".as_ref(), "--".as_ref(), left.as_os_str()], &[0]));
        let _ = remove();
    }
}

enum Opened {
    /// Root's, closed to others, in nobody's use, and locked.
    Ours(OwnedFd),
    /// The same on a filesystem without locks.
    Unlockable(OwnedFd),
    NotOurs,
}

fn open(outer: impl AsFd, name: &OsStr) -> rustix::io::Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(outer, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&inner)?;
    if stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
        return Ok(Opened::NotOurs);
    }
    match rustix::fs::flock(&inner, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Opened::Ours(inner)),
        Err(Errno::WOULDBLOCK) => Err(Errno::WOULDBLOCK),
        Err(_) => Ok(Opened::Unlockable(inner)),
    }
}

/// Whether that is what has the name.
fn is_there(outer: impl AsFd, name: &OsStr, inner: &OwnedFd) -> bool {
    let named = rustix::fs::statat(outer, name, AtFlags::SYMLINK_NOFOLLOW);
    let same = |named: rustix::fs::Stat| {
        rustix::fs::fstat(inner)
            .is_ok_and(|own| (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino))
    };
    named.is_ok_and(same)
}
