//! Getting a file or a directory back from a snapshot: with owners, modes, times, xattrs, ACLs and holes,
//! and without a mount that anybody sees.
//!
//! It is copied beside its destination under another name, and gets its own when it is whole: by a rename
//! that never replaces.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, RenameFlags};

use crate::error::{Context, Error, Result};
use crate::mounting::{Image, Reading};
use crate::name::SnapshotName;
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::sys::beneath;
use crate::sys::tool::Tool;

const CP: Tool = Tool {
    program: "cp",
    package: "coreutils",
};

const RM: Tool = Tool {
    program: "rm",
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
    pub fn parse(text: &std::ffi::OsStr) -> Result<Self, String> {
        use std::os::unix::ffi::OsStrExt;
        let expected =
            || "expected VOLUME@SNAPSHOT:PATH, such as home@monday:alice/letter".to_owned();
        let bytes = text.as_bytes();
        let colon = bytes
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(expected)?;
        let name = std::str::from_utf8(&bytes[..colon]).map_err(|_| expected())?;
        let path = Path::new(std::ffi::OsStr::from_bytes(&bytes[colon + 1..]));
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
    /// The directory that it goes to, and its name there.
    dir: PathBuf,
    name: OsString,
}

impl<'p> Restore<'p> {
    /// To `destination`; into it, where that is a directory; where it was in the mounted volume, where
    /// there is none.
    pub fn new(pool: &'p Pool, source: Source, destination: Option<&Path>) -> Result<Self> {
        let name = source.path.file_name().unwrap_or_default().to_owned();
        let to = match destination {
            Some(path) if path.is_dir() => path.join(&name),
            Some(path) => path.to_owned(),
            None => place_in_volume(pool, &source)?,
        };
        let (Some(name), Some(dir)) = (to.file_name(), to.parent()) else {
            return Err(Error::usage(
                format!("{} names no file", to.display()),
                "name the new file",
            ));
        };
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        if to.symlink_metadata().is_ok() {
            return Err(Error::Exists {
                what: to.display().to_string(),
                hint: Some("it is not replaced: name another DEST, or move it away".into()),
            });
        }
        Ok(Self {
            pool,
            dir: dir.canonicalize().doing("find", dir)?,
            name: name.to_owned(),
            source,
        })
    }

    /// Where it goes.
    pub fn to(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// What [`Restore::carry_out`] does.
    pub fn step(&self) -> Step {
        Step::Copy {
            from: format!("{}:{}", self.source.snapshot, self.source.path.display()).into(),
            to: self.to(),
        }
    }

    /// Restores it, or leaves nothing.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<()> {
        let place = Place::Snapshot(self.source.snapshot.clone());
        let reading = Image::open(self.pool, &place)?.open_to_read(observer)?;
        observer.begin(&self.step());
        let copied = self.copy(&reading);
        let closed = reading.close();
        copied.and(closed)
    }

    fn copy(&self, reading: &Reading) -> Result<()> {
        let shown = format!("{}:{}", self.source.snapshot, self.source.path.display());
        let parent = self
            .source
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        // Through no symlink of whoever made the snapshot's content.
        let parent = beneath::open(
            &reading.root,
            parent.unwrap_or(Path::new(".")),
            OFlags::PATH | OFlags::DIRECTORY,
        )
        .doing("find", &shown)?;
        let name = self.source.path.file_name().unwrap_or_default();
        beneath::open(&parent, name, OFlags::PATH | OFlags::NOFOLLOW).doing("find", &shown)?;

        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&self.dir, flags, Mode::empty()).doing("open", &self.dir)?;
        let mut partial = OsString::from(".lovol-restore-");
        partial.push(std::process::id().to_string());
        let copied = copy(&parent, name, &dir, &partial).and_then(|()| {
            rustix::fs::renameat_with(&dir, &partial, &dir, &self.name, RenameFlags::NOREPLACE)
                .doing("name", self.to())
        });
        if copied.is_err() {
            let left = Path::new(&beneath::fd_path_for_tools(&dir)).join(&partial);
            drop(RM.run(&["-rf".as_ref(), "--".as_ref(), left.as_os_str()], &[0]));
        }
        copied
    }
}

fn copy(from: &OwnedFd, name: &std::ffi::OsStr, to: &OwnedFd, new: &std::ffi::OsStr) -> Result<()> {
    let from = Path::new(&beneath::fd_path_for_tools(from)).join(name);
    let to = Path::new(&beneath::fd_path_for_tools(to)).join(new);
    let options = [
        "--archive",
        "--sparse=always",
        "--no-target-directory",
        "--",
    ];
    let mut words: Vec<&std::ffi::OsStr> = options.iter().map(std::ffi::OsStr::new).collect();
    words.extend([from.as_os_str(), to.as_os_str()]);
    CP.run(&words, &[0]).map(drop)
}

/// The same path where the volume is mounted.
fn place_in_volume(pool: &Pool, source: &Source) -> Result<PathBuf> {
    let volume = &source.snapshot.volume;
    let image = Image::open(pool, &Place::volume(volume))?;
    let dirs = image.mount_dirs();
    let dir = dirs.last().ok_or_else(|| {
        Error::refused(
            format!("cannot restore {}", source.path.display()),
            format!("{volume} is not mounted"),
        )
        .with_hint("name a DEST for it")
    })?;
    Ok(dir.join(&source.path))
}
