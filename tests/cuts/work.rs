//! Somebody who works in the guests and with lovol, and notes what is to be there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::state::{Files, Guest, State, bytes};
use super::{Bed, Home};
use crate::support::{Numbers, lovol};

/// More images would make a cut slow to look into.
const IMAGES: usize = 9;

/// What the worker has done, and what is to be there after each of its verbs.
pub(super) struct Log {
    pub(super) states: Mutex<Vec<State>>,
    pub(super) begun: AtomicUsize,
    pub(super) acknowledged: AtomicUsize,
    pub(super) is_over: AtomicBool,
}

impl Log {
    pub(super) fn new(homes: &[Home]) -> Self {
        let mut first = State::default();
        for Home { name, fs, .. } in homes {
            first
                .0
                .insert((*name).to_owned(), Guest { fs, files: None });
        }
        Self {
            states: Mutex::new(vec![first]),
            begun: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        }
    }
}

pub(super) struct Worker {
    pool: PathBuf,
    homes: Vec<(Home, Files)>,
    log: Arc<Log>,
    numbers: Numbers,
    next: u64,
}

impl Worker {
    pub(super) fn new(bed: &Bed, log: &Arc<Log>, numbers: Numbers) -> Self {
        Self {
            pool: bed.pool.clone(),
            homes: bed
                .homes
                .iter()
                .map(|home| (home.clone(), Files::new()))
                .collect(),
            log: Arc::clone(log),
            numbers,
            next: 0,
        }
    }

    pub(super) fn run(mut self) {
        while !self.log.is_over.load(SeqCst) {
            self.next += 1;
            self.change_a_file();
            let mut state = self.log.states.lock().unwrap().last().unwrap().clone();
            let words = self.choose(&mut state);
            self.log.states.lock().unwrap().push(state);
            self.log.begun.fetch_add(1, SeqCst);
            lovol(&words).env("LOVOL_POOL", &self.pool).ok_any();
            self.log.acknowledged.fetch_add(1, SeqCst);
        }
    }

    /// In each guest; to make it durable is left to the freeze.
    fn change_a_file(&mut self) {
        for (home, files) in &mut self.homes {
            let name = format!("f{}", self.numbers.below(4));
            let path = home.dir.join(&name);
            if self.numbers.below(4) == 0 && files.remove(&name).is_some() {
                std::fs::remove_file(path).unwrap();
            } else {
                let seed = self.numbers.below(u64::MAX);
                std::fs::write(path, bytes(seed)).unwrap();
                files.insert(name, seed);
            }
        }
    }

    /// A verb that can succeed; `state` becomes what is there after it.
    fn choose(&mut self, state: &mut State) -> String {
        let number = self.next;
        let new = format!("v{number}");
        let snapshots = state.select(|name| name.starts_with("home@") || name.starts_with("var@"));
        let volumes =
            state.select(|name| name.starts_with('v') && !name.contains('@') && name != "var");
        let trash = state.select(|name| name.starts_with("trash/") && !name.contains('@'));
        let has_room = state.0.len() < IMAGES;
        match self.numbers.below(14) {
            0 if has_room => {
                let files = Some(Files::new());
                state.0.insert(new.clone(), Guest { fs: "ext4", files });
                format!("create {new} 16M --fs ext4")
            }
            1 if has_room && !snapshots.is_empty() => {
                let from = self.numbers.pick(&snapshots);
                let guest = state.0[from].clone();
                state.0.insert(new.clone(), guest);
                format!("clone {from} {new}")
            }
            2 if has_room => {
                state.0.insert(new.clone(), self.guest(0));
                format!("clone home {new}")
            }
            3 if has_room && !volumes.is_empty() => {
                let volume = self.numbers.pick(&volumes);
                let guest = state.0[volume].clone();
                state.0.insert(format!("{volume}@{number}"), guest);
                format!("snapshot {volume}@{number}")
            }
            4 | 5 if !volumes.is_empty() => {
                let old = self.numbers.pick(&volumes);
                state.rename(old, &new);
                format!("rename {old} {new}")
            }
            6 if !volumes.is_empty() => {
                let old = self.numbers.pick(&volumes);
                state.rename(old, &format!("trash/{old}"));
                format!("delete -r {old}")
            }
            7 if !trash.is_empty() => {
                let old = self.numbers.pick(&trash);
                state.rename(old, &new);
                format!("undelete {} --as {new}", old.trim_start_matches("trash/"))
            }
            8 if !trash.is_empty() => {
                let old = self.numbers.pick(&trash);
                state.take(old);
                format!("purge -y {}", old.trim_start_matches("trash/"))
            }
            9 if !snapshots.is_empty() => {
                let old = self.numbers.pick(&snapshots);
                let (home, _) = old.split_once('@').unwrap();
                state.rename(old, &format!("{home}@{number}"));
                format!("rename {old} {number}")
            }
            10 | 11 if has_room => {
                state.0.insert(format!("home@{number}"), self.guest(0));
                state.0.insert(format!("var@{number}"), self.guest(1));
                format!("snapshot home@{number} var@{number}")
            }
            _ if has_room || snapshots.is_empty() => {
                state.0.insert(format!("home@{number}"), self.guest(0));
                format!("snapshot home@{number}")
            }
            _ => {
                let old = self.numbers.pick(&snapshots);
                state.take(old);
                format!("delete {old}")
            }
        }
    }

    /// A home as it is now.
    fn guest(&self, home: usize) -> Guest {
        let (home, files) = &self.homes[home];
        Guest {
            fs: home.fs,
            files: Some(files.clone()),
        }
    }
}
