//! Getting a file or a directory back from a snapshot: with owners, modes, times, xattrs, ACLs and holes,
//! and without a mount that anybody sees.
//!
//! It is copied into a directory of its own beside its destination, which nobody else may enter, and gets
//! its name when it is whole: by a rename that never replaces.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};

use crate::error::{Context, Error, Result};
use crate::mounting::{Image, Reading};
use crate::name::SnapshotName;
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::staging::{Staging, WHOLE};
use crate::sys::beneath;
use crate::sys::signals::Blocked;
use crate::sys::tool::Tool;

const CP: Tool = Tool {
    program: "cp",
    package: "coreutils",
};

/// A path in a snapshot: `VOLUME@SNAPSHOT:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// The path from the root of the filesystem in it.
    pub path: PathBuf,
}

impl Source {
    /// Parses it.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        use std::os::unix::ffi::OsStrExt;
        let expected =
            || "expected VOLUME@SNAPSHOT:PATH, such as home@monday:alice/letter".to_owned();
        let bytes = text.as_bytes();
        let colon = bytes
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(expected)?;
        let name = std::str::from_utf8(&bytes[..colon]).map_err(|_| expected())?;
        let path = Path::new(OsStr::from_bytes(&bytes[colon + 1..]));
        let path: PathBuf = path
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .collect();
        if path.as_os_str().is_empty() || path.components().any(|part| part == Component::ParentDir)
        {
            return Err(expected());
        }
        Ok(Self {
            snapshot: name.parse().map_err(|_| expected())?,
            path,
        })
    }
}

/// A file or directory that is to be restored.
#[derive(Debug)]
pub struct Restore<'p> {
    pool: &'p Pool,
    source: Source,
    /// The directory that it goes to: held, so that what was looked at is what is written to.
    dir: OwnedFd,
    /// What that is called, and its name there.
    to: PathBuf,
    name: OsString,
}

impl<'p> Restore<'p> {
    /// To `destination`; into it, where that is a directory; where it was in the mounted volume, where
    /// there is none.
    pub fn new(pool: &'p Pool, source: Source, destination: Option<&Path>) -> Result<Self> {
        let name = source.path.file_name().unwrap_or_default().to_owned();
        let (dir, to, name) = match destination {
            Some(path) if path.is_dir() => (open_dir(path)?, path.join(&name), name),
            Some(path) => {
                let name = path.file_name().ok_or_else(|| {
                    Error::usage(
                        format!("{} names no file", path.display()),
                        "name the new file",
                    )
                })?;
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                (
                    open_dir(parent.unwrap_or(Path::new(".")))?,
                    path.to_owned(),
                    name.to_owned(),
                )
            }
            None => {
                let (dir, to) = place_in_volume(pool, &source)?;
                (dir, to, name)
            }
        };
        Ok(Self {
            pool,
            source,
            dir,
            to,
            name,
        })
    }

    /// Takes away what killed ones have left where it goes to.
    pub fn sweep(&self) {
        Staging::sweep(&self.dir);
    }

    /// Fails where something is in its place.
    pub fn must_be_new(&self) -> Result<()> {
        match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("look at", &self.to, error.into())),
            Ok(_) => Err(Error::Exists {
                what: self.to.display().to_string(),
                hint: Some("it is not replaced: name another DEST, or move it away".into()),
            }),
        }
    }

    /// Where it goes.
    pub fn to(&self) -> &Path {
        &self.to
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.source.snapshot, self.source.path.display())
    }

    /// What [`Restore::carry_out`] does.
    pub fn step(&self) -> Step {
        Step::Copy {
            from: self.shown().into(),
            to: self.to.clone(),
        }
    }

    /// Restores it, or leaves nothing.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<()> {
        let place = Place::Snapshot(self.source.snapshot.clone());
        let reading = Image::open(self.pool, &place)?.open_to_read(observer)?;
        observer.begin(&self.step());
        // ^C ends the copying, and comes when what it has left beside the destination is away.
        let signals = Blocked::all().doing("block", "signals")?;
        let copied = self.copy(&reading);
        drop(signals);
        if let Err(error) = reading.close() {
            // Restored it is all the same, or not.
            observer.warn(&error.to_string());
        }
        copied
    }

    fn copy(&self, reading: &Reading) -> Result<()> {
        let shown = self.shown();
        let parent = self.source.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        // Through no symlink of whoever made the snapshot's content.
        let parent = beneath::open(
            &reading.root,
            parent.unwrap_or(Path::new(".")),
            OFlags::PATH | OFlags::DIRECTORY,
        )
        .doing("find", &shown)?;
        let name = self.source.path.file_name().unwrap_or_default();
        beneath::open(&parent, name, OFlags::PATH | OFlags::NOFOLLOW).doing("find", &shown)?;

        let staging = Staging::make(&self.dir, &self.to)?;
        copy(&parent, name, &staging.inner)?;
        rustix::fs::syncfs(&staging.inner).doing("write back", &self.to)?;
        rustix::fs::renameat_with(
            &staging.inner,
            WHOLE,
            &self.dir,
            &self.name,
            RenameFlags::NOREPLACE,
        )
        .doing("name", &self.to)?;
        // Both directories: one in which it is no more would take it away again after a power cut.
        let named = rustix::fs::fsync(&self.dir).and_then(|()| rustix::fs::fsync(&staging.inner));
        named
            .doing("write back", &self.to)
            .map_err(|why| Error::Partly {
                done: format!("{shown} is restored, but may be gone after a power cut"),
                why: Box::new(why),
            })
    }
}

fn open_dir(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).doing("open", dir)
}

fn copy(from: &OwnedFd, name: &OsStr, to: &OwnedFd) -> Result<()> {
    let from = Path::new(&beneath::fd_path_for_tools(from)).join(name);
    let to = Path::new(&beneath::fd_path_for_tools(to)).join(WHOLE);
    let options = [
        "--archive",
        // By itself --archive says nothing of those that it cannot keep.
        "--preserve=xattr",
        "--sparse=always",
        "--no-target-directory",
        "--",
    ];
    let mut words: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    words.extend([from.as_os_str(), to.as_os_str()]);
    CP.run_until_signalled(&words, &[0]).map(drop)
}

/// The directory where it was in the mounted volume, through no symlink of its users, and its path.
fn place_in_volume(pool: &Pool, source: &Source) -> Result<(OwnedFd, PathBuf)> {
    let volume = &source.snapshot.volume;
    let image = Image::open(pool, &Place::volume(volume))?;
    let (root, dir) = image.mounted_root()?.ok_or_else(|| {
        Error::refused(
            format!("cannot restore {}", source.path.display()),
            format!("{volume} is not mounted"),
        )
        .with_hint("name a DEST for it")
    })?;
    let parent = source.path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let opened = beneath::open_dir(&root, parent).doing("open", dir.join(parent))?;
    Ok((opened, dir.join(&source.path)))
}
