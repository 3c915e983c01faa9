//! The pool's own settings, in the xattr of its directory: what `lovol set KEY=VALUE` sets.

use std::collections::BTreeMap;
use std::io;

use rustix::fs::XattrFlags;
use serde_json::{Map, Value};

use crate::error::{Context, Error, Result};
use crate::pool::lock::Lock;
use crate::pool::{Pool, Settings, ballast};
use crate::record::XATTR;
use crate::size::Size;
use crate::sys::beneath;
use crate::time::parse_span;

/// How long deleted volumes are kept: a span, or `never` for ever.
pub const TRASH: &str = "trash";

/// How much may be promised: `any`, `none` (never more than there is room for), or how many times the
/// pool's size.
pub const OVERCOMMIT: &str = "overcommit";
/// What stays free: nothing new is made or taken below it.
pub const RESERVE: &str = "reserve";
/// From how little free space on `lovol watch` says so.
pub const WARN: &str = "warn";
/// From how little free space on `lovol watch` makes room.
pub const LOW: &str = "low";
/// A program that is run with the level and the free bytes when `lovol watch` says so.
pub const COMMAND: &str = "command";

/// What everything is allowed by.
pub const ANY: &str = "any";
/// What nothing is allowed by, or nothing is.
pub const NONE: &str = "none";

/// All settings, with what they are if nobody sets them.
const DEFAULTS: [(&str, &str); 6] = [
    (TRASH, "7d"),
    (OVERCOMMIT, ANY),
    // Once a snapshot is taken, each write in a volume needs room: with none, its filesystem gives up.
    (RESERVE, "1%"),
    (WARN, "15%"),
    (LOW, "5%"),
    (COMMAND, NONE),
];

/// What they are called.
pub fn names() -> impl Iterator<Item = &'static str> {
    DEFAULTS.into_iter().map(|(name, _)| name)
}

/// A value as it is stored.
///
/// # Errors
/// In words, for a key that does not exist and a value that means nothing.
pub fn parse(key: &str, value: &str) -> Result<String, String> {
    match key {
        TRASH if value == NEVER => {}
        TRASH => drop(parse_span(value)?),
        OVERCOMMIT if [ANY, NONE].contains(&value) => {}
        OVERCOMMIT => drop(parse_factor(value)?),
        RESERVE if value == NONE => {}
        RESERVE | WARN | LOW => drop(parse_amount(value)?),
        COMMAND if value == NONE || value.starts_with('/') => {}
        COMMAND => return Err("expected the program's absolute path, or none".into()),
        _ => return Err(no_such(key)),
    }
    Ok(value.to_owned())
}

/// An amount of the pool's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(Size),
    /// So many hundredths of its size.
    Percent(u64),
}

impl Amount {
    /// In bytes, of a pool of this size.
    #[must_use]
    pub fn of(self, size: u64) -> u64 {
        match self {
            Self::Bytes(Size(bytes)) => bytes,
            Self::Percent(percent) => size / 100 * percent,
        }
    }
}

/// `20G` or `15%`.
///
/// # Errors
/// In words.
pub fn parse_amount(text: &str) -> Result<Amount, String> {
    let wrong = || format!("'{text}' is not like 20G or 15%");
    match text.strip_suffix('%') {
        Some(number) => match number.parse() {
            Ok(percent @ 0..=100) => Ok(Amount::Percent(percent)),
            _ => Err(wrong()),
        },
        // A number alone would be bytes: a percent sign that was forgotten.
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => Err(wrong()),
        None => text.parse().map(Amount::Bytes).map_err(|_| wrong()),
    }
}

/// How many times the size, such as `1.5`.
///
/// # Errors
/// In words.
pub fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
        _ => Err(format!(
            "'{text}' is neither any nor none nor a factor such as 1.5"
        )),
    }
}

/// How much may be promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Overcommit {
    /// Whatever is asked for.
    Any,
    /// No more than there is.
    None,
    /// So many times the pool's size.
    Factor(f64),
}

/// The pool's policy.
pub fn overcommit(pool: &Pool) -> Overcommit {
    let value = get(pool, OVERCOMMIT);
    match parse_factor(&value) {
        Ok(factor) => Overcommit::Factor(factor),
        Err(_) if value == NONE => Overcommit::None,
        Err(_) => Overcommit::Any,
    }
}

/// An amount that is set; none where there is none.
pub fn amount(pool: &Pool, key: &str) -> Option<Amount> {
    parse_amount(&get(pool, key)).ok()
}

/// What is never over.
pub const NEVER: &str = "never";

/// Whether there is such a setting.
pub fn is_known(key: &str) -> bool {
    DEFAULTS.iter().any(|(known, _)| *known == key)
}

fn no_such(key: &str) -> String {
    let keys = DEFAULTS.map(|(key, _)| key).join(", ");
    format!("there is no setting '{key}' of a pool, only {keys}")
}

/// All settings, with defaults.
pub fn all(pool: &Pool) -> BTreeMap<String, String> {
    with_defaults(&pool.settings)
}

fn with_defaults(settings: &Settings) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = DEFAULTS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    all.extend(settings.values.clone());
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
    let settings = write(pool, |settings| {
        for (key, value) in changes {
            match value {
                Some(value) => settings.values.insert(key.clone(), value.clone()),
                None => settings.values.remove(key),
            };
        }
    })?;
    Ok(with_defaults(&settings))
}

/// Changes what is noted beside the settings.
pub(super) fn change_extra(
    pool: &Pool,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<()> {
    write(pool, |settings| change(&mut settings.extra)).map(drop)
}

/// Changes them, or nothing; returns the new ones.
fn write(pool: &Pool, change: impl FnOnce(&mut Settings)) -> Result<Settings> {
    pool.must_not_be_frozen()?;
    let _lock = Lock::of_pool(pool)?;
    let mut settings: Settings = Pool::read_settings(pool.path(), pool.dir())?;
    let in_bytes = |settings: &Settings| {
        serde_json::to_vec(settings)
            .map_err(io::Error::from)
            .doing("write the settings of", pool.path())
    };
    let before = in_bytes(&settings)?;
    change(&mut settings);
    let after = in_bytes(&settings)?;
    let set = |bytes: &[u8]| {
        let flags = XattrFlags::empty();
        Ok(rustix::fs::fsetxattr(pool.dir(), XATTR, bytes, flags)?)
    };
    // A setting may be what keeps a full pool from being used.
    ballast::make_room_for(pool.dir(), || set(&after))
        .doing("write the settings of", pool.path())?;
    if let Err(error) = beneath::sync(pool.dir()) {
        drop::<io::Result<()>>(set(&before));
        return Err(Error::io("write back", pool.path(), error));
    }
    Ok(settings)
}
