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
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{command, default_pool};
use crate::holds;
use crate::pool::{INDEX, settings};
use crate::properties;
use crate::sys::{loopdev, mountinfo};

/// The variable by which a shell's script asks.
const VARIABLE: &str = "LOVOL_COMPLETE";

/// The variable by which bash and zsh say at which word the cursor is, from 0.
const INDEX_VARIABLE: &str = "_CLAP_COMPLETE_INDEX";

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
    /// Those that somebody holds.
    Held,
}

/// What images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Volumes,
    Snapshots,
    Both,
}

/// Volumes.
pub fn volumes(which: Which) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| targets(current, which, Kind::Volumes))
}

/// Snapshots, behind the name of their volume and an `@`.
pub fn snapshots(which: Which) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| targets(current, which, Kind::Snapshots))
}

/// Volumes and snapshots.
pub fn images(which: Which) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| targets(current, which, Kind::Both))
}

/// What `get` shows: an image, or a setting of the pool.
pub fn images_and_settings() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| images_and(current, ""))
}

fn images_and(current: &OsStr, end: &str) -> Vec<CompletionCandidate> {
    let mut offered = targets(current, Which::Any, Kind::Both);
    offered.extend(beginning_with(current, keys(settings::names(), end)));
    offered
}

/// What `set` takes: an image, or a setting of the pool; behind an image its properties.
pub fn changes() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| match operands("set").first() {
        Some(first) if is_target(first) => beginning_with(current, properties_of(first, "=")),
        Some(_) => beginning_with(current, keys(settings::names(), "=")),
        None => images_and(current, "="),
    })
}

/// The properties of the image that is named before.
pub fn properties() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| match operands("get").first() {
        Some(first) => beginning_with(current, properties_of(first, "")),
        None => Vec::new(),
    })
}

/// As `set` tells a target from a setting.
fn is_target(word: &str) -> bool {
    !word.contains('=') || word.starts_with(['/', '.'])
}

/// Those that lovol knows are of volumes.
fn properties_of(target: &str, end: &str) -> BTreeSet<String> {
    if target.contains('@') || settings::is_known(target) {
        return BTreeSet::new();
    }
    keys(properties::NAMES.into_iter(), end)
}

/// The words between a verb and the one that is to be completed, without options.
fn operands(verb: &str) -> Vec<String> {
    const WITH_VALUE: [&str; 3] = ["--pool", "--wait", "--color"];
    let mut rest = words_before_cursor().into_iter();
    let mut operands = Vec::new();
    while let Some(word) = rest.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            rest.next();
        } else if !word.starts_with('-') {
            operands.push(word);
        }
    }
    if operands.first().is_some_and(|word| word == "subvolume") {
        operands.remove(0);
    }
    // It may be abbreviated.
    let is_verb = operands
        .first()
        .is_some_and(|word| verb.starts_with(word.as_str()));
    if is_verb {
        operands.split_off(1)
    } else {
        Vec::new()
    }
}

/// Behind `lovol`, without the one at the cursor, which is the last where the shell does not say.
fn words_before_cursor() -> Vec<String> {
    // lovol -- lovol WORD...
    let line = words().into_iter().skip(2);
    let mut line: Vec<String> = line
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let index = std::env::var(INDEX_VARIABLE).ok();
    let index = index.and_then(|index| index.parse().ok());
    line.truncate(index.unwrap_or(line.len().saturating_sub(1)));
    line.into_iter().skip(1).collect()
}

fn keys(names: impl Iterator<Item = &'static str>, end: &str) -> BTreeSet<String> {
    names.map(|name| format!("{name}{end}")).collect()
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
    ArgValueCompleter::new(with_unit)
}

/// The same, with a sign perhaps, or as much as there is room for.
pub fn new_size() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut offered = with_unit(current);
        offered.extend(beginning_with(current, BTreeSet::from(["max".to_owned()])));
        offered
    })
}

fn with_unit(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    let number = text.trim_start_matches(['+', '-']);
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    candidates(
        ["M", "G", "T"]
            .map(|unit| format!("{text}{unit}"))
            .into_iter(),
    )
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
    let line: BTreeSet<OsString> = words().into_iter().collect();
    let volumes = Names::read().map(|names| names.volumes).unwrap_or_default();
    let wanted = volumes
        .into_iter()
        .filter(|(name, _)| line.contains(OsStr::new(name)));
    let names = wanted.flat_map(|(_, entry)| entry.snapshots.into_keys());
    names.filter(|name| name.starts_with(begun)).collect()
}

/// The words on the line, as the shell gives them.
fn words() -> Vec<OsString> {
    std::env::args_os().collect()
}

fn targets(current: &OsStr, which: Which, kind: Kind) -> Vec<CompletionCandidate> {
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
            let is_whole = |name: &str| {
                kind != Kind::Snapshots && uses.fits(&pool.join(format!("volumes/{name}.img")))
            };
            let is_beginning = |name: &str| {
                kind != Kind::Volumes && names.snapshots(name, &uses, &pool).next().is_some()
            };
            let own = names.volumes.keys().filter(|name| name.starts_with(text));
            candidates(own.filter_map(|name| {
                if is_whole(name) {
                    return Some(name.clone());
                }
                let end = if kind == Kind::Snapshots { "@" } else { "" };
                is_beginning(name).then(|| format!("{name}{end}"))
            }))
        }
        Some((volume, rest)) if kind != Kind::Volumes => {
            // The second end of a range: VOLUME@FIRST%LAST.
            let (first, begun) = rest
                .rsplit_once('%')
                .map_or(("", rest), |(first, begun)| (first, begun));
            let before = if first.is_empty() {
                String::new()
            } else {
                format!("{first}%")
            };
            let own = names.snapshots(volume, &uses, &pool);
            let own = own.filter(|name| name.starts_with(begun));
            let own =
                own.filter(|name| first.is_empty() || names.are_in_order(volume, first, name));
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
    snapshots: BTreeMap<String, Holds>,
}

#[derive(Debug, Deserialize)]
struct Holds {
    created: Option<String>,
    #[serde(default)]
    holds: BTreeMap<String, Value>,
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

    /// Whether a range may begin with `first` and end with `last`.
    fn are_in_order(&self, volume: &str, first: &str, last: &str) -> bool {
        let created = |name: &str| -> Option<Timestamp> {
            let snapshot = self.volumes.get(volume)?.snapshots.get(name)?;
            snapshot.created.as_ref()?.parse().ok()
        };
        created(first) <= created(last)
    }

    /// The snapshots of a volume that fit.
    fn snapshots<'n>(
        &'n self,
        volume: &str,
        uses: &'n Uses,
        pool: &Path,
    ) -> impl Iterator<Item = &'n String> {
        let dir = pool.join(format!("snapshots/{volume}"));
        let own = self.volumes.get(volume).into_iter();
        let own = own.flat_map(|entry| &entry.snapshots);
        let now = crate::time::now();
        let fits = move |(name, holds): &(&String, &Holds)| match uses.which {
            Which::Held => holds::active_of(&holds.holds, now).next().is_some(),
            _ => uses.fits(&dir.join(format!("{name}.img"))),
        };
        own.filter(fits).map(|(name, _)| name)
    }
}

/// The pool that was named on the line, or the one where none is.
fn pool_dir() -> PathBuf {
    let words = words();
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
        if [Which::Any, Which::Held].contains(&which) {
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
            // No volume has one.
            Which::Held => false,
            Which::Detached => !is_attached,
            Which::Attached => is_attached && !is_mounted,
            Which::Unmounted => !is_mounted,
            Which::Mounted => is_mounted,
        }
    }
}
