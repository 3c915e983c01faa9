//! What a line of fstab wants of lovol.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fstab::{self, Entry};
use crate::guest::Fs;
use crate::mounting::Options;
use crate::name::Name;
use crate::pool::Place;
use crate::properties;
use crate::size::Size;
use crate::spec::Spec;

/// The type of lines that mount(8) gives to `mount.lovol`.
pub const FSTYPE: &str = "lovol";

/// What begins the option words that are for provisioning.
const PREFIXES: [&str; 2] = ["x-lovol.", "X-lovol."];

/// A line that is lovol's.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The line's number in the file.
    pub line: usize,
    /// The image.
    pub spec: Spec,
    /// Where it is to be mounted, if anywhere.
    pub dir: Option<PathBuf>,
    /// How.
    pub options: Options,
    /// Not `noauto`.
    pub is_auto: bool,
    /// `X-mount.mkdir`: make the directory.
    pub makes_dir: bool,
    /// Something in it that does harm, in words.
    pub warning: Option<String>,
    /// What is to be there.
    pub volume: Described,
}

/// A volume as the `x-lovol.` words describe it.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// `size=`
    pub size: Option<Size>,
    /// `fs=`
    pub fs: Option<Fs>,
    /// `label=`
    pub label: Option<String>,
    /// `mkfs-options=`, separated by blanks
    pub mkfs_options: Vec<String>,
    /// `from=`: the volume or snapshot that it is cloned from.
    pub from: Option<Place>,
    /// `grow`
    pub grow: bool,
    /// `keep=`, `trim=` and `user:KEY=`
    pub properties: BTreeMap<String, String>,
    /// Whether there was any such word.
    pub is_any: bool,
    keys: BTreeSet<String>,
}

/// Reads the lines that are lovol's: of its type, or with a word of its own.
///
/// # Errors
/// [`Error::At`] with the first line on which something means nothing.
pub fn read(file: &str, text: &[u8]) -> Result<Vec<Wish>> {
    let entries = fstab::parse(text).into_iter();
    entries
        .filter(is_ours)
        .map(|entry| Wish::parse(&entry).map_err(|why| why.at(file, entry.line)))
        .collect()
}

fn is_ours(entry: &Entry) -> bool {
    entry.fstype == FSTYPE || entry.words().any(|word| own_word(word).is_some())
}

fn own_word(word: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| word.strip_prefix(prefix))
}

impl Wish {
    fn parse(entry: &Entry) -> Result<Self> {
        let mut volume = Described::default();
        let has = |wanted: &str| entry.words().any(|word| word == wanted);
        for word in entry.words().filter_map(own_word) {
            volume.add(word)?;
        }
        volume.must_make_sense()?;
        if volume.is_any && volume.fs.is_none() {
            // A line without lovol, of the guest's own type, wants that one.
            volume.fs = parse_fs(&entry.fstype).ok().filter(|fs| *fs != Fs::None);
        }
        let makes_dir = |word: &str| {
            let word = word.to_ascii_lowercase();
            word == "x-mount.mkdir" || word.starts_with("x-mount.mkdir=")
        };
        let spec = Spec::parse(&entry.spec)?;
        let options = Options::parse_typed(&entry.options)?;
        if volume.is_any && options.place(spec.place.clone())?.is_snapshot() {
            return Err(Error::usage(
                "a snapshot is never made by provisioning",
                "leave the x-lovol. words out; they are for volumes",
            ));
        }
        Ok(Self {
            line: entry.line,
            spec,
            dir: entry.dir.is_absolute().then(|| entry.dir.clone()),
            options,
            is_auto: !has("noauto"),
            makes_dir: entry.words().any(makes_dir),
            warning: entry.words().find_map(warning),
            volume,
        })
    }
}

/// What is to be said of a word that does harm, or is not followed.
fn warning(word: &str) -> Option<String> {
    let key = word.split('=').next().unwrap_or(word).to_ascii_lowercase();
    match key.as_str() {
        "x-systemd.makefs" => Some(
            "x-systemd.makefs is for devices only: systemd leaves this mount out at boot; \
             x-lovol.size= makes the volume"
                .to_owned(),
        ),
        "x-mount.mkdir" if word.contains('=') => Some(not_followed(word)),
        "x-mount.subdir" | "x-mount.owner" | "x-mount.group" | "x-mount.mode" => {
            Some(not_followed(word))
        }
        _ => None,
    }
}

fn not_followed(word: &str) -> String {
    format!("mount(8) follows {word}, 'lovol provision --mount' does not")
}

impl Described {
    /// The size, if it is more than this.
    pub fn larger_than(&self, size: Size) -> Option<Size> {
        self.size
            .map(Size::rounded_up)
            .filter(|wanted| *wanted > size)
    }

    /// The size, if it is less than this.
    pub fn smaller_than(&self, size: Size) -> Option<Size> {
        self.size
            .map(Size::rounded_up)
            .filter(|wanted| *wanted < size)
    }

    fn must_make_sense(&self) -> Result<()> {
        let is_new = self.label.is_some() || !self.mkfs_options.is_empty();
        if self.from.is_some() && is_new {
            return Err(Error::usage(
                "x-lovol.label= and x-lovol.mkfs-options= are for a new filesystem",
                "leave them out: x-lovol.from= clones one",
            ));
        }
        Ok(())
    }

    fn add(&mut self, word: &str) -> Result<()> {
        self.is_any = true;
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = value.trim_matches('"');
        let wrong = |why: String| {
            Error::usage(
                format!("x-lovol.{word}: {why}"),
                "lovol(5) has the list of these words",
            )
        };
        if !self.keys.insert(key.to_owned()) {
            return Err(wrong("it stands there twice".into()));
        }
        if value.is_empty() && ["label", "mkfs-options"].contains(&key) {
            return Err(wrong("it needs a value".into()));
        }
        match key {
            "size" => self.size = Some(value.parse().map_err(wrong)?),
            "fs" => self.fs = Some(parse_fs(value).map_err(wrong)?),
            "label" => self.label = Some(value.to_owned()),
            "mkfs-options" => {
                self.mkfs_options = value.split_whitespace().map(str::to_owned).collect();
            }
            "from" => self.from = Some(parse_source(value).map_err(wrong)?),
            "grow" if word == "grow" => self.grow = true,
            key => {
                let value = properties::parse(key, value).map_err(wrong)?;
                self.properties.insert(key.to_owned(), value);
            }
        }
        Ok(())
    }
}

fn parse_fs(name: &str) -> Result<Fs, String> {
    match Fs::from(name.to_owned()) {
        Fs::Other(_) => Err("one of xfs, ext4, btrfs, none".into()),
        // ext2 and ext3 are mounted as ext4, but not made.
        fs if fs.as_str() != name => Err("one of xfs, ext4, btrfs, none".into()),
        fs => Ok(fs),
    }
}

fn parse_source(text: &str) -> Result<Place, String> {
    if text.contains('@') {
        text.parse().map(Place::Snapshot)
    } else {
        text.parse::<Name>().map(Place::Volume)
    }
}

/// The pool that a line means: that of its path, or the one of the command line.
pub(super) fn pool_dir<'w>(wish: &'w Wish, default: &'w Path) -> &'w Path {
    wish.spec.pool.as_deref().unwrap_or(default)
}
