//! What is known of an image beside its bytes: kept in its xattr `user.lovol` and, as a copy, in
//! the index.
//!
//! An image's name and role are not in it: they come from its path, so that a rename changes no
//! record.  Fields that this version does not know are kept as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use jiff::Timestamp;
use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::guest::Fs;
use crate::sys::beneath;

/// The xattr that holds the record; on the pool's directory it holds the pool's own settings.
pub const XATTR: &str = "user.lovol";

/// How consistent a snapshot's guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Taken inside a freeze.
    Frozen,
    /// Taken of an unused volume whose log needs no replay.
    Clean,
    /// Like after a pulled plug: the guest's log is replayed when it is first mounted.
    Crash,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Frozen => "frozen",
            Self::Clean => "clean",
            Self::Crash => "crash",
        })
    }
}

/// An image's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The image's own UUID: the identity that survives renames.
    pub uuid: Uuid,
    /// For a snapshot, the UUID of the volume that it was taken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
    /// The UUID of the image that its first bytes were cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Uuid>,
    /// When it was made; for a frozen snapshot, a moment inside the freeze.
    pub created: Timestamp,
    /// The image's size in bytes.
    pub size: u64,
    /// The filesystem in it.
    pub fs: Fs,
    /// That filesystem's UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_uuid: Option<String>,
    /// That filesystem's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The sectors that the filesystem needs its device to have, in bytes, if less than 4096: an
    /// image from elsewhere may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector: Option<u32>,
    /// For a snapshot, how consistent its guest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistency: Option<Consistency>,
    /// For a snapshot of a group taken at one instant, the UUID that all of the group carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// For a frozen snapshot, how long the guest was frozen, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_us: Option<u64>,
    /// For a snapshot, how many extents it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extents: Option<u64>,
    /// For a snapshot, what its image takes in bytes, shared blocks included: it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<u64>,
    /// Properties that a person or lovol has set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Who wants it kept, by tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, Value>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Record {
    /// A record of an image made now, with a new UUID.
    pub fn new(size: u64, fs: Fs) -> Self {
        Self {
            uuid: Uuid::new_v4(),
            volume: None,
            parent: None,
            created: crate::time::now(),
            size,
            fs,
            fs_uuid: None,
            label: None,
            sector: None,
            consistency: None,
            group: None,
            frozen_us: None,
            extents: None,
            allocated: None,
            properties: BTreeMap::new(),
            holds: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// A record of an image whose guest is a copy of this one's.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut child = Self::new(self.size, self.fs.clone());
        child.parent = Some(self.uuid);
        child.fs_uuid.clone_from(&self.fs_uuid);
        child.label.clone_from(&self.label);
        child.sector = self.sector;
        child
    }

    /// Reads the record of an open image: `None` where it has none.
    ///
    /// # Errors
    /// The kernel's, and `InvalidData` where it is garbled.
    pub fn read(file: &File) -> io::Result<Option<Self>> {
        let Some(bytes) = read_xattr(file)? else {
            return Ok(None);
        };
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// The same for a file that is only held by its path (`O_PATH`).
    pub fn read_closed(place: &impl AsFd) -> io::Result<Option<Self>> {
        let mut buffer = vec![0_u8; LARGEST];
        match rustix::fs::getxattr(beneath::fd_path(place), XATTR, &mut buffer[..]) {
            Ok(length) => Ok(Some(serde_json::from_slice(&buffer[..length])?)),
            Err(rustix::io::Errno::NODATA) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same for a file that is only held by its path (`O_PATH`).
    pub fn write_closed(&self, place: &impl AsFd) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        rustix::fs::setxattr(beneath::fd_path(place), XATTR, &bytes, XattrFlags::empty())?;
        Ok(())
    }

    /// Writes the record; durable after the file's next fsync.
    pub fn write(&self, file: &File) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        rustix::fs::fsetxattr(file, XATTR, &bytes, XattrFlags::empty())?;
        Ok(())
    }
}

/// The largest value that Linux allows (xattr(7)).
const LARGEST: usize = 65536;

/// The bytes of our xattr, if the file or directory has it.
pub fn read_xattr(file: impl AsFd) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0_u8; LARGEST];
    match rustix::fs::fgetxattr(file, XATTR, &mut buffer[..]) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
