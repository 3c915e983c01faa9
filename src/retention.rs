//! Which snapshots are kept: by count for each hour, day, week, month and year that has one, as restic
//! and borg do it.
//!
//! The rules are restic's ("forget" in its manual): the newest of each span counts, spans without a
//! snapshot do not, and the oldest of all is kept while a count has something left, so that the
//! history becomes as long as it can.

use jiff::Span;
use jiff::Zoned;

use crate::keep::Keep;

/// What is kept.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// So many of the newest.
    pub last: u32,
    /// So many for each span.
    pub spans: Keep,
    /// All that are no older than the newest by more than this.
    pub within: Option<Span>,
}

impl From<Keep> for Policy {
    fn from(spans: Keep) -> Self {
        Self {
            spans,
            ..Self::default()
        }
    }
}

impl Policy {
    /// Whether nothing would be kept.
    pub fn is_empty(&self) -> bool {
        self.last == 0 && self.spans == Keep::default() && self.within.is_none()
    }
}

/// One of the counts.
struct Bucket {
    left: u32,
    last: Option<i64>,
    name: &'static str,
    /// The number of the span that a time is in.
    number: fn(&Zoned) -> i64,
}

/// Why each is kept; nothing is why it is not.  The times are in the calendar that counts, newest
/// first.
#[must_use]
pub fn reasons(policy: &Policy, times: &[Zoned]) -> Vec<Vec<&'static str>> {
    let mut buckets = buckets(&policy.spans);
    let oldest = times.len().saturating_sub(1);
    let limit = policy
        .within
        .and_then(|span| times.first()?.checked_sub(span).ok());
    let mut all = Vec::new();
    for (number, time) in times.iter().enumerate() {
        let mut reasons = Vec::new();
        if u32::try_from(number).is_ok_and(|number| number < policy.last) {
            reasons.push("last");
        }
        if limit.as_ref().is_some_and(|limit| time > limit) {
            reasons.push("within");
        }
        for bucket in buckets.iter_mut().filter(|bucket| bucket.left > 0) {
            let span = (bucket.number)(time);
            if bucket.last != Some(span) || number == oldest {
                bucket.last = Some(span);
                bucket.left -= 1;
                reasons.push(bucket.name);
            }
        }
        all.push(reasons);
    }
    all
}

fn buckets(keep: &Keep) -> [Bucket; 5] {
    let bucket = |left, name, number| Bucket {
        left,
        last: None,
        name,
        number,
    };
    [
        bucket(keep.hourly, "hourly", |time| {
            day(time) * 100 + i64::from(time.hour())
        }),
        bucket(keep.daily, "daily", day),
        bucket(keep.weekly, "weekly", |time| {
            let week = time.date().iso_week_date();
            i64::from(week.year()) * 100 + i64::from(week.week())
        }),
        bucket(keep.monthly, "monthly", |time| {
            i64::from(time.year()) * 100 + i64::from(time.month())
        }),
        bucket(keep.yearly, "yearly", |time| i64::from(time.year())),
    ]
}

fn day(time: &Zoned) -> i64 {
    (i64::from(time.year()) * 100 + i64::from(time.month())) * 100 + i64::from(time.day())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    fn kept(keep: &str, times: &[&str]) -> Vec<String> {
        let zoned = |text: &&str| {
            let time: Timestamp = text.parse().expect("a time");
            time.to_zoned(TimeZone::UTC)
        };
        let times: Vec<Zoned> = times.iter().map(zoned).collect();
        let policy = Policy::from(keep.parse::<Keep>().expect("well-formed"));
        let reasons = reasons(&policy, &times);
        reasons.iter().map(|reasons| reasons.join(" ")).collect()
    }

    #[test]
    fn the_newest_of_each_span_is_kept_and_the_oldest_while_there_is_room() {
        assert_eq!(
            kept(
                "2h2d",
                &[
                    "2026-11-21T10:45:00Z",
                    "2026-11-21T10:15:00Z",
                    "2026-11-21T09:15:00Z",
                    "2026-11-20T09:15:00Z",
                    "2026-11-19T09:15:00Z",
                ]
            ),
            ["hourly daily", "", "hourly", "daily", ""]
        );
        assert_eq!(
            kept("3y", &["2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
            ["yearly", "yearly"]
        );
        // The last days of a year may belong to the first week of the next.
        assert_eq!(
            kept(
                "2w",
                &[
                    "2025-12-30T00:00:00Z",
                    "2025-12-29T00:00:00Z",
                    "2025-12-28T00:00:00Z"
                ]
            ),
            ["weekly", "", "weekly"]
        );
        assert_eq!(kept("1d", &[]), [""; 0]);
    }
}
