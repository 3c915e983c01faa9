//! Properties: what a person has set of a volume, kept in its record.
//!
//! `keep` and `trim` are for the timers; `user:KEY` is anybody's.

use std::collections::BTreeMap;

use rustix::fs::OFlags;

use crate::error::{Context, Result};
use crate::keep::Keep;
use crate::name::Name;
use crate::pool::{Edit, Place, Pool};

/// Which snapshots pruning keeps.
pub const KEEP: &str = "keep";
/// Whether the timer trims the volume: `on` or `off`.
pub const TRIM: &str = "trim";
/// The size in bytes that the volume is to grow to.
pub const GROW_TO: &str = "grow-to";
/// What begins a key of a person's own.
pub const USER: &str = "user:";

/// The longest key and value of a person's own, in bytes: a record has to fit into an xattr.
const LONGEST: usize = 1024;

/// A value as it is stored.
///
/// # Errors
/// In words, for a key that does not exist and a value that means nothing.
pub fn parse(key: &str, value: &str) -> Result<String, String> {
    match key {
        KEEP => value.parse().map(|keep: Keep| keep.to_string()),
        TRIM if ["on", "off"].contains(&value) => Ok(value.to_owned()),
        TRIM => Err(format!("'{value}' is neither on nor off")),
        _ => parse_user(key, value),
    }
}

fn parse_user(key: &str, value: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    match key.strip_prefix(USER) {
        Some(own) if own.is_empty() || !own.bytes().all(is_inner) => Err(format!(
            "a key consists of letters, digits, '.', '_', '-' and ':', unlike '{key}'"
        )),
        Some(_) if key.len() > LONGEST || value.len() > LONGEST => {
            Err(format!("a key and a value have at most {LONGEST} bytes"))
        }
        Some(_) => Ok(value.to_owned()),
        None => Err(format!("there is no property '{key}'")),
    }
}

/// Sets properties of a volume: record first, index last, or nothing.
pub fn set(pool: &Pool, volume: &Name, properties: &BTreeMap<String, String>) -> Result<()> {
    let mut edit = Edit::begin(pool)?;
    let before = edit.index.volume(volume)?.record.clone();
    let mut after = before.clone();
    after.properties.extend(properties.clone());
    if after == before {
        return Ok(());
    }
    let file = pool.open_image(&Place::volume(volume), OFlags::RDONLY)?;
    edit.index.volume_mut(volume)?.record = after.clone();
    let written = after
        .write(&file)
        .doing("write the record of", volume.as_str())
        .and_then(|()| rustix::fs::fsync(&file).doing("write back", volume.as_str()))
        .and_then(|()| edit.save());
    if written.is_err() {
        // What cannot be taken back is a record that differs from the index: 'check' says so.
        drop(before.write(&file));
    }
    written
}
