//! Making a pool in a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, XattrFlags};
use uuid::Uuid;

use crate::error::{Context, Error, Result};
use crate::index::{Index, VERSION};
use crate::plan::{Observer, Step};
use crate::pool::abilities::Abilities;
use crate::pool::{INDEX, Settings, ballast, edit, safety};
use crate::record::XATTR;
use crate::shares;
use crate::sys::beneath;

/// Lies beneath the mount point of a pool that has a filesystem of its own.
pub(super) const MARKER: &str = "LOVOL-POOL-IS-NOT-MOUNTED";

pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).doing("open", dir)
}

/// Makes a pool in `dir`, which may exist if it is empty.
///
/// # Errors
/// [`Error::NotForPools`] where the filesystem lacks something; nothing is left then.
pub fn make(dir: &Path, observer: &dyn Observer) -> Result<Abilities> {
    let made = MadeDirs::make(dir)?;
    let abilities = make_in(dir, observer)?;
    made.keep();
    Ok(abilities)
}

pub(super) fn make_in(dir: &Path, observer: &dyn Observer) -> Result<Abilities> {
    let fd = open_dir(dir)?;
    // Another lovol's half-made pool must not be taken for a killed one's.
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).doing("lock", dir)?;
    must_be_empty(dir)?;
    safety::check(&dir.canonicalize().doing("find", dir)?, &fd)?;
    let abilities = Abilities::try_in(dir)?;
    if let Some(lacks) = abilities.lacks() {
        return Err(Error::NotForPools {
            dir: dir.to_owned(),
            fstype: abilities.fstype,
            lacks: lacks.into(),
        });
    }
    observer.begin(&Step::MakePool {
        dir: dir.to_owned(),
    });
    empty(&fd);
    fill(&fd).map_err(|error| {
        empty(&fd);
        Error::io("make the pool", dir, error)
    })?;
    Ok(abilities)
}

/// Makes what a pool consists of; the settings, by which it is known as one, last.
fn fill(dir: &OwnedFd) -> io::Result<()> {
    for name in DIRECTORIES {
        rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    drop(rustix::fs::openat(
        dir,
        "lock",
        flags,
        Mode::RUSR | Mode::WUSR,
    )?);
    let settings = Settings {
        version: VERSION,
        uuid: Uuid::new_v4(),
        values: BTreeMap::new(),
        extra: serde_json::Map::new(),
    };
    edit::write_index_in(dir, &Index::new(settings.uuid))?;
    ballast::keep_in(dir);
    rustix::fs::fchmod(dir, Mode::from_raw_mode(0o755))?;
    rustix::fs::fsetxattr(
        dir,
        XATTR,
        &serde_json::to_vec(&settings)?,
        XattrFlags::empty(),
    )?;
    beneath::sync(dir)
}

/// What lies in a pool's directory.
pub const DIRECTORIES: [&str; 3] = ["volumes", "snapshots", "trash"];
/// See [`DIRECTORIES`].
pub const FILES: [&str; 5] = [
    "lock",
    "ballast",
    INDEX,
    edit::NEW_INDEX,
    shares::cache::NAME,
];

fn empty(dir: &OwnedFd) {
    use rustix::fs::unlinkat;
    for name in DIRECTORIES {
        let _ = unlinkat(dir, name, AtFlags::REMOVEDIR);
    }
    for name in FILES {
        let _ = unlinkat(dir, name, AtFlags::empty());
    }
}

/// What makes a directory no place for a new pool; what a killed one has left is in nobody's way.
pub fn must_be_empty(dir: &Path) -> Result<()> {
    let fd = open_dir(dir)?;
    must_be_mounted(dir, &fd)?;
    let what = || format!("cannot make a pool at {}", dir.display());
    if crate::record::read_xattr(&fd)
        .doing("look at", dir)?
        .is_some()
    {
        return Err(Error::refused(what(), "it is a pool already").with_hint(
            "'lovol list' shows what is in it; 'lovol init --loop +50G' makes one that is on an image larger",
        ));
    }
    let names = beneath::names(&fd, ".").doing("read", dir)?;
    if is_half_made(&fd, &names) {
        return Ok(());
    }
    // A new XFS is empty; a new ext4 or an old disk's root has this one.
    match names.iter().find(|name| *name != "lost+found") {
        Some(name) => Err(Error::refused(what(), format!("it is not empty ({name})"))),
        None => Ok(()),
    }
}

/// Whether this is what [`fill`] leaves when it is killed: the first parts of a pool, with nothing in
/// them.  What may be anybody's is not taken for that.
fn is_half_made(dir: &OwnedFd, names: &[String]) -> bool {
    let has = |name: &str| names.iter().any(|other| other == name);
    let is_nothing_in = |name: &str| beneath::names(dir, name).is_ok_and(|names| names.is_empty());
    let read = |name: &str| -> io::Result<String> {
        // Whose it is, is not known yet, and opening a FIFO would wait.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(beneath::open(dir, name, flags)?);
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        io::read_to_string(file)
    };
    let is_empty_index = |name: &str| {
        let index = read(name).map(|text| serde_json::from_str::<Index>(&text));
        matches!(index, Ok(Ok(index)) if index.volumes.is_empty() && index.trash.is_empty())
    };
    has("volumes")
        && names.iter().all(|name| match name.as_str() {
            "volumes" | "snapshots" | "trash" => is_nothing_in(name),
            "lock" => read(name).is_ok_and(|text| text.is_empty()),
            INDEX | edit::NEW_INDEX => is_empty_index(name),
            "ballast" => has(INDEX),
            "lost+found" => true,
            _ => false,
        })
}

/// Fails when the marker shows that the pool's own filesystem is not mounted here.
pub fn must_be_mounted(path: &Path, dir: &OwnedFd) -> Result<()> {
    let marker = match beneath::open(dir, MARKER, OFlags::RDONLY | OFlags::NOFOLLOW) {
        Ok(fd) => File::from(fd),
        Err(_) => return Ok(()),
    };
    let text = io::read_to_string(marker).unwrap_or_default();
    let image = text.lines().next().map(PathBuf::from).unwrap_or_default();
    Err(Error::PoolNotMounted {
        dir: path.to_owned(),
        image,
    })
}

/// Directories that were made on the way, removed again unless kept.
pub(crate) struct MadeDirs {
    dirs: Vec<PathBuf>,
}

impl MadeDirs {
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .take_while(|dir| !dir.exists())
            .map(Path::to_owned)
            .collect();
        let mut made = Self { dirs: Vec::new() };
        for dir in missing.into_iter().rev() {
            std::fs::create_dir(&dir).doing("make", &dir)?;
            made.dirs.push(dir);
        }
        Ok(made)
    }

    pub(crate) fn keep(mut self) {
        self.dirs.clear();
    }
}

impl Drop for MadeDirs {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            drop(std::fs::remove_dir(dir));
        }
    }
}
