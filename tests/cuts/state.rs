//! What is in a pool, and what is in each image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lovol::index::{Index, Volume};

use crate::support::Numbers;

/// Files by name, each by the seed that its bytes come from.
pub(super) type Files = BTreeMap<String, u64>;

/// The bytes of a file.
pub(super) fn bytes(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let length = usize::try_from(numbers.below(40_000)).unwrap();
    numbers.bytes(length)
}

/// A guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) fs: &'static str,
    /// Nothing is known of the files of one that is in use.
    pub(super) files: Option<Files>,
}

/// All images, by what they are called: `v1`, `v1@2`, and with `trash/` before it if deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State(pub(super) BTreeMap<String, Guest>);

impl State {
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// What a pool's index names; that the files are the same is the check's to say.
    pub(super) fn of_pool(dir: &Path) -> BTreeSet<String> {
        let index = Index::parse(&std::fs::read(dir.join("index.json")).unwrap()).unwrap();
        let mut names = BTreeSet::new();
        let mut add = |name: &str, volume: &Volume| {
            names.insert(name.to_owned());
            let snapshots = volume.snapshots.keys();
            names.extend(snapshots.map(|snapshot| format!("{name}@{snapshot}")));
        };
        for (name, volume) in &index.volumes {
            add(name.as_str(), volume);
        }
        for trashed in index.trash.values() {
            add(&format!("trash/{}", trashed.name), &trashed.volume);
        }
        names
    }

    /// The names of those that a test likes.
    pub(super) fn select(&self, is_liked: impl Fn(&str) -> bool) -> Vec<String> {
        let names = self.0.keys().filter(|name| is_liked(name));
        names.cloned().collect()
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
