//! The pool's own settings, in the xattr of its directory: what `lovol set KEY=VALUE` sets.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustix::fs::XattrFlags;

use crate::error::{Context, Result};
use crate::pool::lock::Lock;
use crate::pool::{Pool, Settings};
use crate::record::XATTR;
use crate::sys::beneath;
use crate::time::parse_span;

/// How long deleted volumes are kept: a span, or `never` for ever.
pub const TRASH: &str = "trash";

/// All settings, with what they are if nobody sets them.
const DEFAULTS: [(&str, &str); 1] = [(TRASH, "7d")];

/// A value as it is stored.
///
/// # Errors
/// In words, for a key that does not exist and a value that means nothing.
pub fn parse(key: &str, value: &str) -> Result<String, String> {
    match key {
        TRASH if value == NEVER => {}
        TRASH => drop(parse_span(value)?),
        _ => return Err(no_such(key)),
    }
    Ok(value.to_owned())
}

/// What is never over.
pub const NEVER: &str = "never";

fn no_such(key: &str) -> String {
    let keys = DEFAULTS.map(|(key, _)| key).join(", ");
    format!("there is no setting '{key}' of a pool, only {keys}")
}

/// All settings, with defaults.
pub fn all(pool: &Pool) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = DEFAULTS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    all.extend(pool.settings.values.clone());
    all
}

/// One setting.
pub fn get(pool: &Pool, key: &str) -> String {
    all(pool).remove(key).unwrap_or_default()
}

/// Sets some, or gives those without a value their defaults again; returns all.
pub fn set(
    pool: &Pool,
    changes: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, String>> {
    write(pool, |settings| {
        for (key, value) in changes {
            match value {
                Some(value) => settings.values.insert(key.clone(), value.clone()),
                None => settings.values.remove(key),
            };
        }
    })?;
    Ok(all(&Pool::open(pool.path(), pool.wait)?))
}

/// What notes when the pool was pruned last, beside the settings.
const PRUNED: &str = "pruned";

/// When the pool was pruned last.
pub fn pruned(pool: &Pool) -> Option<Timestamp> {
    pool.settings.extra.get(PRUNED)?.as_str()?.parse().ok()
}

/// Notes that it is pruned now.
pub fn note_pruned(pool: &Pool, now: Timestamp) -> Result<()> {
    write(pool, |settings| {
        settings.extra.insert(PRUNED.into(), now.to_string().into());
    })
}

fn write(pool: &Pool, change: impl FnOnce(&mut Settings)) -> Result<()> {
    pool.must_not_be_frozen()?;
    let _lock = Lock::of_pool(pool)?;
    let mut settings: Settings = Pool::read_settings(pool.path(), pool.dir())?;
    change(&mut settings);
    let bytes = serde_json::to_vec(&settings)
        .map_err(std::io::Error::from)
        .doing("write the settings of", pool.path())?;
    rustix::fs::fsetxattr(pool.dir(), XATTR, &bytes, XattrFlags::empty())
        .doing("write the settings of", pool.path())?;
    beneath::sync(pool.dir()).doing("write back", pool.path())
}
