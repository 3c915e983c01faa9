//! Which verb comes next, and what is there after it.

use lovol::index::Index;

use super::HOME_SIZE;
use super::state::{Files, Guest, State};
use super::work::Worker;
use crate::support::Numbers;

/// More images would make a cut slow to look into.
const IMAGES: usize = 9;

/// The images of a state, by what can be done with them.
struct Images {
    /// Of `home` and `var`, by names that a person gave them.
    snapshots: Vec<String>,
    /// Those of them that are held, and that are not.
    held: Vec<String>,
    free: Vec<String>,
    /// All but `home` and `var`.
    volumes: Vec<String>,
    trash: Vec<String>,
    has_room: bool,
}

impl Images {
    fn of(state: &State) -> Self {
        let is_of_a_home = |name: &str| name.starts_with("home@") || name.starts_with("var@");
        let is_snapshot = |name: &str| is_of_a_home(name) && !name.ends_with("@auto");
        let is_held = |name: &str| state.0[name].is_held;
        Self {
            snapshots: state.select(is_snapshot),
            held: state.select(|name| is_snapshot(name) && is_held(name)),
            free: state.select(|name| is_snapshot(name) && !is_held(name)),
            volumes: state
                .select(|name| name.starts_with('v') && !name.contains('@') && name != "var"),
            trash: state.select(|name| name.starts_with("trash/") && !name.contains('@')),
            has_room: state.0.len() < IMAGES,
        }
    }
}

impl Worker {
    /// A verb that can succeed; `state` becomes what is there after it.
    pub(super) fn choose(&mut self, state: &mut State) -> String {
        let images = Images::of(state);
        let words = match self.numbers.below(24) {
            0..=6 => self.make(state, &images),
            7..=15 => self.move_about(state, &images),
            16..=18 => self.go_back(state, &images),
            _ => self.note(state, &images),
        };
        words.unwrap_or_else(|| {
            if images.has_room || images.free.is_empty() {
                state.0.insert(format!("home@{}", self.next), self.guest(0));
                format!("snapshot home@{}", self.next)
            } else {
                let old = self.numbers.pick(&images.free);
                state.take(old);
                format!("delete {old}")
            }
        })
    }

    /// Another image.
    fn make(&mut self, state: &mut State, images: &Images) -> Option<String> {
        if !images.has_room {
            return None;
        }
        let (number, new) = (self.next, format!("v{}", self.next));
        match self.numbers.below(7) {
            0 => {
                let guest = Guest::new("ext4", Some(Files::new()), 16);
                state.0.insert(new.clone(), guest);
                Some(format!("create {new} 16M --fs ext4"))
            }
            1 => {
                let from = pick(&mut self.numbers, &images.snapshots)?;
                let guest = state.0[from].copy();
                state.0.insert(new.clone(), guest);
                Some(format!("clone {from} {new}"))
            }
            2 => {
                state.0.insert(new.clone(), self.guest(0));
                Some(format!("clone home {new}"))
            }
            3 | 4 => {
                let volume = pick(&mut self.numbers, &images.volumes)?;
                let guest = state.0[volume].copy();
                state.0.insert(format!("{volume}@{number}"), guest);
                Some(format!("snapshot {volume}@{number}"))
            }
            _ => {
                state.0.insert(format!("home@{number}"), self.guest(0));
                state.0.insert(format!("var@{number}"), self.guest(1));
                Some(format!("snapshot home@{number} var@{number}"))
            }
        }
    }

    /// Another name, or none.
    fn move_about(&mut self, state: &mut State, images: &Images) -> Option<String> {
        let (number, new) = (self.next, format!("v{}", self.next));
        match self.numbers.below(8) {
            0 | 1 => {
                let old = pick(&mut self.numbers, &images.volumes)?;
                state.rename(old, &new);
                Some(format!("rename {old} {new}"))
            }
            2 => {
                let old = pick(&mut self.numbers, &images.volumes)?;
                state.rename(old, &format!("trash/{old}"));
                Some(format!("delete -r {old}"))
            }
            3 => {
                let old = pick(&mut self.numbers, &images.trash)?;
                state.rename(old, &new);
                let name = old.trim_start_matches("trash/");
                Some(format!("undelete {name} --as {new}"))
            }
            4 => {
                let old = pick(&mut self.numbers, &images.trash)?;
                state.take(old);
                Some(format!("purge -y {}", old.trim_start_matches("trash/")))
            }
            5 => {
                let old = pick(&mut self.numbers, &images.snapshots)?;
                let (home, _) = old.split_once('@').unwrap();
                state.rename(old, &format!("{home}@{number}"));
                Some(format!("rename {old} {number}"))
            }
            6 => self.prune(state, images),
            _ => {
                let old = pick(&mut self.numbers, &images.free)?;
                state.take(old);
                Some(format!("delete {old}"))
            }
        }
    }

    /// The oldest of several goes: more at once would not be one step.
    fn prune(&mut self, state: &mut State, images: &Images) -> Option<String> {
        let volume = pick(&mut self.numbers, &images.volumes)?;
        let mut snapshots = state.snapshots(volume);
        // They have the numbers of their making.
        snapshots.sort_by_key(|name| name.split_once('@').unwrap().1.parse().unwrap_or(u64::MAX));
        let (oldest, newer) = snapshots.split_first()?;
        if newer.is_empty() || newer.iter().any(|name| name.ends_with("@auto")) {
            return None;
        }
        state.take(oldest);
        Some(format!(
            "prune {volume} --named --keep-last {}",
            newer.len()
        ))
    }

    /// What a volume was stays as a snapshot that lovol names, which gets a name of its own when there
    /// is one already.
    fn go_back(&mut self, state: &mut State, images: &Images) -> Option<String> {
        if state.0.contains_key("home@auto") {
            let number = self.next;
            state.rename("home@auto", &format!("home@{number}"));
            return Some(format!("rename {} {number}", self.automatic_of_home()));
        }
        if !images.has_room {
            return None;
        }
        if self.numbers.below(2) == 0 {
            let homes = images
                .snapshots
                .iter()
                .filter(|name| name.starts_with("home@"));
            let homes: Vec<String> = homes.cloned().collect();
            let to = pick(&mut self.numbers, &homes)?;
            state.0.insert("home@auto".to_owned(), self.guest(0));
            self.homes[0].1 = state.0[to].files.clone().unwrap();
            return Some(format!("rollback --remount {to}"));
        }
        let volume = pick(&mut self.numbers, &images.volumes)?;
        let snapshots = state.snapshots(volume);
        let before = format!("{volume}@auto");
        if snapshots.contains(&before) {
            return None;
        }
        let to = pick(&mut self.numbers, &snapshots)?;
        let was = state.0[volume].copy();
        let Guest { files, size, .. } = state.0[to].clone();
        state.0.insert(before, was);
        // Its mark stays.
        let guest = state.0.get_mut(volume).unwrap();
        (guest.files, guest.size) = (files, size);
        Some(format!("rollback {to}"))
    }

    fn automatic_of_home(&self) -> String {
        let index = Index::parse(&std::fs::read(self.pool.join("index.json")).unwrap()).unwrap();
        let mut names = index.volumes["home"].snapshots.keys();
        format!("home@{}", names.find(|name| name.is_automatic()).unwrap())
    }

    /// No other image, but something about one.
    fn note(&mut self, state: &mut State, images: &Images) -> Option<String> {
        let volumes = ["home", "var"].map(str::to_owned);
        let volumes = [&volumes[..], &images.volumes[..]].concat();
        match self.numbers.below(5) {
            0 => {
                let volume = self.numbers.pick(&volumes);
                state.0.get_mut(volume).unwrap().mark = Some(self.next);
                Some(format!("set {volume} user:mark={}", self.next))
            }
            1 => {
                let name = pick(&mut self.numbers, &images.free)?;
                state.0.get_mut(name).unwrap().is_held = true;
                Some(format!("hold {name}"))
            }
            2 => {
                let name = pick(&mut self.numbers, &images.held)?;
                state.0.get_mut(name).unwrap().is_held = false;
                Some(format!("release {name}"))
            }
            3 => {
                let volume = pick(&mut self.numbers, &images.volumes)?;
                state.0.get_mut(volume).unwrap().size += 16;
                Some(format!("resize {volume} +16M"))
            }
            _ => Some(format!("trim {}", self.numbers.pick(&volumes))),
        }
    }

    /// A home as it is now.
    fn guest(&self, home: usize) -> Guest {
        let (home, files) = &self.homes[home];
        Guest::new(home.fs, Some(files.clone()), HOME_SIZE)
    }
}

/// One of these, if there is one.
fn pick<'a>(numbers: &mut Numbers, from: &'a [String]) -> Option<&'a String> {
    (!from.is_empty()).then(|| numbers.pick(from))
}
