//! Targets: what a user may call a volume or a snapshot.
//!
//! `NAME`, `NAME@SNAP`, or a path.  A path means, in this order: the volume mounted there, the
//! volume behind that loop device, that image of the pool, else an image outside any pool.  A word
//! without `/` is never a path.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result, printable};
use crate::index::Index;
use crate::name::{Name, SnapshotName};
use crate::pool::{Place, Pool};
use crate::sys::loopdev::{self, Attached, FileId};
use crate::sys::mountinfo;
use crate::usage::Usage;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A volume's name.
    Volume(Name),
    /// A snapshot's name.
    Snapshot(SnapshotName),
    /// Something with a `/` in it.
    Path(PathBuf),
}

impl Target {
    /// Parses an argument, which may be a path in any encoding.
    ///
    /// # Errors
    /// In words, when it is neither a name nor a path.
    pub fn parse(argument: &OsStr) -> Result<Self, String> {
        if argument.as_encoded_bytes().contains(&b'/') {
            return Ok(Self::Path(argument.into()));
        }
        let text = argument
            .to_str()
            .ok_or("a name consists of letters, digits, '.', '_' and '-'")?;
        if text.contains('@') {
            text.parse().map(Self::Snapshot)
        } else {
            text.parse().map(Self::Volume)
        }
    }
}

/// What a target turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// An image of the pool.
    Image(Place),
    /// An image outside the pool.
    Outside(PathBuf),
}

/// Finds what a target means.
pub fn find(target: &Target, pool: &Pool, index: &Index) -> Result<Found> {
    match target {
        Target::Volume(name) => match index.volume(name) {
            Ok(_) => Ok(Found::Image(Place::volume(name))),
            Err(error) => Err(suggest_path(error, name.as_str())),
        },
        Target::Snapshot(name) => {
            index.snapshot(name)?;
            Ok(Found::Image(Place::Snapshot(name.clone())))
        }
        Target::Path(path) => match find_path(path)? {
            Behind::Device(device) => match image_of(&device, pool, index) {
                Some(place) => Ok(Found::Image(place)),
                None => outside(&device, path).map(Found::Outside),
            },
            Behind::File(path, id) => {
                let image = pool.find_image(index, id).map(Found::Image);
                Ok(image.unwrap_or(Found::Outside(path)))
            }
        },
    }
}

/// Finds what a target means where there is no pool: only images outside any.
pub fn find_outside(target: &Target) -> Result<PathBuf> {
    match target {
        Target::Path(path) => match find_path(path)? {
            Behind::Device(device) => outside(&device, path),
            Behind::File(path, _) => Ok(path),
        },
        Target::Volume(_) | Target::Snapshot(_) => Err(Error::usage(
            "this names a volume or snapshot, and there is no pool",
            "an image outside a pool is named by a path with a '/': ./a.img",
        )),
    }
}

/// A volume or snapshot of the pool.
pub fn find_image(target: &Target, pool: &Pool, index: &Index) -> Result<Place> {
    match find(target, pool, index)? {
        Found::Image(place) => Ok(place),
        Found::Outside(path) => Err(Error::NotFound {
            kind: "volume of the pool is",
            name: path.display().to_string(),
            hint: Some("'lovol clone ./a.img ./b.img' clones any image; 'lovol create NAME --from FILE' takes one into the pool".into()),
        }),
    }
}

/// A volume of the pool, not a snapshot.
pub fn find_volume(target: &Target, pool: &Pool, index: &Index) -> Result<Name> {
    match find_image(target, pool, index)? {
        Place::Volume(name) => Ok(name),
        place => Err(
            Error::refused(format!("{place} is no volume"), "this takes a volume")
                .with_hint("'lovol clone' makes a volume of a snapshot"),
        ),
    }
}

/// Which image of the pool a loop device shows: by its file, or for a view by its reference.
pub fn image_of(device: &Attached, pool: &Pool, index: &Index) -> Option<Place> {
    if device.file.device != pool.device() {
        return None;
    }
    pool.find_image(index, device.file).or_else(|| {
        index.volumes.iter().find_map(|(volume, entry)| {
            let mut snapshots = entry.snapshots.iter();
            let found = snapshots.find(|(_, record)| record.uuid.to_string() == device.reference);
            found.map(|(snapshot, _)| Place::snapshot(volume, snapshot))
        })
    })
}

enum Behind {
    Device(Attached),
    File(PathBuf, FileId),
}

fn find_path(path: &Path) -> Result<Behind> {
    let path = path.canonicalize().doing("find", path)?;
    let metadata = match std::fs::metadata(&path) {
        // Not even the root of an XFS that has shut down can be looked at.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => {
            return mounted_at(&path).map(Behind::Device);
        }
        metadata => metadata.doing("look at", &path)?,
    };
    if metadata.is_dir() {
        return mounted_at(&path).map(Behind::Device);
    }
    if metadata.file_type().is_block_device() {
        let device = match loopdev::number_of(metadata.rdev()) {
            Some(number) => loopdev::status(number).doing("ask", &path)?,
            None => None,
        };
        return device.map(Behind::Device).ok_or_else(|| Error::NotFound {
            kind: "image attached to",
            name: path.display().to_string(),
            hint: Some("'lovol list' shows which devices are attached".into()),
        });
    }
    if !metadata.is_file() {
        return Err(Error::refused(
            path.display().to_string(),
            "it is neither an image, a loop device, nor a directory",
        ));
    }
    let id = FileId::from(&metadata);
    Ok(Behind::File(path, id))
}

/// The loop device of the filesystem mounted at a directory.
fn mounted_at(dir: &Path) -> Result<Attached> {
    let nothing = || Error::NotFound {
        kind: "volume mounted at",
        name: dir.display().to_string(),
        hint: Some("'lovol list' shows where volumes are mounted".into()),
    };
    let usage = Usage::look()?;
    let entry = mountinfo::at(&usage.mounts, dir).ok_or_else(nothing)?;
    let mut devices = usage.devices.iter();
    let device = devices.find(|device| {
        usage
            .mounts_of(device)
            .iter()
            .any(|mount| mount.id == entry.id)
    });
    device.cloned().ok_or_else(nothing)
}

/// The path of the image behind a device, checked to be the same file.
fn outside(device: &Attached, shown: &Path) -> Result<PathBuf> {
    let path = loopdev::backing_path(device.number).unwrap_or_default();
    let is_it = File::open(&path)
        .and_then(|file| FileId::of(&file))
        .is_ok_and(|id| id == device.file);
    if is_it {
        return Ok(path);
    }
    Err(Error::refused(
        format!(
            "cannot find the image behind {}",
            printable(&shown.to_string_lossy())
        ),
        format!(
            "the kernel calls it {}, which is another file or gone",
            printable(&path.to_string_lossy())
        ),
    ))
}

fn suggest_path(error: Error, word: &str) -> Error {
    if Path::new(word).exists() {
        return error.with_hint(format!("if you mean the file, type ./{word}"));
    }
    error
}

/// A range of snapshots, `VOLUME@FIRST%LAST`, or one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The volume.
    pub volume: Name,
    /// The oldest.
    pub first: Name,
    /// The newest.
    pub last: Name,
}

impl Range {
    /// Parses `VOLUME@FIRST%LAST`; `None` where there is no `%`.
    ///
    /// # Errors
    /// In words, when one of the names is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let (volume, range) = text.split_once('@')?;
        let (first, last) = range.split_once('%')?;
        let parse = || {
            Ok(Self {
                volume: volume.parse()?,
                first: first.parse()?,
                last: last.parse()?,
            })
        };
        Some(parse())
    }

    /// The snapshots from the first to the last, by age, both included.
    pub fn expand(&self, index: &Index) -> Result<Vec<SnapshotName>> {
        let by_age = index.volume(&self.volume)?.by_age();
        let position = |name: &Name| {
            let full = SnapshotName {
                volume: self.volume.clone(),
                snapshot: name.clone(),
            };
            index.snapshot(&full)?;
            by_age
                .iter()
                .position(|(found, _)| *found == name)
                .ok_or(Error::NotRoot)
        };
        let (first, last) = (position(&self.first)?, position(&self.last)?);
        if first > last {
            return Err(Error::usage(
                format!("{} is newer than {}", self.first, self.last),
                format!("{}@{}%{}", self.volume, self.last, self.first),
            ));
        }
        let names = by_age.iter().take(last + 1).skip(first);
        Ok(names
            .map(|(name, _)| SnapshotName {
                volume: self.volume.clone(),
                snapshot: (*name).clone(),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slash_makes_a_path() {
        let parse = |text: &str| Target::parse(OsStr::new(text));
        assert!(matches!(parse("home"), Ok(Target::Volume(_))));
        assert!(matches!(parse("home@a"), Ok(Target::Snapshot(_))));
        assert!(matches!(parse("./home"), Ok(Target::Path(_))));
        for text in ["..", "-x", "home@", "@a", "a@b@c", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
