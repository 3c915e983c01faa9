//! Medians, milliseconds, and the time that a command takes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The one in the middle.
pub(crate) fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values[values.len() / 2]
}

/// `12.3`, in milliseconds.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}

/// How many times as long as `other`.
pub(crate) fn times(time: Duration, other: Duration) -> f64 {
    time.as_secs_f64() / other.as_secs_f64()
}

/// Runs a command, from fork to exit; returns that time and what it printed.
///
/// Nothing here polls, so that short times are right.
pub(crate) fn timed(command: &mut Command) -> (Duration, String) {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command.output().unwrap();
    let time = started.elapsed();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (time, String::from_utf8(output.stdout).unwrap())
}

/// How fast, compared with what another did at about the same moments: `1.25x`.
pub(crate) fn speed(own: &[Duration], others: &[Duration]) -> String {
    let ratios = own
        .iter()
        .zip(others)
        .map(|(own, other)| times(*other, *own));
    format!("{:.2}x", median(ratios))
}

/// So many extents in a file of so many bytes make how many in a GiB.
pub(crate) fn per_gib(extents: u64, bytes: u64) -> u64 {
    (extents << 30) / bytes
}

/// `126 %`
pub(crate) fn percent(part: u64, whole: u64) -> String {
    format!("{} %", part * 100 / whole)
}

/// `2.5x`
#[allow(clippy::cast_precision_loss, reason = "sizes that are far from 2^52")]
pub(crate) fn ratio(part: u64, whole: u64) -> String {
    format!("{:.1}x", part as f64 / whole as f64)
}
