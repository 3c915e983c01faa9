//! Time, always UTC.

use jiff::{Timestamp, Unit};

use crate::name::Name;

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

/// The name of an automatic snapshot, such as `20261121T101500Z`, with `_1`, `_2`, ... where it is
/// taken.
pub fn automatic_name(time: Timestamp, is_taken: impl Fn(&Name) -> bool) -> Name {
    let base = Name::of_time(time);
    let mut name = base.clone();
    let mut number = 0;
    while is_taken(&name) {
        number += 1;
        name = base.numbered(number);
    }
    name
}

/// A time as tables show it: local calendars are for people who sit where the machine is.
pub fn show(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}
