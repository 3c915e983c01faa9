//! Somebody who works in the guests and with lovol, and notes what is to be there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::state::{Files, Guest, State, bytes};
use super::{Bed, HOME_SIZE, Home};
use crate::support::{Numbers, lovol};

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
                .insert((*name).to_owned(), Guest::new(fs, None, HOME_SIZE));
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
    pub(super) pool: PathBuf,
    pub(super) homes: Vec<(Home, Files)>,
    log: Arc<Log>,
    pub(super) numbers: Numbers,
    pub(super) next: u64,
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
}
