//! Signals that wait.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks every signal for as long as it lives; what came meanwhile is delivered then.
#[derive(Debug)]
pub struct Blocked(SigSet);

impl Blocked {
    /// Blocks them.
    pub fn all() -> nix::Result<Self> {
        let mut before = SigSet::empty();
        nix::sys::signal::sigprocmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        Ok(Self(before))
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = self.0.thread_set_mask();
    }
}

/// Can be read from once a signal waits that a person or the system ends this process by; it goes on
/// waiting.
pub fn that_end() -> nix::Result<SignalFd> {
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    SignalFd::with_flags(&signals.into_iter().collect(), SfdFlags::SFD_CLOEXEC)
}
