//! What fits where: the words that a shell offers after TAB.
//!
//! The shells' scripts in `completions/` ask lovol itself (`$LOVOL_COMPLETE`), whose command line
//! clap_complete knows; the arguments name functions of this file for what is in the pool.
//!
//! Whoever presses TAB need not be root, and waits: so the index is read as it is, without a lock or
//! a check, and only its names; whether an image is attached is asked of sysfs, not of the device.
//! Where there is nothing to say, nothing is said, on stderr neither.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap_complete::engine::{ArgValueCompleter, PathCompleter, ValueCompleter};
use clap_complete::{CompleteEnv, CompletionCandidate};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cli::{command, default_pool};
use crate::pool::INDEX;
use crate::sys::{loopdev, mountinfo};

/// The variable by which a shell's script asks.
const VARIABLE: &str = "LOVOL_COMPLETE";

/// Answers a shell that asks; false if this is a command like any other.
pub fn answer(arguments: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    let env = CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .bin("lovol")
        .completer("lovol");
    // Whatever goes wrong: an empty answer is better than words in the middle of a line.
    env.try_complete(arguments.iter().cloned(), here.as_deref())
        .unwrap_or(true)
}

/// Which images fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Whatever they are used for.
    Any,
    /// Those that no device shows.
    Detached,
    /// Those that a device shows, and nobody has mounted.
    Attached,
    /// Those that are not mounted.
    Unmounted,
    /// Those that are mounted.
    Mounted,
}

/// Volumes.
pub fn volumes(which: Which) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| targets(current, which, false))
}

/// Volumes and, behind an `@`, their snapshots.
pub fn images(which: Which) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| targets(current, which, true))
}

/// The verbs.
pub fn verbs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let lovol = command();
        let shown = lovol.get_subcommands().filter(|verb| !verb.is_hide_set());
        beginning_with(
            current,
            shown.map(|verb| verb.get_name().to_owned()).collect(),
        )
    })
}

/// Volumes in the trash, by either of their names.
pub fn trash() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let trash = Names::read().map(|names| names.trash).unwrap_or_default();
        let names = trash
            .into_iter()
            .flat_map(|(id, trashed)| [id, trashed.name]);
        let names: BTreeSet<String> = names.collect();
        beginning_with(current, names)
    })
}

/// A number with its unit.
pub fn size() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let text = current.to_str().unwrap_or_default();
        let number = text.trim_start_matches('+');
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Vec::new();
        }
        ["M", "G", "T"]
            .map(|unit| CompletionCandidate::new(format!("{text}{unit}")))
            .into()
    })
}

/// Directories.
pub fn directory() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::dir())
}

/// The last of several mount options: the words that all filesystems know, and lovol's own.
pub fn mount_options() -> ArgValueCompleter {
    const WORDS: [&str; 14] = [
        "ro",
        "rw",
        "noatime",
        "relatime",
        "lazytime",
        "nodev",
        "nosuid",
        "noexec",
        "sync",
        "discard",
        "nodiscard",
        "fsck",
        "nodio",
        "snap=",
    ];
    ArgValueCompleter::new(|current: &OsStr| {
        let text = current.to_str().unwrap_or_default();
        let (before, last) = text
            .rsplit_once(',')
            .map_or(("", text), |(before, last)| (before, last));
        let taken: Vec<&str> = before.split(',').collect();
        let before = &text[..text.len() - last.len()];
        if let Some(begun) = last.strip_prefix("snap=") {
            let names = snapshots_of_named(begun).into_iter();
            return candidates(names.map(|name| format!("{before}snap={name}")));
        }
        let fits = |word: &&str| word.starts_with(last) && !taken.contains(word);
        let words = WORDS.iter().copied().filter(fits);
        words
            .map(|word| CompletionCandidate::new(format!("{before}{word}")))
            .collect()
    })
}

/// The snapshots of the volumes that are named on the line.
fn snapshots_of_named(begun: &str) -> Vec<String> {
    let line: BTreeSet<OsString> = std::env::args_os().collect();
    let volumes = Names::read().map(|names| names.volumes).unwrap_or_default();
    let wanted = volumes
        .into_iter()
        .filter(|(name, _)| line.contains(OsStr::new(name)));
    let names = wanted.flat_map(|(_, entry)| entry.snapshots.into_keys());
    names.filter(|name| name.starts_with(begun)).collect()
}

fn targets(current: &OsStr, which: Which, with_snapshots: bool) -> Vec<CompletionCandidate> {
    if current.as_encoded_bytes().contains(&b'/') {
        return PathCompleter::any().complete(current);
    }
    let (Some(names), Some(text)) = (Names::read(), current.to_str()) else {
        return Vec::new();
    };
    let uses = Uses::look(which);
    let pool = pool_dir();
    match text.split_once('@') {
        None => {
            let fits = |name: &&String| {
                uses.fits(&pool.join(format!("volumes/{name}.img")))
                    || with_snapshots && names.has_fitting(name, &uses, &pool)
            };
            let own = names.volumes.keys().filter(|name| name.starts_with(text));
            candidates(own.filter(fits).cloned())
        }
        Some((volume, rest)) if with_snapshots => {
            let Some(entry) = names.volumes.get(volume) else {
                return Vec::new();
            };
            // The second end of a range: VOLUME@FIRST%LAST.
            let (first, begun) = rest
                .rsplit_once('%')
                .map_or(("", rest), |(first, begun)| (first, begun));
            let before = if first.is_empty() {
                String::new()
            } else {
                format!("{first}%")
            };
            let dir = pool.join(format!("snapshots/{volume}"));
            let own = entry
                .snapshots
                .keys()
                .filter(|name| name.starts_with(begun));
            let own = own.filter(|name| uses.fits(&dir.join(format!("{name}.img"))));
            candidates(own.map(|name| format!("{volume}@{before}{name}")))
        }
        Some(_) => Vec::new(),
    }
}

fn beginning_with(current: &OsStr, names: BTreeSet<String>) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    candidates(names.into_iter().filter(|name| name.starts_with(text)))
}

fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    names.map(CompletionCandidate::new).collect()
}

/// What of the index is needed here; the rest is passed over, which takes a fraction of the time.
#[derive(Debug, Default, Deserialize)]
struct Names {
    #[serde(default)]
    volumes: BTreeMap<String, Snapshots>,
    #[serde(default)]
    trash: BTreeMap<String, Trashed>,
}

#[derive(Debug, Deserialize)]
struct Snapshots {
    #[serde(default)]
    #[allow(
        clippy::zero_sized_map_values,
        reason = "what is passed over is still there to be read"
    )]
    snapshots: BTreeMap<String, IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Trashed {
    name: String,
}

impl Names {
    fn read() -> Option<Self> {
        let text = std::fs::read(pool_dir().join(INDEX)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether one of its snapshots fits: then its name is a beginning.
    fn has_fitting(&self, volume: &str, uses: &Uses, pool: &Path) -> bool {
        let dir = pool.join(format!("snapshots/{volume}"));
        let mut snapshots = self
            .volumes
            .get(volume)
            .into_iter()
            .flat_map(|entry| entry.snapshots.keys());
        snapshots.any(|name| uses.fits(&dir.join(format!("{name}.img"))))
    }
}

/// The pool that was named on the line, or the one where none is.
fn pool_dir() -> PathBuf {
    let words: Vec<OsString> = std::env::args_os().collect();
    let named = words.iter().enumerate().find_map(|(number, word)| {
        if word == "--pool" {
            return words.get(number + 1).cloned();
        }
        word.to_str()?.strip_prefix("--pool=").map(OsString::from)
    });
    let dir = named.map_or_else(default_pool, PathBuf::from);
    // The kernel knows images by their real paths.
    dir.canonicalize().unwrap_or(dir)
}

/// What images are used for, as far as everybody may know.
struct Uses {
    which: Which,
    attached: BTreeSet<PathBuf>,
    mounted: BTreeSet<PathBuf>,
}

impl Uses {
    fn look(which: Which) -> Self {
        let mut uses = Self {
            which,
            attached: BTreeSet::new(),
            mounted: BTreeSet::new(),
        };
        if which == Which::Any {
            return uses;
        }
        let mounts = mountinfo::read().unwrap_or_default();
        for number in loopdev::bound_numbers().unwrap_or_default() {
            let Some(path) = loopdev::backing_path(number) else {
                continue;
            };
            let device = loopdev::device_path(number);
            if mounts.iter().any(|mount| mount.source == device) {
                uses.mounted.insert(path.clone());
            }
            uses.attached.insert(path);
        }
        uses
    }

    fn fits(&self, image: &Path) -> bool {
        let (is_attached, is_mounted) =
            (self.attached.contains(image), self.mounted.contains(image));
        match self.which {
            Which::Any => true,
            Which::Detached => !is_attached,
            Which::Attached => is_attached && !is_mounted,
            Which::Unmounted => !is_mounted,
            Which::Mounted => is_mounted,
        }
    }
}
