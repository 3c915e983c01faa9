//! What is in a pool, and what is in each image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lovol::index::{Index, Volume};
use lovol::name::Name;
use lovol::record::Record;

use crate::support::Numbers;

/// Files by name, each by the seed that its bytes come from.
pub(super) type Files = BTreeMap<String, u64>;

/// The bytes of a file.
pub(super) fn bytes(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let length = usize::try_from(numbers.below(40_000)).unwrap();
    numbers.bytes(length)
}

/// A guest, and what is noted of its image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) fs: &'static str,
    /// Nothing is known of the files of one that is in use.
    pub(super) files: Option<Files>,
    pub(super) is_held: bool,
    /// Its property `user:mark`.
    pub(super) mark: Option<u64>,
    /// In MiB.
    pub(super) size: u64,
}

impl Guest {
    pub(super) fn new(fs: &'static str, files: Option<Files>, size: u64) -> Self {
        Self {
            fs,
            files,
            is_held: false,
            mark: None,
            size,
        }
    }

    /// What another image gets of it.
    pub(super) fn copy(&self) -> Self {
        Self::new(self.fs, self.files.clone(), self.size)
    }
}

/// All images, by what they are called: `v1`, `v1@2`, `v1@auto` for what lovol named itself, of which there
/// is one at most, and with `trash/` before it if deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State(pub(super) BTreeMap<String, Guest>);

impl State {
    /// Each image, and what is noted of it.
    pub(super) fn notes(&self) -> BTreeSet<String> {
        let note =
            |(name, guest): (&String, &Guest)| note(name, guest.is_held, guest.mark, guest.size);
        self.0.iter().map(note).collect()
    }

    /// What a pool's index has noted; that the files are the same is the check's to say.
    pub(super) fn of_pool(dir: &Path) -> BTreeSet<String> {
        let index = Index::parse(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
        let mut notes = BTreeSet::new();
        let mut add = |name: &str, volume: &Volume| {
            notes.insert(note_of(name, &volume.record));
            for (snapshot, record) in &volume.snapshots {
                notes.insert(note_of(&snapshot_of(name, snapshot), record));
            }
        };
        for (name, volume) in &index.volumes {
            add(name.as_str(), volume);
        }
        for trashed in index.trash.values() {
            add(&format!("trash/{}", trashed.name), &trashed.volume);
        }
        notes
    }

    /// The names of those that a test likes.
    pub(super) fn select(&self, is_liked: impl Fn(&str) -> bool) -> Vec<String> {
        let names = self.0.keys().filter(|name| is_liked(name));
        names.cloned().collect()
    }

    /// The snapshots of a volume.
    pub(super) fn snapshots(&self, volume: &str) -> Vec<String> {
        let start = format!("{volume}@");
        self.select(|name| name.starts_with(&start))
    }

    /// A volume with all its snapshots gets another name.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        for (name, guest) in self.take(from) {
            self.0.insert(name.replacen(from, to, 1), guest);
        }
    }

    /// Takes an image out, with all its snapshots.
    pub(super) fn take(&mut self, name: &str) -> Vec<(String, Guest)> {
        let snapshots = format!("{name}@");
        let taken = self.select(|other| other == name || other.starts_with(&snapshots));
        let take = |name: String| self.0.remove_entry(&name).unwrap();
        taken.into_iter().map(take).collect()
    }
}

/// What a snapshot is called here.
pub(super) fn snapshot_of(volume: &str, snapshot: &Name) -> String {
    if snapshot.is_automatic() {
        format!("{volume}@auto")
    } else {
        format!("{volume}@{snapshot}")
    }
}

fn note_of(name: &str, record: &Record) -> String {
    let mark = record.properties.get("user:mark");
    let mark = mark.map(|mark| mark.parse().unwrap());
    note(name, !record.holds.is_empty(), mark, record.size >> 20)
}

fn note(name: &str, is_held: bool, mark: Option<u64>, size: u64) -> String {
    let held = if is_held { ", held" } else { "" };
    let mark = mark.map_or(String::new(), |mark| format!(", mark {mark}"));
    format!("{name}, {size} MiB{held}{mark}")
}
