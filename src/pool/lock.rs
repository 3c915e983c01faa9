//! Locks: `flock(2)`, which ends with its process, waited for with a limit.
//!
//! The pool's lock is held for moments: to read, decide and commit.  Long work holds its volume:
//! the lock is on an open of the image that is made for nothing else, because a loop device that
//! got the locked description would keep the lock after us.  Volumes are locked before the pool,
//! several of them in the order of their names, so that no two lovols wait for each other.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};

use crate::error::{Context, Error, Result};
use crate::pool::{Place, Pool};
use crate::sys::beneath;
use crate::sys::holders;
use crate::sys::ioctl;
use crate::sys::loopdev::FileId;

/// How long to wait for others that only look at an image before a lease is refused.
const GLANCE: Duration = Duration::from_secs(1);

/// The same for another lovol: `du` and `df` read the maps of all images.
const SWEEP: Duration = Duration::from_secs(30);

/// A held lock; ends when dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits for the pool's lock.
    pub fn of_pool(pool: &Pool) -> Result<Self> {
        let path = pool.path().join("lock");
        let open = || {
            beneath::open_ours(pool.dir(), "lock", pool.device(), OFlags::RDWR).doing("open", &path)
        };
        wait(
            &format!("the pool {}", pool.path().display()),
            pool.wait,
            open,
        )
    }

    /// Waits until nobody else is being promised room: for moments, while it is decided.
    pub fn of_claims(pool: &Pool) -> Result<Self> {
        let path = pool.path().join("volumes");
        let open = || {
            let dir = beneath::open_dir(pool.dir(), "volumes").doing("open", &path)?;
            Ok(File::from(dir))
        };
        let what = format!("room in the pool {}", pool.path().display());
        wait(&what, pool.wait, open)
    }

    /// Waits for the lock of one image, which must still be at its place then.
    pub fn of_image(pool: &Pool, place: &Place) -> Result<Self> {
        // Not kept open while waiting: an open image is one that a lease is refused for.
        // For reading, so that it does not look as if somebody wrote to it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let lock = wait(&place.to_string(), pool.wait, || {
            pool.open_settled_image(place, flags)
        })?;
        // A rollback or rename may have put another image here while we waited.
        lock.must_be_of(pool, place)?;
        Ok(lock)
    }

    /// Whether somebody holds the lock of an image: then what is half done there is under way.
    pub fn is_held(pool: &Pool, place: &Place) -> bool {
        // Somebody who holds a lease on it is at work as well.
        let file = match pool.open_image(place, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => file,
            Err(error) => return error.errno() == Some(libc::EWOULDBLOCK),
        };
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// Fails when another image lies at the place of the locked one by now.
    pub fn must_be_of(&self, pool: &Pool, place: &Place) -> Result<()> {
        if FileId::of(&self.0).doing("look at", pool.full_path(place))? == pool.image_id(place)? {
            return Ok(());
        }
        Err(replaced(place))
    }

    /// Makes sure that nothing else has the locked image open, and keeps it so (`F_SETLEASE`).
    ///
    /// Whoever opens it meanwhile waits until we are done.
    pub fn lease(&self, what: &str) -> Result<()> {
        lease(&self.0, what)
    }

    /// Makes sure that nothing else has the locked image open at this moment.
    pub fn must_be_alone(&self, what: &str) -> Result<()> {
        self.lease(what)?;
        ioctl::end_lease(&self.0).doing("end the lease of", what)
    }
}

/// Makes sure that nothing else has the file of `file` open, and keeps it so until that is closed.
///
/// Another lovol that looks at all images is waited for longer than others are.
pub fn lease(file: &File, what: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        match ioctl::write_lease(file) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                let waited = started.elapsed();
                if waited > SWEEP || waited > GLANCE && !is_looked_at_by_lovol(file) {
                    return Err(in_use(file, what));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(Error::io("lease", what, error)),
        }
    }
}

fn is_looked_at_by_lovol(file: &File) -> bool {
    let users = FileId::of(file).map(holders::of_file).unwrap_or_default();
    !users.is_empty() && users.iter().all(|user| user.starts_with("lovol, "))
}

fn in_use(file: &File, what: &str) -> Error {
    let by = FileId::of(file).map(holders::of_file).unwrap_or_default();
    let by = if by.is_empty() {
        vec!["something in the kernel has it open".into()]
    } else {
        by
    };
    Error::InUse {
        what: what.to_owned(),
        by,
        hint: None,
    }
}

/// What lies at a place is not what was locked.
pub fn replaced(place: &Place) -> Error {
    Error::refused(format!("cannot lock {place}"), "it was replaced meanwhile")
        .with_hint("try again")
}

/// Opens and tries to lock, again and again, until `limit` has passed.
fn wait(what: &str, limit: Duration, open: impl Fn() -> Result<File>) -> Result<Lock> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        let holder = match open() {
            Ok(file) => match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => FileId::of(&file).ok(),
                Err(error) => return Err(Error::io("lock", what, error.into())),
            },
            // Somebody holds a lease on it.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => return Err(error),
        };
        if started.elapsed() >= limit {
            return Err(Error::Locked {
                what: what.to_owned(),
                holder: holder.and_then(holders::of_lock),
                waited: limit,
            });
        }
        std::thread::sleep(pause.min(limit.saturating_sub(started.elapsed())));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
