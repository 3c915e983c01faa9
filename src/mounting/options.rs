//! The words after `-o`: the kernel's, the guest's, and lovol's own.

use crate::error::{Error, Result};
use crate::name::Name;
use crate::pool::Place;
use crate::sys::mount;

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the kernel and the guest filesystem are told.
    pub guest: mount::Options,
    /// `snap=NAME`: a view of this snapshot of the volume.
    pub snapshot: Option<Name>,
    /// `fsck`: look whether the filesystem is sound, before it is mounted.
    pub check: bool,
    /// Not `nodio`: a new loop device bypasses the page cache of the filesystem beneath.
    pub direct_io: bool,
    /// `remount`: change the options of what is mounted.
    pub remount: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guest: mount::Options::default(),
            snapshot: None,
            check: false,
            direct_io: true,
            remount: false,
        }
    }
}

impl Options {
    /// Parses the comma-separated list that mount(8) gives to its helper, in which double quotes hold
    /// a value together.
    ///
    /// # Errors
    /// [`Error::Usage`] for a `snap=` that is no name, and a quotation mark without another.
    pub fn parse(text: &str) -> Result<Self> {
        Self::of_words(text, mount::split_words(text))
    }

    /// Parses what was typed, or stands in fstab: with what mount(8) adds for some words, before it
    /// calls its helper.
    ///
    /// # Errors
    /// As [`Options::parse`].
    pub fn parse_typed(text: &str) -> Result<Self> {
        let words = mount::split_words(text);
        Self::of_words(
            text,
            words.flat_map(|word| [word].into_iter().chain(implied(word).iter().copied())),
        )
    }

    fn of_words<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Result<Self> {
        if text.matches('"').count() % 2 == 1 {
            return Err(Error::usage(
                format!("there is one quotation mark in {text}"),
                "a value with commas stands between two",
            ));
        }
        let mut options = Self::default();
        for word in words {
            match word {
                "fsck" => options.check = true,
                "nodio" => options.direct_io = false,
                "remount" => options.remount = true,
                word => match word.strip_prefix("snap=") {
                    Some(name) => options.snapshot = Some(parse_snapshot(name)?),
                    None => options.guest.add(word),
                },
            }
        }
        Ok(options)
    }

    /// What is to be mounted, where `place` was named beside these options.
    ///
    /// # Errors
    /// [`Error::Usage`] where the words contradict each other or the place.
    pub fn place(&self, place: Place) -> Result<Place> {
        let place = match (&self.snapshot, place) {
            (None, place) => place,
            (Some(snapshot), Place::Volume(volume)) => Place::snapshot(&volume, snapshot),
            (Some(snapshot), place) => {
                return Err(Error::usage(
                    format!("snap={snapshot} is for a volume, and {place} is none"),
                    "leave snap= out",
                ));
            }
        };
        if self.check && place.is_snapshot() {
            return Err(Error::usage(
                format!("fsck is for a volume, and {place} never changes"),
                "leave fsck out, or clone the snapshot and mount the clone",
            ));
        }
        Ok(place)
    }
}

/// What else a word of fstab(5) means: who lets others mount trusts them no further (mount(8),
/// "user", "owner").
fn implied(word: &str) -> &'static [&'static str] {
    match word.split('=').next() {
        Some("user" | "users") => &["nosuid", "nodev", "noexec"],
        Some("owner" | "group") => &["nosuid", "nodev"],
        _ => &[],
    }
}

fn parse_snapshot(name: &str) -> Result<Name> {
    name.parse().map_err(|why: String| {
        Error::usage(
            format!("snap={name}: {why}"),
            "snap=NAME is the snapshot's name alone",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_words_are_taken_out_and_the_rest_is_passed_on() {
        let options =
            Options::parse("rw,nodio,snap=a,fsck,noatime,remount,discard").expect("well-formed");
        assert_eq!(options.guest, mount::Options::parse("noatime,discard"));
        assert_eq!(options.snapshot, Some("a".parse().expect("well-formed")));
        assert!(options.check && options.remount && !options.direct_io);
        assert!(Options::parse("snap=a@b").is_err());
        assert!(Options::parse("context=\"a,b").is_err());
    }

    #[test]
    fn whom_others_may_mount_is_not_trusted() {
        let typed = |text| Options::parse_typed(text).expect("well-formed").guest;
        let words = mount::Options::parse;
        assert_eq!(typed("user,exec"), words("nosuid,nodev"));
        assert_eq!(typed("owner"), words("nosuid,nodev"));
        assert_eq!(typed("suid,users"), words("nosuid,nodev,noexec"));
        // mount(8) has added them already, before words that take them back.
        let given = Options::parse("noexec,nosuid,nodev,exec,user").expect("well-formed");
        assert_eq!(given.guest, words("nosuid,nodev"));
    }
}
