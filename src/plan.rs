//! Steps: what a command is going to do, as a list that serves three ends.
//!
//! `-n` shows it; `-v` shows each step when it is begun; and steps that change the pool's tree in
//! more than one place are saved in the index as an intent first, so that the next lovol finishes
//! them if this one dies between two of them.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{printable, show_path};
use crate::name::{Name, SnapshotName};
use crate::record::Record;
use crate::size::Size;

/// One step.  Paths without a leading `/` are in the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are what the line above each says")]
#[serde(
    tag = "step",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Step {
    /// Make a pool in a directory.
    MakePool { dir: PathBuf },
    /// Make a pool's own XFS image.
    MakePoolImage {
        image: PathBuf,
        size: Size,
        sparse: bool,
    },
    /// Make a pool's own XFS image larger, and the filesystem in it.
    GrowPoolImage { image: PathBuf, size: Size },
    /// Make a sparse image.
    MakeImage { image: PathBuf, size: Size },
    /// Make an image larger or smaller.
    SizeImage { image: PathBuf, size: Size },
    /// Make the filesystem in an image larger or smaller.
    SizeFilesystem {
        image: PathBuf,
        fs: String,
        size: Size,
    },
    /// Give back what the filesystem in an image does not use.
    Trim { image: PathBuf },
    /// Make a filesystem in an image.
    MakeFilesystem { image: PathBuf, fs: String },
    /// Clone an image, frozen for as long as it takes.
    CloneFrozen {
        from: PathBuf,
        to: PathBuf,
        dir: PathBuf,
    },
    /// Clone an image by one call.
    CloneAtOnce { from: PathBuf, to: PathBuf },
    /// Copy an image's data.
    Copy { from: PathBuf, to: PathBuf },
    /// Give the filesystem in an image a UUID of its own.
    NewUuid { image: PathBuf },
    /// Bind an image to a loop device.
    Attach { image: PathBuf, read_only: bool },
    /// Free a loop device.
    Detach { device: PathBuf },
    /// Mount an image's filesystem.
    Mount {
        image: PathBuf,
        dir: PathBuf,
        fs: String,
        read_only: bool,
    },
    /// Change the options of a mount.
    Remount { dir: PathBuf, read_only: bool },
    /// Look whether an image's filesystem is sound.
    CheckFilesystem { image: PathBuf, fs: String },
    /// Set a property of an image, or a setting of the pool; without a value, take it away.
    Set {
        of: String,
        key: String,
        value: Option<String>,
    },
    /// Keep a snapshot from being deleted.
    Hold { snapshot: String, tag: String },
    /// No longer keep a snapshot from being deleted.
    Release { snapshot: String, tag: String },
    /// Unmount a directory.
    Unmount { dir: PathBuf },
    /// Thaw a filesystem that a dead lovol has frozen.
    Thaw { name: String },
    /// Rebuild the index from the images.
    RebuildIndex { volumes: usize, snapshots: usize },

    /// Make a directory.
    MakeDir { path: PathBuf },
    /// Rename a file or directory.
    Move { from: PathBuf, to: PathBuf },
    /// Remove a file.
    Remove { path: PathBuf },
    /// Remove a new image, if it is the one of this UUID: it is a part of what was not done whole.
    #[serde(alias = "take-back")]
    RemoveNew { path: PathBuf, uuid: Uuid },
    /// Remove an empty directory.
    RemoveDir { path: PathBuf },

    /// Change a volume's name in the index.
    RenameVolume { from: Name, to: Name },
    /// Change a snapshot's name in the index.
    RenameSnapshot { from: SnapshotName, to: Name },
    /// Move a volume to the trash in the index.
    Trash {
        volume: Name,
        id: String,
        deleted: Timestamp,
    },
    /// Exchange two files, so that the image of this UUID gets the name `path`.
    Exchange {
        path: PathBuf,
        with: PathBuf,
        uuid: Uuid,
    },
    /// Make a volume's image a snapshot's: it gets this record, and loses the one that it had.
    BecomeSnapshot {
        path: PathBuf,
        record: Box<Record>,
        before: Box<Record>,
    },
    /// Give a volume another record in the index, and what it was a name among its snapshots.
    RollBack {
        volume: Name,
        record: Box<Record>,
        snapshot: Name,
        before: Box<Record>,
    },
    /// Put a volume into the index.
    AddVolume { volume: Name, record: Box<Record> },
    /// Move a volume back from the trash in the index.
    Restore { id: String, volume: Name },
    /// Take a snapshot out of the index.
    ForgetSnapshot { snapshot: SnapshotName },
    /// Take a deleted volume out of the index.
    ForgetTrash { id: String },
}

impl Step {
    /// Whether it changes the index only, and no file.
    pub fn is_of_index(&self) -> bool {
        matches!(
            self,
            Self::RenameVolume { .. }
                | Self::RenameSnapshot { .. }
                | Self::Trash { .. }
                | Self::RollBack { .. }
                | Self::AddVolume { .. }
                | Self::Restore { .. }
                | Self::ForgetSnapshot { .. }
                | Self::ForgetTrash { .. }
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = |path: &Path| show_path(path);
        match self {
            Self::MakePool { dir } => write!(f, "make a pool in {}", p(dir)),
            Self::MakePoolImage {
                image,
                size,
                sparse,
            } => {
                let how = if *sparse { "sparse" } else { "allocated" };
                write!(
                    f,
                    "make {} ({size}, {how}) with an XFS for the pool",
                    p(image)
                )
            }
            Self::GrowPoolImage { image, size } => write!(f, "grow {} to {size}", p(image)),
            Self::MakeImage { image, size } => write!(f, "make {} ({size}, sparse)", p(image)),
            Self::SizeImage { image, size } => write!(f, "make {} {size} large", p(image)),
            Self::SizeFilesystem { image, fs, size } => {
                write!(f, "make the {} in {} {size} large", printable(fs), p(image))
            }
            Self::Trim { image } => write!(f, "trim the filesystem in {}", p(image)),
            Self::MakeFilesystem { image, fs } => {
                write!(f, "make {} in {}", printable(fs), p(image))
            }
            Self::CloneFrozen { from, to, dir } => {
                write!(f, "freeze {} and clone {} to {}", p(dir), p(from), p(to))
            }
            Self::CloneAtOnce { from, to } => write!(f, "clone {} to {} at once", p(from), p(to)),
            Self::Copy { from, to } => write!(f, "copy {} to {}", p(from), p(to)),
            Self::NewUuid { image } => write!(f, "give the filesystem in {} a new UUID", p(image)),
            Self::Attach {
                image,
                read_only: false,
            } => write!(f, "attach {}", p(image)),
            Self::Attach {
                image,
                read_only: true,
            } => write!(f, "attach {} read-only", p(image)),
            Self::Detach { device } => write!(f, "detach {}", p(device)),
            Self::Mount {
                image,
                dir,
                fs,
                read_only,
            } => {
                let how = if *read_only { " read-only" } else { "" };
                write!(f, "mount {} ({fs}) on {}{how}", p(image), p(dir))
            }
            Self::Remount { dir, read_only } => {
                let how = if *read_only {
                    "read-only"
                } else {
                    "read-write"
                };
                write!(f, "remount {} {how}", p(dir))
            }
            Self::CheckFilesystem { image, fs } => {
                write!(f, "check the {} in {}", printable(fs), p(image))
            }
            Self::Set { of, key, value } => match value {
                Some(value) => write!(
                    f,
                    "set {}={} of {}",
                    printable(key),
                    printable(value),
                    printable(of)
                ),
                None => write!(f, "take {} of {} away", printable(key), printable(of)),
            },
            Self::Hold { snapshot, tag } => {
                write!(f, "hold {} for {}", printable(snapshot), printable(tag))
            }
            Self::Release { snapshot, tag } => {
                write!(f, "release {} for {}", printable(snapshot), printable(tag))
            }
            Self::Unmount { dir } => write!(f, "unmount {}", p(dir)),
            Self::Thaw { name } => write!(f, "thaw {}", printable(name)),
            Self::RebuildIndex { volumes, snapshots } => {
                write!(
                    f,
                    "rebuild the index from {volumes} volumes and {snapshots} snapshots"
                )
            }
            Self::MakeDir { path } => write!(f, "make the directory {}", p(path)),
            Self::Move { from, to } => write!(f, "rename {} to {}", p(from), p(to)),
            Self::Remove { path } | Self::RemoveNew { path, .. } => {
                write!(f, "remove {}", p(path))
            }
            Self::RemoveDir { path } => write!(f, "remove the directory {}", p(path)),
            Self::Exchange { path, with, .. } => write!(f, "exchange {} and {}", p(path), p(with)),
            Self::BecomeSnapshot { path, .. } => write!(f, "keep {} as a snapshot", p(path)),
            _ => self.show_of_index(f),
        }
    }
}

impl Step {
    /// In words, what changes the index only.
    fn show_of_index(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RenameVolume { from, to } => {
                write!(f, "rename volume {from} to {to} in the index")
            }
            Self::RenameSnapshot { from, to } => {
                write!(f, "rename snapshot {from} to {to} in the index")
            }
            Self::Trash { volume, id, .. } => {
                write!(
                    f,
                    "move volume {volume} to the trash as {} in the index",
                    printable(id)
                )
            }
            Self::RollBack {
                volume, snapshot, ..
            } => write!(
                f,
                "roll volume {volume} back in the index; what it was is {volume}@{snapshot}"
            ),
            Self::AddVolume { volume, .. } => write!(f, "put volume {volume} into the index"),
            Self::Restore { id, volume } => write!(
                f,
                "move {} back from the trash as volume {volume} in the index",
                printable(id)
            ),
            Self::ForgetSnapshot { snapshot } => {
                write!(f, "take snapshot {snapshot} out of the index")
            }
            Self::ForgetTrash { id } => write!(f, "take {} out of the index", printable(id)),
            _ => Ok(()),
        }
    }
}

/// Who is told what goes on: the domain prints nothing itself.
pub trait Observer {
    /// A step is begun.
    fn begin(&self, step: &Step);
    /// Something that the user should know, though the work goes on.
    fn warn(&self, text: &str);
    /// Something about how a step goes on, for those who want to know all.
    fn detail(&self, text: &str);
    /// How far long work has got, in bytes.
    fn progress(&self, what: &str, done: u64, total: u64);
}
