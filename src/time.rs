//! Time, always UTC.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit};

/// Now, to the microsecond: what a record can hold and a person can read.
pub fn now() -> Timestamp {
    to_microseconds(Timestamp::now())
}

/// Now, to the second: what a name made of it says.
pub fn now_in_seconds() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// A time without what is finer than a microsecond.
pub fn to_microseconds(time: Timestamp) -> Timestamp {
    time.round(Unit::Microsecond).unwrap_or(time)
}

/// A time as tables show it: local calendars are for people who sit where the machine is.
pub fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A span such as `36h`, `30d`, `4w`; months and years are the calendar's, in UTC.
///
/// # Errors
/// In words.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let wrong = || format!("'{text}' is not like 36h, 30d, 4w, 6m or 1y");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let span = Span::new();
    let span = match unit {
        "h" => span.try_hours(number),
        "d" => span.try_days(number),
        "w" => span.try_weeks(number),
        "m" => span.try_months(number),
        "y" => span.try_years(number),
        _ => return Err(wrong()),
    };
    span.map_err(|_| wrong())
}

/// So long before or after a time, by the calendar of UTC.
pub fn shifted(time: Timestamp, span: Span) -> Option<Timestamp> {
    let zoned = time.to_zoned(TimeZone::UTC).checked_add(span).ok()?;
    Some(zoned.timestamp())
}

/// A time to come: a span from now, a date (its beginning in UTC), or a time as RFC 3339 has it.
///
/// # Errors
/// In words.
pub fn parse_until(text: &str) -> Result<Timestamp, String> {
    let now = now_in_seconds();
    let by_span = || parse_span(text).ok().and_then(|span| shifted(now, span));
    let by_date = || {
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let time = by_span().or_else(|| text.parse().ok()).or_else(by_date);
    match time {
        Some(time) if time > now => Ok(time),
        Some(time) => Err(format!("{} is over", show(time))),
        None => Err(format!(
            "'{text}' is not like 30d, 2027-01-31 or 2027-01-31T12:00:00Z"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_the_calendar() {
        let start: Timestamp = "2024-01-31T12:00:00Z".parse().expect("a time");
        let after = |text| {
            let span = parse_span(text).expect("a span");
            shifted(start, span).expect("in range").to_string()
        };
        assert_eq!(after("36h"), "2024-02-02T00:00:00Z");
        assert_eq!(after("1m"), "2024-02-29T12:00:00Z");
        assert_eq!(after("2w"), "2024-02-14T12:00:00Z");
        for text in ["", "1", "d", "1x", "-1d", "1.5d", "99999999999999d"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert!(parse_until("2001-01-01").is_err());
        assert!(parse_until("2999-01-01").is_ok());
    }
}
