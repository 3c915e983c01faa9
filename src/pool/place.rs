//! Where in the pool an image lies: its role and its name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::name::{Name, SnapshotName};
use crate::record::Record;

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

    /// As it is typed: `NAME` or `NAME@SNAP`.
    pub fn target(&self) -> String {
        match self {
            Self::Volume(name) => name.to_string(),
            Self::Snapshot(name) => name.to_string(),
            Self::TrashedVolume(id) | Self::TrashedSnapshot(id, _) => id.clone(),
        }
    }

    /// What the index knows of the image there.
    pub fn record_in<'i>(&self, index: &'i Index) -> Result<&'i Record> {
        match self {
            Self::Snapshot(name) => index.snapshot(name),
            Self::Volume(name) => index.volume(name).map(|volume| &volume.record),
            trashed => Err(Error::refused(trashed.to_string(), "it is in the trash")),
        }
    }

    /// Whether it is a snapshot's, and so never writable.
    pub fn is_snapshot(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::TrashedSnapshot(..))
    }
}

/// Everything that the index names.
pub fn records(index: &Index) -> BTreeMap<Place, &Record> {
    let mut records = BTreeMap::new();
    for (name, volume) in &index.volumes {
        records.insert(Place::volume(name), &volume.record);
        for (snapshot, record) in &volume.snapshots {
            records.insert(Place::snapshot(name, snapshot), record);
        }
    }
    for (id, trashed) in &index.trash {
        records.insert(Place::TrashedVolume(id.clone()), &trashed.volume.record);
        for (snapshot, record) in &trashed.volume.snapshots {
            records.insert(Place::TrashedSnapshot(id.clone(), snapshot.clone()), record);
        }
    }
    records
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
