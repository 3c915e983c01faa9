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
    /// Parses a comma-separated list, in which double quotes hold a value together.
    ///
    /// # Errors
    /// [`Error::Usage`] for a `snap=` that is no name.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for word in mount::split_words(text) {
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
    }
}
