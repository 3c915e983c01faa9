//! Taking images, by the ways that were found for them.

use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::image::NewImage;
use crate::plan::Observer;
use crate::snapshot::passes::Passes;
use crate::snapshot::taking::{Job, Taking};
use crate::snapshot::{Source, Taken, Way};
use crate::sys::freeze::{Frozen, Limits, while_frozen};
use crate::sys::guardian::Ward;

/// The longest time for which a guest may be frozen, if nobody says otherwise.
pub const MAX_FREEZE: Duration = Duration::from_secs(10);

/// A first pass that took longer is worth a tracker: without one the freeze would take about a
/// fiftieth of it (as in the table of `passes`), which from here on is more than freezing itself; and to
/// start and end one takes some 50 ms, in which nobody waits.
const WORTH_TRACKING: Duration = Duration::from_millis(200);

/// Takes one image; making it durable is left to who names it.  Waits up to `wait` while somebody
/// else has frozen it.
pub fn take(
    source: &Source<'_>,
    destination: &NewImage,
    way: &Way,
    wait: Duration,
    observer: &dyn Observer,
) -> Result<Taken> {
    let limits = Limits {
        frozen: MAX_FREEZE,
        wait,
    };
    let job = Job {
        source,
        destination,
        way,
    };
    // One job, one result.
    take_all(&[job], limits, observer)?.pop().ok_or_else(|| {
        Error::refused(
            format!("cannot clone {}", source.name),
            "nothing came of it",
        )
    })
}

/// Takes several images at one instant: between the first and the last clone nobody writes to any
/// of them.
///
/// # Errors
/// What the first one fails with; then none of them is of any use.
pub fn take_all(jobs: &[Job<'_>], limits: Limits, observer: &dyn Observer) -> Result<Vec<Taken>> {
    let takings = jobs
        .iter()
        .map(|job| Taking::new(job, observer))
        .collect::<Result<Vec<_>>>()?;
    let mut passes = Passes::run(&takings, WORTH_TRACKING)?;
    let frozen = at_one_instant(&takings, &mut passes, limits)?;
    takings
        .iter()
        .map(|taking| taking.finish(&frozen))
        .collect()
}

fn at_one_instant(
    takings: &[Taking<'_>],
    passes: &mut Passes<'_, '_>,
    limits: Limits,
) -> Result<Frozen> {
    let wards = takings
        .iter()
        .filter_map(|taking| taking.ward().transpose())
        .collect::<Result<Vec<_>>>()?;
    if wards.is_empty() {
        return passes
            .clone_now(None)
            .map(|()| Frozen {
                at: Timestamp::now(),
                time: Duration::ZERO,
            })
            .map_err(|(number, error)| takings[number].clone_error(error));
    }
    // What is known now is not found out in a freeze that is in vain.
    passes.distrust();
    loop {
        let frozen = freeze(takings, passes, &wards, limits)?;
        if !passes.distrust() {
            return Ok(frozen);
        }
        // What was cloned of one may be older than the instant: all of that one again, in an instant
        // of its own.  That ends, as each time there is one less to be followed.
    }
}

fn freeze(
    takings: &[Taking<'_>],
    passes: &mut Passes<'_, '_>,
    wards: &[Ward],
    limits: Limits,
) -> Result<Frozen> {
    if passes.expected > limits.frozen {
        return Err(Error::FrozenTooLong {
            name: names(takings),
            limit: limits.frozen,
        });
    }
    let mut failed = None;
    while_frozen(wards, limits, |deadline| {
        passes.clone_now(Some(deadline)).map_err(|(number, error)| {
            failed = Some(number);
            error
        })
    })
    // The work's own errors are the cloning's, and name the image.
    .map_err(|error| match (failed, error) {
        (
            Some(number),
            Error::Io {
                action: "clone",
                source,
                ..
            },
        ) => takings[number].clone_error(source),
        (_, error) => error,
    })
}

fn names(takings: &[Taking<'_>]) -> String {
    let names: Vec<&str> = takings
        .iter()
        .map(|taking| taking.source.name.as_str())
        .collect();
    names.join(", ")
}
