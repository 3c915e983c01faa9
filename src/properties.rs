//! Properties: what a person has set of a volume, kept in its record.
//!
//! `keep` and `trim` are for the timers, `protect` for `delete`; `user:KEY` is anybody's, and the only
//! one that a snapshot has.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::name::Name;
use crate::pool::change::change;
use crate::pool::{Place, Pool};
use crate::record::Record;

/// Which snapshots pruning keeps.
pub const KEEP: &str = "keep";
/// Whether the timer trims the volume: `on` or `off`.
pub const TRIM: &str = "trim";
/// The size in bytes that the volume is being resized to: what is there has not been finished.
pub const RESIZING: &str = "resizing";
/// Whether the volume is kept from being deleted and replaced: `on`.
pub const PROTECT: &str = "protect";
/// Those that a person sets, beside [`USER`].
pub const NAMES: [&str; 3] = [KEEP, TRIM, PROTECT];
/// The value of what is switched on.
pub const ON: &str = "on";
/// The snapshot that the volume is rolled back to when it is next mounted.
pub const ROLLBACK_TO: &str = "rollback-to";
/// Of what a volume was before it was rolled back: to which snapshot.
pub const ROLLED_BACK_TO: &str = "rolled-back-to";
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
        TRIM | PROTECT if [ON, "off"].contains(&value) => Ok(value.to_owned()),
        TRIM | PROTECT => Err(format!("'{value}' is neither on nor off")),
        ROLLBACK_TO => Err("'lovol rollback --next-mount' sets it".into()),
        RESIZING => Err("'lovol resize' sets it".into()),
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
        None => Err(format!(
            "there is no property '{key}', but {}, and user:KEY for your own",
            NAMES.join(", ")
        )),
    }
}

/// Sets properties of an image, or takes those without a value away: all of them, or none.
pub fn set(
    pool: &Pool,
    place: &Place,
    properties: &BTreeMap<String, Option<String>>,
) -> Result<Record> {
    change(pool, place, |record| {
        for (key, value) in properties {
            match value {
                Some(value) => record.properties.insert(key.clone(), value.clone()),
                None => record.properties.remove(key),
            };
        }
        Ok(())
    })
}

/// Whether `protect` is on.
#[must_use]
pub fn is_protected(record: &Record) -> bool {
    record
        .properties
        .get(PROTECT)
        .is_some_and(|value| value == ON)
}

/// Fails where a volume is protected.
pub fn must_not_be_protected(what: &str, name: &Name, record: &Record) -> Result<()> {
    if !is_protected(record) {
        return Ok(());
    }
    Err(
        Error::refused(format!("cannot {what} volume {name}"), "it is protected")
            .with_hint(format!("'lovol protect --off {name}' ends that")),
    )
}
