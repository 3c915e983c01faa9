//! Waiting for something to become true, but not for ever.

use std::thread;
use std::time::{Duration, Instant};

/// The longest pause between two looks; the first ones are shorter, as most things happen soon.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `done`, and fails if `what` has not happened within `limit`.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, done: impl FnMut() -> bool) {
    assert!(happens(limit, done), "not within {limit:?}: {what}");
}

/// Whether `done` becomes true within `limit`.
pub(super) fn happens(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut step = STEP / 20;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(step);
        step = (step * 2).min(STEP);
    }
}
