//! Freezing filesystems for the time of one piece of work, and never for longer.
//!
//! Between FIFREEZE and FITHAW there are only the work (clone ioctls, and reads of a device's
//! statistics) and looks at the clock: no allocation, no output, no open.  Whatever would wait for
//! the frozen filesystem (a page of this program, a log) is made ready before; signals wait until
//! after.

use std::io;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::mman::MlockAllFlags;

use crate::error::{Context, Error, Result};
use crate::sys::guardian::{Guardian, Ward};
use crate::sys::ioctl;
use crate::sys::marker::State;
use crate::sys::rcu::Expedited;
use crate::sys::signals::Blocked;

/// How a freeze went.
#[derive(Clone, Copy, Debug)]
pub struct Frozen {
    /// A moment at which everything was frozen.
    pub at: Timestamp,
    /// From the first FIFREEZE's call to the last FITHAW's return: what a writer may have waited.
    pub time: Duration,
}

/// Looks at the clock, for work that is to give up in time.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Whether there is time left.
    pub fn is_ahead(&self) -> bool {
        Instant::now() < self.0
    }
}

/// How an attempt failed.
#[derive(Debug)]
enum Failure {
    /// Somebody else has frozen this one: try again later.
    Busy(String),
    /// Somebody else thawed it meanwhile: what was done is worth nothing.
    Lost,
    /// Anything else.
    Error(Error),
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time for which anything may be frozen.
    pub frozen: Duration,
    /// How long to wait while somebody else has frozen it.
    pub wait: Duration,
}

/// Freezes all `wards`, runs `work`, thaws them, in this order and whatever happens.
///
/// A freeze that was lost on the way is tried again twice.
///
/// # Errors
/// [`Error::InUse`] when one stayed frozen by somebody else, [`Error::FrozenTooLong`] when there
/// was not time enough; else what freezing, `work` or thawing failed with.  Nothing is frozen by us
/// then, unless the error says so.
pub fn while_frozen(
    wards: &[Ward],
    limits: Limits,
    mut work: impl FnMut(Deadline) -> io::Result<()>,
) -> Result<Frozen> {
    let started = Instant::now();
    let mut losses = 0;
    let mut pause = Duration::from_millis(50);
    loop {
        match attempt(wards, limits.frozen, &mut work) {
            Ok(frozen) => return Ok(frozen),
            Err(Failure::Busy(_)) if started.elapsed() < limits.wait => {
                // Each attempt freezes the others for a moment: ever less often.
                std::thread::sleep(pause.min(limits.wait.saturating_sub(started.elapsed())));
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            Err(Failure::Busy(name)) => return Err(frozen_by_another(&name)),
            Err(Failure::Lost) if losses < 2 => losses += 1,
            Err(Failure::Lost) => return Err(lost(&names(wards))),
            Err(Failure::Error(error)) => return Err(error),
        }
    }
}

fn attempt(
    wards: &[Ward],
    limit: Duration,
    work: &mut impl FnMut(Deadline) -> io::Result<()>,
) -> Result<Frozen, Failure> {
    for ward in wards {
        ward.marker.set(State::Idle);
    }
    let signals = Blocked::all()
        .doing("block", "signals")
        .map_err(Failure::Error)?;
    let expedited = Expedited::find_off();
    // Not after the guardian's own: before ours is over, it has thawed nothing.
    let deadline = Deadline(Instant::now() + limit);
    let guardian = Guardian::start(wards, expedited.as_ref(), limit)
        .doing("fork", "the guardian")
        .map_err(Failure::Error)?;
    if let Some(expedited) = &expedited {
        expedited.switch_on();
    }
    // Without the right to lock memory the freeze is as safe, only less surely short.
    let _ = nix::sys::mman::mlockall(MlockAllFlags::MCL_CURRENT);
    let started = Instant::now();
    let frozen = freeze_all(wards, deadline);
    let at = Timestamp::now();
    let worked = frozen.is_ok().then(|| work(deadline));
    let thawed = thaw_all(wards, deadline);
    let time = started.elapsed();
    drop(expedited);
    let _ = nix::sys::mman::munlockall();
    // Asked once: the guardian may thaw it at any moment, and is left to it all the same.
    let still_frozen = wards
        .iter()
        .find(|ward| ward.marker.state() == State::Frozen);
    if still_frozen.is_some() {
        guardian.leave_it_to_you();
    } else {
        guardian.dismiss();
    }
    drop(signals);
    // Left to the guardian, and nothing is tried again beside it.
    if let Some(ward) = still_frozen {
        let error = thawed.err().unwrap_or(io::ErrorKind::Other.into());
        return Err(Failure::Error(not_thawed(&ward.name, &error)));
    }
    if let Err((ward, error)) = frozen {
        if error.raw_os_error() == Some(libc::ETIMEDOUT) {
            return Err(Failure::Error(Error::FrozenTooLong {
                name: names(wards),
                limit,
            }));
        }
        return Err(freeze_failure(&ward.name, error));
    }
    let names = || names(wards);
    let too_long = || {
        Failure::Error(Error::FrozenTooLong {
            name: names(),
            limit,
        })
    };
    match (thawed, worked) {
        (Err(error), _) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Err(too_long()),
        (Err(error), _) if error.raw_os_error() == Some(libc::EINVAL) => Err(Failure::Lost),
        (Err(error), _) => Err(Failure::Error(not_thawed(&names(), &error))),
        (Ok(()), Some(Err(error))) if error.raw_os_error() == Some(libc::ETIMEDOUT) => {
            Err(too_long())
        }
        (Ok(()), Some(Err(error))) => Err(Failure::Error(Error::io("clone", names(), error))),
        (Ok(()), _) => Ok(Frozen { at, time }),
    }
}

fn names(wards: &[Ward]) -> String {
    let names: Vec<&str> = wards.iter().map(|ward| ward.name.as_str()).collect();
    names.join(", ")
}

fn freeze_all(wards: &[Ward], deadline: Deadline) -> Result<(), (&Ward, io::Error)> {
    for ward in wards {
        if !deadline.is_ahead() {
            return Err((ward, too_late()));
        }
        ward.marker.set(State::Intent);
        match ioctl::freeze(&ward.root) {
            Ok(()) if ward.marker.set_frozen() => {}
            // The guardian was before us: we had been stopped, and the time is over.  If that was
            // before the call, what it thawed was somebody else's freeze, and ours has come only now:
            // so it counts as frozen until it is thawed, whatever comes.
            Ok(()) => {
                ward.marker.set(State::Frozen);
                return Err((ward, too_late()));
            }
            Err(error) => {
                ward.marker.set(State::NotOurs);
                return Err((ward, error));
            }
        }
    }
    Ok(())
}

/// Thaws what is frozen by us, last first; the first error, after trying all: `ETIMEDOUT` where the
/// guardian has done it, `EINVAL` where somebody else has.
fn thaw_all(wards: &[Ward], deadline: Deadline) -> io::Result<()> {
    let mut result = Ok(());
    for ward in wards.iter().rev() {
        let thawed = match ward.marker.state() {
            State::Frozen => thaw(ward, deadline),
            // By the guardian: what is frozen now, if it is, is somebody else's.
            State::Thawed => Err(too_late()),
            State::Idle | State::Intent | State::NotOurs => Ok(()),
        };
        result = result.and(thawed);
    }
    result
}

/// Thaws one; an error that may pass is met by trying again for a moment.
fn thaw(ward: &Ward, deadline: Deadline) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match ioctl::thaw(&ward.root) {
            Ok(()) => {
                ward.marker.set(State::Thawed);
                // Past the deadline the guardian may have been before us: then what we have cloned was
                // written to meanwhile, and this was somebody else's freeze.
                return if deadline.is_ahead() {
                    Ok(())
                } else {
                    Err(too_late())
                };
            }
            // Not frozen: by whom ever, it is over.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Past the deadline it is the guardian's, who may not have said so yet.
                let is_guardians = ward.marker.state() == State::Thawed || !deadline.is_ahead();
                ward.marker.set(State::Thawed);
                return Err(if is_guardians { too_late() } else { error });
            }
            // Left in state FROZEN, so that the guardian goes on when we are gone.
            Err(error) if tries == 10 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn too_late() -> io::Error {
    io::Error::from_raw_os_error(libc::ETIMEDOUT)
}

fn freeze_failure(name: &str, error: io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::Busy(name.to_owned()),
        Some(libc::EOPNOTSUPP) => Failure::Error(
            Error::refused(
                format!("cannot freeze {name}"),
                "its filesystem cannot be frozen",
            )
            .with_hint("--crash takes it unfrozen, like after a pulled plug"),
        ),
        Some(libc::EIO) => Failure::Error(
            Error::refused(
                format!("cannot freeze {name}"),
                "its filesystem could not write everything back",
            )
            .with_hint("the kernel's log ('dmesg') says why: a full pool is one reason; if the filesystem has given up, 'lovol check' says what to do"),
        ),
        _ => Failure::Error(Error::io("freeze", name, error)),
    }
}

fn frozen_by_another(name: &str) -> Error {
    Error::InUse {
        what: name.to_owned(),
        by: vec!["already frozen by another program, such as a backup agent".into()],
        hint: Some(
            "whoever froze it must thaw it; if that was a lovol that was killed, 'lovol check --repair' does; 'fsfreeze -u DIR' only if that program is dead".into(),
        ),
    }
}

fn lost(name: &str) -> Error {
    Error::refused(
        format!("cannot snapshot {name}"),
        "another program thawed it each time while it was being cloned; nothing was kept",
    )
}

fn not_thawed(name: &str, error: &io::Error) -> Error {
    Error::refused(
        format!("{name} may still be frozen"),
        format!("thawing it failed ({error}); a guardian goes on trying for a minute"),
    )
    .with_hint("'fsfreeze -u DIR' or 'lovol check --repair' thaws it; as a last resort SysRq-j thaws everything")
}
