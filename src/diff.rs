//! What differs between two trees of one volume: in the order of the paths, in the notation of `zfs diff`.
//!
//! Snapshots of one volume have the same inode for the same file, so a file that was renamed is found
//! again, and one whose inode, times and size are the same is not read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags};
use serde::Serialize;

use crate::error::{Context, Result, lossy, show_path};
use crate::sys::beneath;

/// What has become of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "change")]
pub enum Change {
    /// It is new.
    Added {
        /// Its path from the root.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// It is gone.
    Removed {
        /// Its path from the root.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// Its content, or what is known of it, is another.
    Modified {
        /// Its path from the root.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
    },
    /// It has another name.
    Renamed {
        /// The name that it had.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// The name that it has.
        #[serde(serialize_with = "lossy")]
        to: PathBuf,
    },
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Added { path }
            | Self::Removed { path }
            | Self::Modified { path }
            | Self::Renamed { path, .. } => path,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = |path: &Path| format!("/{}", show_path(path));
        match self {
            Self::Added { path } => write!(f, "+\t{}", p(path)),
            Self::Removed { path } => write!(f, "-\t{}", p(path)),
            Self::Modified { path } => write!(f, "M\t{}", p(path)),
            Self::Renamed { path, to } => write!(f, "R\t{} -> {}", p(path), p(to)),
        }
    }
}

/// A file's identity on its filesystem: its inode, and when that was made, as its number is used again.
type Inode = (u64, (i64, u32));

/// What is looked at of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    inode: Inode,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    device: (u32, u32),
    modified: (i64, u32),
}

type Tree = BTreeMap<PathBuf, Seen>;

/// What has changed from one tree to another.
pub fn diff(before: &OwnedFd, after: &OwnedFd) -> Result<Vec<Change>> {
    let (old, new) = (tree(before)?, tree(after)?);
    let mut changes = Vec::new();
    // By the name that it has, the name that it had.
    let mut renames: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    // Names of the same file that are only in one of the trees, hard links included.
    let mut gone: BTreeMap<Inode, Vec<PathBuf>> = BTreeMap::new();
    for (path, seen) in &old {
        match new.get(path) {
            Some(now) if now.inode == seen.inode => {
                if is_modified(seen, now) {
                    changes.push(Change::Modified { path: path.clone() });
                }
            }
            _ => gone.entry(seen.inode).or_default().push(path.clone()),
        }
    }
    for (path, seen) in &new {
        let was_here = old.get(path).is_some_and(|was| was.inode == seen.inode);
        if was_here {
            continue;
        }
        let name = gone.get_mut(&seen.inode).and_then(Vec::pop);
        // Where the filesystem does not say when an inode was made, it may be another file's.
        let is_same = |name: &PathBuf| old.get(name).is_some_and(|was| is_same_kind(was, seen));
        match name.filter(is_same) {
            Some(was) => {
                if old.get(&was).is_some_and(|was| is_modified(was, seen)) {
                    changes.push(Change::Modified { path: path.clone() });
                }
                if !goes_with_its_directory(&renames, &was, path) {
                    changes.push(Change::Renamed {
                        path: was.clone(),
                        to: path.clone(),
                    });
                }
                renames.insert(path.clone(), was);
            }
            None => changes.push(Change::Added { path: path.clone() }),
        }
    }
    let moved: BTreeSet<PathBuf> = renames.into_values().collect();
    let removed = old.iter().filter(|(path, seen)| {
        let is_here = new.get(*path).is_some_and(|now| now.inode == seen.inode);
        !is_here && !moved.contains(*path)
    });
    let removed = removed.map(|(path, _)| Change::Removed { path: path.clone() });
    // First what was there, then what is there.
    let mut all: Vec<Change> = removed.chain(changes).collect();
    all.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(all)
}

/// Whether a name is another one only because that of its directory is; directories come first.
fn goes_with_its_directory(renames: &BTreeMap<PathBuf, PathBuf>, was: &Path, is: &Path) -> bool {
    let of_directory = is.parent().and_then(|dir| renames.get(dir));
    is.file_name() == was.file_name() && of_directory.map(PathBuf::as_path) == was.parent()
}

fn is_same_kind(one: &Seen, other: &Seen) -> bool {
    const KIND: u32 = 0o170_000;
    one.mode & KIND == other.mode & KIND
}

/// A rename changes the time of the last change, and no more than that; so does a new link.
fn is_modified(was: &Seen, now: &Seen) -> bool {
    let content = |seen: &Seen| (seen.mode, seen.owner, seen.size, seen.device, seen.modified);
    if FileType::from_raw_mode(was.mode) == FileType::Directory {
        // What is in it is told by itself.
        return (was.mode, was.owner) != (now.mode, now.owner);
    }
    content(was) != content(now)
}

fn tree(root: &OwnedFd) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for (name, seen) in entries(root, &dir).doing("read", Path::new("/").join(&dir))? {
            let path = dir.join(name);
            if FileType::from_raw_mode(seen.mode) == FileType::Directory {
                dirs.push(path.clone());
            }
            tree.insert(path, seen);
        }
    }
    Ok(tree)
}

fn entries(root: &OwnedFd, dir: &Path) -> io::Result<Vec<(OsString, Seen)>> {
    let path = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    // Of a volume that is in use, a directory may be gone by now.
    let fd = match beneath::open(
        root,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
    ) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // Or another filesystem is mounted there, or it is something else by now.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EXDEV | libc::ENOTDIR | libc::ELOOP)
            ) =>
        {
            return Ok(Vec::new());
        }
        fd => fd?,
    };
    let mut entries = Vec::new();
    for entry in Dir::read_from(fd.as_fd())? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name == "." || name == ".." {
            continue;
        }
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        match rustix::fs::statx(&fd, &name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(stat) => entries.push((name, Seen::from(&stat))),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(entries)
}

impl From<&Statx> for Seen {
    fn from(stat: &Statx) -> Self {
        Self {
            inode: (
                stat.stx_ino,
                (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
            ),
            mode: stat.stx_mode.into(),
            owner: (stat.stx_uid, stat.stx_gid),
            size: stat.stx_size,
            device: (stat.stx_rdev_major, stat.stx_rdev_minor),
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        }
    }
}
