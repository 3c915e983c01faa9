//! Time, always UTC.

use jiff::{Timestamp, Unit};

use crate::name::Name;

/// Now, to the microsecond: what a record can hold and a person can read.
#[must_use]
pub fn now() -> Timestamp {
    to_microseconds(Timestamp::now())
}

/// A time without what is finer than a microsecond.
#[must_use]
pub fn to_microseconds(time: Timestamp) -> Timestamp {
    time.round(Unit::Microsecond).unwrap_or(time)
}

/// The name of an automatic snapshot, such as `20261121T101500Z`, with `_1`, `_2`, ... where it is
/// taken.
#[must_use]
pub fn automatic_name(time: Timestamp, is_taken: impl Fn(&Name) -> bool) -> Name {
    let base = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let numbered = (1_u32..).map(|number| format!("{base}_{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered).filter_map(|name| name.parse().ok());
    // There are more numbers than snapshots, so one is free.
    names.find(|name| !is_taken(name)).unwrap_or_else(|| automatic_name(now(), |_| false))
}

/// A time as tables show it: local calendars are for people who sit where the machine is.
#[must_use]
pub fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
