//! What the verbs work on: a pool, guests that are mounted and written to all the time, and what is
//! there before and must not change.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::verbs::{Done, Spoil, Verb};
use crate::support::{
    Finished, LOVOL, Lovol, TestPool, Thaw, Trace, Writer, lovol, lovol_called, mounts, wait_until,
};

/// A case takes less; what is frozen for longer is thawed from outside, and the case is lost.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How long what a dead lovol has left behind (its guardian, a mkfs, a device) may take to go.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// A guest filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    Xfs,
    Ext4,
    Btrfs,
}

impl Guest {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
        }
    }

    /// As small as its mkfs takes, with room for the writer.
    fn size(self) -> &'static str {
        match self {
            Self::Xfs => "300M",
            Self::Ext4 => "20M",
            Self::Btrfs => "110M",
        }
    }
}

/// A mounted guest that somebody writes to, and that is thawed even if lovol fails to.
struct Mounted {
    writer: Writer,
    thaw: Thaw,
    volume: &'static str,
}

/// Files by their paths, and their inodes.
pub(super) type Files = BTreeMap<PathBuf, u64>;

/// What is there before a verb.
pub(super) struct Before {
    /// Of the file that the verb resizes.
    pub(super) length: u64,
    pub(super) files: Files,
    pub(super) used: Vec<PathBuf>,
}

/// A pool with its guests.
pub(super) struct Bed {
    // The writers must stop before the pool goes.
    guests: Vec<Mounted>,
    fs: Guest,
    pub(super) outer: TestPool,
    pub(super) round: usize,
    /// What is attached and mounted when no verb is under way.
    pub(super) used: Vec<PathBuf>,
    pub(super) files: Files,
    pub(super) kept: Vec<u64>,
}

impl Bed {
    /// `home` with the first of these filesystems, and one volume for each of the others.
    #[track_caller]
    pub(super) fn new(filesystems: &[Guest]) -> Self {
        let outer = TestPool::raw();
        outer.sh("rm -f /run/lovol/*; mkdir $POOL/yard");
        let mut bed = Self {
            guests: Vec::new(),
            fs: filesystems[0],
            outer,
            round: 0,
            used: Vec::new(),
            files: Files::new(),
            kept: Vec::new(),
        };
        for dir in ["view", "spare"] {
            bed.outer.dir(dir);
        }
        symlink(LOVOL, bed.outer.temp().join("mount.lovol")).unwrap();
        bed.lovol("init").ok_any();
        for (number, fs) in filesystems.iter().enumerate() {
            bed.add_guest(if number == 0 { "home" } else { fs.name() }, *fs);
        }
        for guest in &bed.guests {
            bed.lovol(&format!("snapshot {}@keep", guest.volume))
                .ok_any();
        }
        bed.lovol("clone home@keep spare").ok_any();
        bed.lovol("snapshot spare@keep").ok_any();
        bed.lovol("clone spare@keep ./image").ok_any();
        bed.used = bed.in_use();
        bed.files = bed.files_now();
        bed.kept = bed.hash_of_kept();
        bed
    }

    #[track_caller]
    fn add_guest(&mut self, volume: &'static str, fs: Guest) {
        let dir = self.outer.dir(volume);
        let words = format!("create {volume} {} --fs {}", fs.size(), fs.name());
        self.lovol(&words).ok_any();
        self.lovol("mount").arg(volume).arg(&dir).ok_any();
        fs::write(dir.join("letter"), "precious").unwrap();
        let thaw = Thaw::later(&dir, TOO_LONG);
        let writer = Writer::start(&dir);
        self.guests.push(Mounted {
            writer,
            thaw,
            volume,
        });
    }

    pub(super) fn lovol(&self, words: &str) -> Lovol {
        let words = self.filled_in(words);
        let command = match words.strip_prefix("mount.lovol ") {
            Some(rest) => lovol_called(self.outer.temp().join("mount.lovol"), rest),
            None => lovol(&words),
        };
        let command = command.env("LOVOL_POOL", self.pool());
        command.within(self.outer.path().join("yard"))
    }

    /// Words with the round's number and what else differs.
    pub(super) fn filled_in(&self, words: &str) -> String {
        words
            .replace("{}", &self.round.to_string())
            .replace("$TEMP", self.outer.temp().to_str().unwrap())
            .replace("$FS", self.fs.name())
            .replace("$SIZE", self.fs.size())
    }

    #[track_caller]
    pub(super) fn sh(&self, script: &str) -> String {
        self.outer.sh(&self.filled_in(script))
    }

    pub(super) fn pool(&self) -> PathBuf {
        self.outer.path().join("pool")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.outer.temp().join("strace")
    }

    /// Where the guests are mounted.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let root = |guest: &Mounted| self.outer.temp().join(guest.volume);
        self.guests.iter().map(root).collect()
    }

    pub(super) fn fs(&self) -> Guest {
        self.fs
    }

    /// Begins a round: makes what the verb needs.
    #[track_caller]
    pub(super) fn prepare(&mut self, verb: &Verb) -> Before {
        self.round += 1;
        self.postpone_thaw();
        let index = self.pool().join("index.json");
        let old = fs::read(&index).unwrap();
        for words in verb.prepare {
            self.lovol(words).ok_any();
        }
        match verb.spoil {
            Spoil::No => {}
            Spoil::Fstab(line) => {
                let yard = self.outer.path().join("yard");
                let file = yard.join(self.filled_in("fstab{}"));
                fs::write(file, self.filled_in(line) + "\n").unwrap();
            }
            Spoil::IndexIsOld => fs::write(&index, old).unwrap(),
            Spoil::HomeIsFrozen => self.freeze_home(),
        }
        Before {
            length: match verb.done {
                Done::Resized(path) => self.length(path),
                _ => 0,
            },
            files: self.files_now(),
            used: self.in_use(),
        }
    }

    /// As a lovol does whose last call is FIFREEZE.
    #[track_caller]
    fn freeze_home(&self) {
        let image = self.pool().join("volumes/home.img").metadata().unwrap();
        let home = self.outer.temp().join("home");
        let mount = mounts()
            .into_iter()
            .find(|mount| mount.dir == home)
            .unwrap();
        let note = serde_json::json!({
            "pid": 1,
            "loop_number": mount.source.trim_start_matches("/dev/loop").parse::<u32>().unwrap(),
            "device": image.dev(),
            "inode": image.ino(),
            "fstype": self.fs.name(),
            "name": "home",
        });
        let mut marker = vec![0; 4096];
        // FROZEN
        marker[..4].copy_from_slice(&2_u32.to_ne_bytes());
        marker.extend(note.to_string().into_bytes());
        fs::write("/run/lovol/freeze-1-0", marker).unwrap();
        self.sh("fsfreeze --freeze $TEMP/home");
    }

    /// Runs the verb under strace.
    #[track_caller]
    pub(super) fn shoot(&self, verb: &Verb, options: &str) -> (Finished, Trace) {
        let finished = self.lovol(verb.words).strace(self.log(), options).finish();
        (finished, Trace::read(self.log()))
    }

    pub(super) fn postpone_thaw(&mut self) {
        for guest in &mut self.guests {
            guest.thaw.postpone();
        }
    }

    /// How many writes are durable.
    pub(super) fn writes(&self) -> Vec<u64> {
        self.guests
            .iter()
            .map(|guest| guest.writer.count())
            .collect()
    }

    /// Fails if a guest is frozen, or was until the outside thawed it.
    #[track_caller]
    pub(super) fn must_be_written_to(&mut self) {
        self.postpone_thaw();
        for Mounted {
            writer,
            thaw,
            volume,
        } in &mut self.guests
        {
            writer.must_go_on();
            let is_late = thaw.has_come();
            assert!(!is_late, "{volume} was frozen until the test thawed it");
        }
    }

    /// The files that the pattern means in this round.
    pub(super) fn find(&self, pattern: &str) -> Vec<PathBuf> {
        let pattern = self.filled_in(pattern);
        let path = match pattern.strip_prefix("../") {
            Some(beside) => self.outer.path().join(beside),
            None => self.pool().join(pattern),
        };
        let mut found = vec![PathBuf::new()];
        for part in &path {
            found = found.iter().flat_map(|dir| matches(dir, part)).collect();
        }
        found
    }

    /// The size in bytes of the one file that the pattern means.
    pub(super) fn length(&self, pattern: &str) -> u64 {
        self.find(pattern)[0].metadata().unwrap().len()
    }

    /// All files and directories in the pool and beside it, and their inodes.
    pub(super) fn files_now(&self) -> Files {
        let mut files = Files::new();
        let mut dirs = vec![self.outer.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).unwrap().flatten() {
                // Replaced each time.
                if ["ballast", "shares", "index.json", ".index.json.new"]
                    .map(Into::into)
                    .contains(&entry.file_name())
                {
                    continue;
                }
                let metadata = entry.metadata().unwrap();
                // What is mounted there has inodes of its own.
                if metadata.is_dir()
                    && metadata.dev() == self.outer.path().metadata().unwrap().dev()
                {
                    dirs.push(entry.path());
                }
                files.insert(entry.path(), metadata.ino());
            }
        }
        files
    }

    /// What is attached and mounted: the files and the directories.
    pub(super) fn in_use(&self) -> Vec<PathBuf> {
        let mut used: Vec<_> = fs::read_dir("/sys/block")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("loop/backing_file")).ok())
            .map(|file| PathBuf::from(file.trim()))
            .filter(|file| file.starts_with(self.outer.temp()))
            .collect();
        used.extend(self.mount_dirs());
        used.sort();
        used
    }

    /// In the order of mounting.
    pub(super) fn mount_dirs(&self) -> Vec<PathBuf> {
        let dirs = mounts().into_iter().map(|mount| mount.dir);
        dirs.filter(|dir| dir.starts_with(self.outer.temp()))
            .collect()
    }

    pub(super) fn is_used(&self, end: &str) -> bool {
        let is_it = |path: &PathBuf| path.to_string_lossy().ends_with(end);
        self.in_use().iter().any(is_it)
    }

    /// Fails unless as much is in use again as before.
    #[track_caller]
    pub(super) fn must_use_the_same(&self, before: &Before) {
        let what = "what it has attached and mounted is free again";
        wait_until(what, SOON, || self.in_use() == before.used);
    }

    /// Fails if more is in use than before the verb and what it is about.
    #[track_caller]
    pub(super) fn must_use_nothing_but(&self, verb: &Verb) {
        let is_meant =
            |path: &PathBuf| !verb.uses.is_empty() && path.to_string_lossy().contains(verb.uses);
        let rest = || -> Vec<_> {
            self.in_use()
                .into_iter()
                .filter(|path| !is_meant(path) || self.used.contains(path))
                .collect()
        };
        wait_until("nothing else is attached or mounted", SOON, || {
            rest() == self.used
        });
        if matches!(verb.done, Done::Mounted(_)) {
            wait_until("a device without a mount goes away", SOON, || {
                self.is_used("/spare.img") == self.is_used("/spare")
            });
        }
    }
}

/// What in a directory has this name, which may end with `*`.
fn matches(dir: &Path, name: &OsStr) -> Vec<PathBuf> {
    let Some(start) = name.to_str().unwrap().strip_suffix('*') else {
        let path = dir.join(name);
        return path.exists().then_some(path).into_iter().collect();
    };
    let entries = fs::read_dir(dir).unwrap().flatten();
    let is_one = |entry: &DirEntry| entry.file_name().to_str().unwrap().starts_with(start);
    entries.filter(is_one).map(|entry| entry.path()).collect()
}
