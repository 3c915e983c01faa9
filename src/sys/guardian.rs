//! The guardian: a child that thaws when its parent cannot.
//!
//! A freeze outlives the process that made it, so a SIGKILL between FIFREEZE and FITHAW would
//! leave a `/home` frozen for ever.  The guardian is forked before the freeze and watches a pipe
//! whose other end only the parent has: its end is the parent's death, whatever killed it.  When
//! the deadline passes first, it thaws what is FROZEN.  INTENT means that the parent is inside the
//! ioctl, which may have to wait for somebody else's freeze: thawing that would hit theirs.  Once the
//! ioctl is over the parent says so at once, unless it was stopped just there: so INTENT is thawed of
//! a parent that is dead or stopped.  (One that is stopped there and was about to hear that somebody
//! else's freeze is in the way cannot be told from one that has frozen: then theirs is thawed.  The same
//! goes for one that is killed while it waits there.)
//!
//! It leaves only when every marker says THAWED or NOT-OURS, or after a thaw once the parent is
//! dead; until then it keeps trying.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::mman::MlockAllFlags;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sys::ioctl;
use crate::sys::marker::{Marker, State};
use crate::sys::rcu::Expedited;

/// Past the deadline, how long it waits between two tries.
const RETRY: Duration = Duration::from_millis(20);

/// How long it goes on trying after the parent's death if FITHAW fails for another reason than
/// that nothing is frozen.  Then the marker stays, for `check`.
const LAST_TRIES: Duration = Duration::from_secs(60);

/// What the guardian watches over: a descriptor on the filesystem, and its marker.
#[derive(Debug)]
pub struct Ward {
    /// What a person calls it.
    pub name: String,
    /// The descriptor that was proven to be the guest; it is the one that is frozen and thawed.
    pub root: OwnedFd,
    /// How far its freeze has got.
    pub marker: Marker,
}

/// The parent's side.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    /// Its end is what the guardian waits for.
    alive: Option<OwnedFd>,
}

impl Guardian {
    /// Forks the guardian, which thaws `deadline` from now at the latest.
    ///
    /// Both switch `expedited` off when they are done; twice does no harm.
    pub fn start(
        wards: &[Ward],
        expedited: Option<&Expedited>,
        deadline: Duration,
    ) -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let parent = Parent {
            alive: reader,
            stat: File::open("/proc/self/stat")?,
        };
        // Its buffer in the kernel is there from now on.
        parent.is_stopped();
        let pid = ioctl::fork(|| {
            let mut keep = vec![parent.alive.as_fd(), parent.stat.as_fd()];
            for ward in wards {
                keep.extend([ward.root.as_fd(), ward.marker.as_fd()]);
            }
            keep.extend(expedited.map(AsFd::as_fd));
            ioctl::close_all_but(&keep);
            guard(&parent, wards, deadline);
            if let Some(expedited) = expedited {
                expedited.restore();
            }
        })?;
        Ok(Self {
            pid,
            alive: Some(writer),
        })
    }

    /// Lets the guardian go, once nothing is left for it to do, and waits for its end.
    pub fn dismiss(mut self) {
        if let Some(alive) = &self.alive {
            // Without this word it would take us for dead, and remove markers that we still need.
            let _ = nix::unistd::write(alive, b".");
        }
        self.let_go();
    }

    /// Lets the guardian take us for dead, and so thaw what is left, without waiting for it.
    pub fn leave_it_to_you(mut self) {
        drop(self.alive.take());
    }

    fn let_go(&mut self) {
        if self.alive.take().is_some() {
            // A guardian that was killed is none to wait for either.
            let _ = waitpid(self.pid, None);
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What the child knows of its parent.
struct Parent {
    /// Ends when it dies.
    alive: OwnedFd,
    /// Its `/proc/PID/stat`.
    stat: File,
}

impl Parent {
    /// Whether it has been stopped, by a signal or a debugger (proc_pid_stat(5), `state`).
    fn is_stopped(&self) -> bool {
        let mut text = [0; 512];
        let length = self.stat.read_at(&mut text, 0).unwrap_or(0);
        // Its name, in brackets, may contain anything.
        let state = text[..length].rsplit(|byte| *byte == b')').next();
        matches!(state, Some([b' ', b'T' | b't', ..]))
    }
}

/// The child's whole life.
fn guard(parent: &Parent, wards: &[Ward], deadline: Duration) {
    // A session of its own, so that what a terminal sends to its processes does not reach it.
    let _ = nix::unistd::setsid();
    // Never to wait for a page that lies on what is frozen.
    let _ = nix::sys::mman::mlockall(MlockAllFlags::MCL_CURRENT);
    let started = Instant::now();
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        let has_ended = wait_for_end(&parent.alive, if left.is_zero() { RETRY } else { left });
        if has_ended && matches!(nix::unistd::read(&parent.alive, &mut [0]), Ok(1)) {
            return;
        }
        if has_ended {
            return thaw_for_the_dead(wards);
        }
        if wards
            .iter()
            .all(|ward| matches!(ward.marker.state(), State::Thawed | State::NotOurs))
        {
            return;
        }
        if started.elapsed() >= deadline {
            for ward in wards {
                thaw_late(ward, parent);
            }
        }
    }
}

/// Thaws what is ours past the deadline; once, as a second thaw could only hit somebody else's freeze.
fn thaw_late(ward: &Ward, parent: &Parent) {
    let state = ward.marker.state();
    let may_be_ours = match state {
        State::Frozen => true,
        State::Intent => parent.is_stopped(),
        State::Idle | State::NotOurs | State::Thawed => false,
    };
    if !may_be_ours {
        return;
    }
    let is_over = match ioctl::thaw(&ward.root) {
        Ok(()) => true,
        // Somebody else has ended our freeze: what is frozen from now on is theirs.  But one that is
        // only intended may still come.
        Err(error) => state == State::Frozen && is_not_frozen(&error),
    };
    if is_over {
        ward.marker.set(State::Thawed);
    }
}

/// Whether that is why FITHAW has failed.
fn is_not_frozen(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Waits until whoever holds the pipe's other end has died or said something (true), or the time
/// is over (false).
pub(super) fn wait_for_end(parent: &OwnedFd, time: Duration) -> bool {
    let started = Instant::now();
    loop {
        let left = time.saturating_sub(started.elapsed());
        let mut polled = [PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
        let timeout =
            PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut polled, timeout) {
            Ok(1..) => return true,
            // A signal is not the end of the time.
            Err(nix::errno::Errno::EINTR) if started.elapsed() < time => {}
            _ => return false,
        }
    }
}

/// One that cannot be thawed at once does not keep the others waiting.
fn thaw_for_the_dead(wards: &[Ward]) {
    let started = Instant::now();
    while !thaw_each(wards) && started.elapsed() < LAST_TRIES {
        std::thread::sleep(RETRY);
    }
    for ward in wards.iter().filter(|ward| !may_be_frozen(ward)) {
        ward.marker.set(State::Thawed);
        ward.marker.remove();
    }
}

/// Tries each once that may be frozen; whether none is any more.  That it was not counts as well.
///
/// Nothing is allocated: memory may have to be had from what is frozen.
fn thaw_each(wards: &[Ward]) -> bool {
    for ward in wards.iter().filter(|ward| may_be_frozen(ward)) {
        match ioctl::thaw(&ward.root) {
            Err(error) if !is_not_frozen(&error) => {}
            _ => ward.marker.set(State::Thawed),
        }
    }
    !wards.iter().any(may_be_frozen)
}

fn may_be_frozen(ward: &Ward) -> bool {
    ward.marker.state().may_be_frozen()
}
