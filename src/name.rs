//! Names of volumes and snapshots: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64 bytes.
//!
//! Such a name can be a file's name, a word in a shell and in fstab, and part of a terminal's
//! output, without any quoting; `@` can separate two of them, `%` two ends of a range.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest name, in bytes.
pub const MAX_LENGTH: usize = 64;

/// What the name of a volume's state before a rollback begins with.
const BEFORE_ROLLBACK: &str = "before-rollback-";

/// A volume's or a snapshot's name, known to be well-formed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Name {
    /// A time in UTC as a name, such as `20261121T101500Z`: well-formed by its form.
    pub fn of_time(time: Timestamp) -> Self {
        Self(time.strftime("%Y%m%dT%H%M%SZ").to_string())
    }

    /// The name of an automatic snapshot, such as `20261121T101500Z`, with `_1`, `_2`, ... where it is
    /// taken.
    pub fn automatic(time: Timestamp, is_taken: impl Fn(&Self) -> bool) -> Self {
        Self::of_time(time).where_free(is_taken)
    }

    /// The name of what a volume was before it was rolled back at this time; with `_1`, `_2`, ... where
    /// it is taken.
    pub fn before_rollback(time: Timestamp, is_taken: impl Fn(&Self) -> bool) -> Self {
        Self(format!("{BEFORE_ROLLBACK}{}", Self::of_time(time))).where_free(is_taken)
    }

    /// Whether lovol gave it to a snapshot: a time, perhaps that of a rollback, with or without a number
    /// behind it.
    pub fn is_automatic(&self) -> bool {
        let name = self.0.strip_prefix(BEFORE_ROLLBACK).unwrap_or(&self.0);
        let base = match name.split_once('_') {
            Some((base, number)) if number.parse::<u32>().is_ok() => base,
            Some(_) => return false,
            None => name,
        };
        base.len() == "20261121T101500Z".len()
            && jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", base).is_ok()
    }

    /// This name, with `_1`, `_2`, ... behind it where it is taken; for names that leave room for that.
    fn where_free(self, is_taken: impl Fn(&Self) -> bool) -> Self {
        let mut name = self.clone();
        let mut number = 0;
        while is_taken(&name) {
            number += 1;
            name = Self(format!("{self}_{number}"));
        }
        name
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let Some(first) = text.bytes().next() else {
            return Err("a name cannot be empty".into());
        };
        if text.len() > MAX_LENGTH {
            return Err(format!(
                "a name has at most {MAX_LENGTH} bytes, this one has {}",
                text.len()
            ));
        }
        if !first.is_ascii_alphanumeric() || !text.bytes().all(is_inner) {
            let mut why = "a name consists of letters, digits, '.', '_' and '-', and begins with a letter or digit".to_owned();
            if text.contains('@') {
                why += "; VOLUME@SNAPSHOT names a snapshot, and that is not what is wanted here";
            }
            return Err(why);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A snapshot's full name, `VOLUME@SNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName {
    /// The volume that it was taken of.
    pub volume: Name,
    /// Its own name, unique in its volume.
    pub snapshot: Name,
}

impl FromStr for SnapshotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (volume, snapshot) = text.split_once('@').ok_or("expected VOLUME@SNAPSHOT")?;
        Ok(Self {
            volume: volume.parse()?,
            snapshot: snapshot.parse()?,
        })
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_names_are_taken() {
        for name in [
            "home",
            "0",
            "a.b_c-d",
            "20261121T101500Z_1",
            &"x".repeat(64),
        ] {
            assert_eq!(name.parse::<Name>().map(String::from).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_could_be_a_path_an_option_or_an_escape_is_refused() {
        let long = "x".repeat(65);
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "-rf",
            "_x",
            "a b",
            "a\n",
            "\x1b]0;",
            "ä",
            "a\u{202e}",
            "a@b",
            "a%b",
            &long,
        ] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
    }
}
