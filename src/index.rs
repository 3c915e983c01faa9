//! The index, `POOL/index.json`: what is in the pool, readable without root.
//!
//! It is a cache of the images' paths and records, which are written first; `check --repair`
//! rebuilds it from them.  What the kernel knows (attached? mounted?) is never in it.
//!
//! This module knows the file's form and its rules, and no filesystem: reading and saving it is
//! the pool's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::name::{Name, SnapshotName};
use crate::plan::Step;
use crate::pool::Place;
use crate::properties::ROLLED_BACK_TO;
use crate::record::Record;

/// The version of the form that this lovol writes.
pub const VERSION: u32 = 1;

/// The whole index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The version of its form.
    pub version: u32,
    /// The pool's UUID.
    pub pool: Uuid,
    /// The volumes by name.
    #[serde(default)]
    pub volumes: BTreeMap<Name, Volume>,
    /// Deleted volumes by the name of their directory in the trash.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trash: BTreeMap<String, Trashed>,
    /// Work of several steps that was begun; whoever takes the pool's lock next finishes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Vec<Step>>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A volume and its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The volume's own record.
    pub record: Record,
    /// Its snapshots by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub snapshots: BTreeMap<Name, Record>,
    /// What a newer version wrote.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Volume {
    /// A volume without snapshots.
    pub fn new(record: Record) -> Self {
        Self {
            record,
            snapshots: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// The snapshots in the order in which they were taken.
    pub fn by_age(&self) -> Vec<(&Name, &Record)> {
        let mut snapshots: Vec<_> = self.snapshots.iter().collect();
        snapshots.sort_by_key(|(name, record)| (record.created, *name));
        snapshots
    }

    /// What the volume was before it was rolled back the last time.
    pub fn last_undo(&self) -> Option<(&Name, &Record)> {
        let mut newest_first = self.by_age().into_iter().rev();
        newest_first.find(|(_, record)| record.properties.contains_key(ROLLED_BACK_TO))
    }
}

/// A deleted volume in the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// The name it had.
    pub name: Name,
    /// When it was deleted.
    pub deleted: Timestamp,
    /// The volume and its snapshots.
    #[serde(flatten)]
    pub volume: Volume,
}

/// Why an index cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not there.
    Missing,
    /// It is no index, in serde's words.
    Garbled(String),
    /// It has this version, which is newer than ours.
    Newer(u32),
    /// It is of another pool.
    OfAnother,
}

impl Index {
    /// An index of an empty pool.
    pub fn new(pool: Uuid) -> Self {
        Self {
            version: VERSION,
            pool,
            volumes: BTreeMap::new(),
            trash: BTreeMap::new(),
            intents: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Parses an index.
    pub fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_slice::<Self>(text) {
            Ok(index) if index.version > VERSION => Err(Unreadable::Newer(index.version)),
            Ok(index) => Ok(index),
            // A newer form may differ in anything but this.
            Err(error) => match serde_json::from_slice(text) {
                Ok(Version { version }) if version > VERSION => Err(Unreadable::Newer(version)),
                _ => Err(Unreadable::Garbled(error.to_string())),
            },
        }
    }

    /// A volume by name.
    pub fn volume(&self, name: &Name) -> Result<&Volume> {
        self.volumes.get(name).ok_or_else(|| {
            let is_in_trash = self.trash.values().any(|trashed| trashed.name == *name);
            no_volume(name, is_in_trash, &did_you_mean(name, self.volumes.keys()))
        })
    }

    /// A volume by name, to be changed.
    pub fn volume_mut(&mut self, name: &Name) -> Result<&mut Volume> {
        let is_in_trash = self.trash.values().any(|trashed| trashed.name == *name);
        self.volumes
            .get_mut(name)
            .ok_or_else(|| no_volume(name, is_in_trash, ""))
    }

    /// A snapshot's record by name.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<&Record> {
        let volume = self.volume(&name.volume)?;
        volume
            .snapshots
            .get(&name.snapshot)
            .ok_or_else(|| Error::NotFound {
                kind: "snapshot named",
                name: name.to_string(),
                hint: Some(format!(
                    "{}'lovol list -a {}' lists its snapshots",
                    did_you_mean(&name.snapshot, volume.snapshots.keys()),
                    name.volume
                )),
            })
    }

    /// Puts another record in the place of an image's.
    pub fn set_record(&mut self, place: &Place, record: Record) -> Result<()> {
        match place {
            Place::Volume(name) => self.volume_mut(name)?.record = record,
            Place::Snapshot(name) => {
                self.snapshot(name)?;
                let volume = self.volume_mut(&name.volume)?;
                volume.snapshots.insert(name.snapshot.clone(), record);
            }
            trashed => return Err(Error::refused(trashed.to_string(), "it is in the trash")),
        }
        Ok(())
    }

    /// Fails when the name is taken.
    pub fn must_not_have_volume(&self, name: &Name) -> Result<()> {
        if self.volumes.contains_key(name) {
            return Err(Error::Exists {
                what: format!("volume {name}"),
                hint: None,
            });
        }
        Ok(())
    }

    /// Fails when the snapshot's name is taken.
    pub fn must_not_have_snapshot(&self, name: &SnapshotName) -> Result<()> {
        if self
            .volume(&name.volume)?
            .snapshots
            .contains_key(&name.snapshot)
        {
            return Err(Error::Exists {
                what: format!("snapshot {name}"),
                hint: None,
            });
        }
        Ok(())
    }
}

fn no_volume(name: &Name, is_in_trash: bool, similar: &str) -> Error {
    let hint = if is_in_trash {
        format!("it is in the trash: 'lovol undelete {name}' brings it back")
    } else {
        format!("{similar}'lovol list' lists the volumes")
    };
    Error::NotFound {
        kind: "volume named",
        name: name.to_string(),
        hint: Some(hint),
    }
}

/// The beginning of a hint to the name that is most like this one, if one is.
fn did_you_mean<'n>(name: &Name, names: impl Iterator<Item = &'n Name>) -> String {
    let distance = |other: &Name| strsim::osa_distance(name.as_str(), other.as_str());
    let nearest = names
        .map(|other| (distance(other), other))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        // A third of it may be wrong: of two letters, neither.
        Some((distance, other)) if distance <= name.as_str().len() / 3 => {
            format!("did you mean {other}? ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_version_are_kept() {
        let text = format!(
            r#"{{"version":1,"pool":"{0}","volumes":{{"a":{{"record":{{"uuid":"{0}","created":"2026-11-21T10:15:00Z","size":1048576,"fs":"xfs","colour":"red"}}}}}},"later":[1]}}"#,
            Uuid::nil()
        );
        let index = Index::parse(text.as_bytes()).expect("a valid index");
        let written: Value = serde_json::to_value(&index).expect("it can be written");
        assert_eq!(written["later"][0], 1);
        assert_eq!(written["volumes"]["a"]["record"]["colour"], "red");
    }

    #[test]
    fn garbage_and_a_newer_form_are_told_apart() {
        for garbled in ["", "{", "{}", "[]", "null", r#"{"version":1}"#] {
            let parsed = Index::parse(garbled.as_bytes());
            assert!(matches!(parsed, Err(Unreadable::Garbled(_))), "{garbled}");
        }
        assert_eq!(Index::parse(br#"{"version":2}"#), Err(Unreadable::Newer(2)));
    }
}
