//! Whether the clock is believed: it is held against the times at which the pool was pruned or
//! watched, which are noted beside its settings.
//!
//! Holds, the trash's age and the week of what a rollback has replaced would all be over at once if
//! the clock jumped, and what they keep gone for good.  So a time much later than the last that was
//! believed is doubted, and one before it: until the clock is right again, a person says that it is
//! right, or it has gone on from there day by day for a week.  What is seen meanwhile makes no time
//! believed.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::pool::{Pool, settings};
use crate::time::{now, now_in_seconds, show};

/// How many days may pass before it is the clock that is doubted.
const GAP: i64 = 8;

/// How long until a time is noted again: less than a day, as the timer does not run by the minute.
const DAY: SignedDuration = SignedDuration::from_hours(21);

/// How many such days a doubted clock has to go on for: a week.
const DAYS: u32 = 8;

/// The last time that was believed; older versions call it by what they noted it for.
const BELIEVED: &str = "pruned";

/// A time that was not.
const DOUBTED: &str = "doubted";

/// What is noted of the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    believed: Option<Timestamp>,
    doubted: Option<Doubted>,
}

/// A clock that goes on from a time that is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Doubted {
    last: Timestamp,
    days: u32,
}

impl Known {
    /// What is not understood is not known.
    fn read(noted: &Map<String, Value>) -> Self {
        let time = |value: &Value| value.as_str()?.parse().ok();
        let doubted = |value: &Value| Doubted::deserialize(value).ok();
        Self {
            believed: noted.get(BELIEVED).and_then(time),
            doubted: noted.get(DOUBTED).and_then(doubted),
        }
    }

    fn write(&self, noted: &mut Map<String, Value>) {
        for (key, value) in [
            (BELIEVED, self.believed.map(|time| json!(time))),
            (DOUBTED, self.doubted.as_ref().map(|doubted| json!(doubted))),
        ] {
            match value {
                Some(value) => noted.insert(key.into(), value),
                None => noted.remove(key),
            };
        }
    }

    fn right(now: Timestamp) -> Self {
        Self {
            believed: Some(now),
            doubted: None,
        }
    }

    /// The last time that was believed, where this one is not.
    fn doubts(&self, now: Timestamp) -> Option<Timestamp> {
        let is_proven = |doubted: &Doubted| doubted.days >= DAYS && follows(doubted.last, now);
        let believed = self.believed?;
        let is_right = follows(believed, now) || self.doubted.as_ref().is_some_and(is_proven);
        (!is_right).then_some(believed)
    }

    /// What is known once this time was seen.
    fn seen(&self, now: Timestamp) -> Self {
        if self.doubts(now).is_none() {
            return match self.believed {
                Some(last) if self.doubted.is_none() && now.duration_since(last) < DAY => {
                    self.clone()
                }
                _ => Self::right(now),
            };
        }
        let doubted = match &self.doubted {
            Some(doubted) if !follows(doubted.last, now) => Doubted { last: now, days: 0 },
            Some(doubted) if now.duration_since(doubted.last) < DAY => doubted.clone(),
            Some(doubted) => Doubted {
                last: now,
                days: doubted.days + 1,
            },
            None => Doubted { last: now, days: 0 },
        };
        Self {
            believed: self.believed,
            doubted: Some(doubted),
        }
    }
}

/// Whether a clock that is right may say this some time after that.
fn follows(last: Timestamp, now: Timestamp) -> bool {
    now >= last && days_between(last, now) <= GAP
}

fn days_between(last: Timestamp, now: Timestamp) -> i64 {
    (now.as_second() - last.as_second()) / 86_400
}

/// Why it may not be the time that the clock says, if there is a reason.
pub fn doubt(pool: &Pool) -> Option<String> {
    let now = now_in_seconds();
    let last = known(pool).doubts(now)?;
    let why = if now < last {
        format!("it was {} when it was pruned or watched last", show(last))
    } else {
        format!(
            "it was pruned or watched last {} days ago",
            days_between(last, now)
        )
    };
    let now = show(now);
    Some(format!(
        "{why}, and now it is {now}: the clock may have jumped"
    ))
}

/// The time that has come for certain: no later than the last that was believed, while there is doubt.
pub fn certain(pool: &Pool) -> Timestamp {
    let now = now();
    match known(pool).doubts(now_in_seconds()) {
        Some(believed) => now.min(believed),
        None => now,
    }
}

/// Notes the time that the clock says, which makes nothing of it believed that is doubted.
pub fn note(pool: &Pool) -> Result<()> {
    let now = now_in_seconds();
    settings::change_extra(pool, |noted| Known::read(noted).seen(now).write(noted))
}

/// Whether [`note`] would change anything: it takes the pool's lock, and whoever looks often need not.
pub fn is_to_be_noted(pool: &Pool) -> bool {
    let known = known(pool);
    known.seen(now_in_seconds()) != known
}

/// Notes that the clock is right, as somebody says who has looked.
pub fn note_right(pool: &Pool) -> Result<()> {
    let now = now_in_seconds();
    settings::change_extra(pool, |noted| Known::right(now).write(noted))
}

/// Takes the time as the clock says it, without noting that.
pub fn believe(pool: &mut Pool) {
    Known::right(now_in_seconds()).write(&mut pool.settings.extra);
}

fn known(pool: &Pool) -> Known {
    Known::read(&pool.settings.extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some hours after a time that was believed.
    fn at(hours: i64) -> Timestamp {
        let start: Timestamp = "2026-11-21T10:15:00Z".parse().expect("a time");
        start + SignedDuration::from_hours(hours)
    }

    /// What is known after times like these, each of which is doubted.
    fn after(times: impl IntoIterator<Item = i64>) -> Known {
        let mut known = Known::right(at(0));
        for time in times.into_iter().map(at) {
            assert_eq!(known.doubts(time), Some(at(0)), "{time}");
            known = known.seen(time);
        }
        known
    }

    #[test]
    fn a_doubted_time_is_not_believed_for_being_seen() {
        for jump in [40 * 24, -1] {
            let mut known = Known::right(at(0));
            for minute in 0..100 {
                let time = at(jump) + SignedDuration::from_secs(minute);
                assert!(known.doubts(time).is_some(), "{jump}");
                known = known.seen(time);
            }
        }
        // Right again, and nothing is left of it.
        let known = after([40 * 24, 40 * 24 + 1]);
        assert_eq!(known.doubts(at(24)), None);
        assert_eq!(known.seen(at(24)), Known::right(at(24)));
    }

    #[test]
    fn a_clock_that_goes_on_for_a_week_is_believed() {
        // As the timer runs: daily, an hour sooner or later.
        for step in [23, 24, 25] {
            let known = after((0..=8).map(|day| 40 * 24 + day * step));
            assert_eq!(known.doubts(at(40 * 24 + 9 * step)), None, "{step}");
        }
        // However often it is seen meanwhile.
        let days = (0..7 * 24).map(|hour| 40 * 24 + hour);
        let known = after(days);
        assert!(known.doubts(at(47 * 24 - 1)).is_some());
        // One that jumps once more begins anew; and one jump is no week.
        let known = after((0..8).map(|day| 40 * 24 + day * 24).chain([90 * 24]));
        assert!(known.doubts(at(91 * 24)).is_some());
        let known = after([40 * 24, 47 * 24]);
        assert!(known.doubts(at(54 * 24)).is_some());
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let known = after([40 * 24, 41 * 24]);
        let mut noted = Map::from_iter([("other".to_owned(), json!(1))]);
        known.write(&mut noted);
        assert_eq!(Known::read(&noted), known);
        assert_eq!(noted["pruned"], "2026-11-21T10:15:00Z");
        Known::right(at(1)).write(&mut noted);
        assert_eq!(noted.len(), 2, "{noted:?}");
        // What an older lovol has written, and what nobody has.
        for (value, believed) in [
            (json!("2026-11-21T10:15:00Z"), Some(at(0))),
            (json!(1), None),
        ] {
            let noted = Map::from_iter([
                ("pruned".to_owned(), value),
                ("doubted".to_owned(), json!(1)),
            ]);
            let doubted = None;
            assert_eq!(Known::read(&noted), Known { believed, doubted });
        }
    }
}
