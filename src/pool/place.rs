//! Where in the pool an image lies: its role and its name.

use std::fmt;
use std::path::PathBuf;

use crate::name::{Name, SnapshotName};

/// A place for an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `volumes/NAME.img`
    Volume(Name),
    /// `snapshots/NAME/SNAP.img`
    Snapshot(SnapshotName),
    /// `trash/ID/volume.img`
    TrashedVolume(String),
    /// `trash/ID/snapshots/SNAP.img`
    TrashedSnapshot(String, Name),
}

impl Place {
    /// A volume's place.
    pub fn volume(name: &Name) -> Self {
        Self::Volume(name.clone())
    }

    /// A snapshot's place.
    pub fn snapshot(volume: &Name, snapshot: &Name) -> Self {
        Self::Snapshot(SnapshotName {
            volume: volume.clone(),
            snapshot: snapshot.clone(),
        })
    }

    /// The path in the pool.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Volume(name) => format!("volumes/{name}.img").into(),
            Self::Snapshot(name) => {
                format!("snapshots/{}/{}.img", name.volume, name.snapshot).into()
            }
            Self::TrashedVolume(id) => format!("trash/{id}/volume.img").into(),
            Self::TrashedSnapshot(id, name) => format!("trash/{id}/snapshots/{name}.img").into(),
        }
    }

    /// Whether it is a snapshot's, and so never writable.
    pub fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::TrashedSnapshot(..))
    }
}

/// The directory of a volume's snapshots.
pub fn snapshots_dir(volume: &Name) -> PathBuf {
    format!("snapshots/{volume}").into()
}

/// The directory of a deleted volume.
pub fn trash_dir(id: &str) -> PathBuf {
    format!("trash/{id}").into()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "volume {name}"),
            Self::Snapshot(name) => write!(f, "snapshot {name}"),
            Self::TrashedVolume(id) => write!(f, "deleted volume {id}"),
            Self::TrashedSnapshot(id, name) => write!(f, "snapshot {name} of deleted volume {id}"),
        }
    }
}
