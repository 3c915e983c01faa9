//! Holds: who wants a snapshot kept, by tag, and until when.
//!
//! A snapshot with a hold is neither deleted nor pruned, nor purged with its volume.  A hold whose time
//! is over holds nothing; while the [`clock`] is doubted, none is over that was not before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pool::change::change;
use crate::pool::{Place, Pool, clock};
use crate::record::Record;

/// The tag of who names none.
pub const TAG: &str = "user";

/// The longest tag, in bytes.
const LONGEST: usize = 64;

/// A tag, if it is well-formed.
///
/// # Errors
/// In words.
pub fn parse_tag(text: &str) -> Result<String, String> {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(is_inner) {
        return Err(format!(
            "a tag consists of letters, digits, '.', '_', '-' and ':', {LONGEST} at most"
        ));
    }
    Ok(text.to_owned())
}

/// When a hold ends; `None` for one that does not, or whose end is not understood.
fn until(hold: &Value) -> Option<Timestamp> {
    hold.get("until")?.as_str()?.parse().ok()
}

/// The holds that are not over, as they are shown: each with its end.
pub fn shown(pool: &Pool, record: &Record) -> BTreeMap<String, Option<Timestamp>> {
    active(record, clock::certain(pool))
        .map(|(tag, until)| (tag.to_owned(), until))
        .collect()
}

/// The holds that are not over, each with its end.
pub fn active(record: &Record, now: Timestamp) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
    active_of(&record.holds, now)
}

/// The same of the holds of a record.
pub fn active_of(
    holds: &BTreeMap<String, Value>,
    now: Timestamp,
) -> impl Iterator<Item = (&str, Option<Timestamp>)> {
    let ends = holds.iter().map(|(tag, hold)| (tag.as_str(), until(hold)));
    ends.filter(move |(_, until)| until.is_none_or(|until| until > now))
}

/// Fails where somebody holds a snapshot.
pub fn must_not_hold(pool: &Pool, what: &str, place: &Place, record: &Record) -> Result<()> {
    let now = clock::certain(pool);
    let hints = active(record, now).map(|(tag, _)| match tag {
        TAG => format!("'lovol release {}'", place.target()),
        tag => format!("'lovol release --tag {tag} {}'", place.target()),
    });
    let hints: Vec<String> = hints.collect();
    let shown = active(record, now).map(|(tag, until)| match until {
        Some(until) if until <= crate::time::now() => format!(
            "{tag} (until {}, and the clock may have jumped)",
            crate::time::show(until)
        ),
        Some(until) => format!("{tag} (until {})", crate::time::show(until)),
        None => tag.to_owned(),
    });
    let shown: Vec<String> = shown.collect();
    if shown.is_empty() {
        return Ok(());
    }
    Err(Error::refused(
        format!("cannot {what} {place}"),
        format!("it is held: {}", shown.join(", ")),
    )
    .with_hint(format!("{} ends that", hints.join(" and "))))
}

/// Holds a snapshot; a hold of this tag that is there already gets the new end.
pub fn hold(pool: &Pool, place: &Place, tag: &str, until: Option<Timestamp>) -> Result<Record> {
    let (now, certain) = (crate::time::now_in_seconds(), clock::certain(pool));
    change(pool, place, |record| {
        forget_ended(&mut record.holds, certain);
        let mut hold = json!({"since": now});
        if let Some(until) = until {
            hold["until"] = json!(until);
        }
        record.holds.insert(tag.to_owned(), hold);
        Ok(())
    })
}

/// Ends the hold of a tag.
pub fn release(pool: &Pool, place: &Place, tag: &str) -> Result<Record> {
    let now = clock::certain(pool);
    change(pool, place, |record| {
        forget_ended(&mut record.holds, now);
        if record.holds.remove(tag).is_some() {
            return Ok(());
        }
        Err(not_held(place, tag, record, now))
    })
}

/// Fails where there is no hold of a tag.
pub fn must_hold(pool: &Pool, place: &Place, tag: &str, record: &Record) -> Result<()> {
    let now = clock::certain(pool);
    if active(record, now).any(|(held, _)| held == tag) {
        return Ok(());
    }
    Err(not_held(place, tag, record, now))
}

fn not_held(place: &Place, tag: &str, record: &Record, now: Timestamp) -> Error {
    let tags: Vec<&str> = active(record, now).map(|(tag, _)| tag).collect();
    let hint = if tags.is_empty() {
        "nobody holds it".to_owned()
    } else {
        format!("it is held by {}", tags.join(", "))
    };
    Error::NotFound {
        kind: "hold named",
        name: format!("{tag} on {}", place.target()),
        hint: Some(hint),
    }
}

fn forget_ended(holds: &mut BTreeMap<String, Value>, now: Timestamp) {
    holds.retain(|_, hold| until(hold).is_none_or(|until| until > now));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Fs;

    #[test]
    fn what_is_not_understood_holds() {
        let mut record = Record::new(1 << 20, Fs::None);
        let now: Timestamp = "2026-11-21T10:15:00Z".parse().expect("a time");
        for (tag, hold) in [
            ("odd", json!(1)),
            ("over", json!({"until": "2026-11-21T10:14:59Z"})),
            ("later", json!({"until": "2026-11-21T10:15:01Z"})),
            ("garbled", json!({"until": "some day"})),
        ] {
            record.holds.insert(tag.into(), hold);
        }
        let tags: Vec<&str> = active(&record, now).map(|(tag, _)| tag).collect();
        assert_eq!(tags, ["garbled", "later", "odd"]);
    }
}
