//! Signals that wait.

use std::io;

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
///
/// One that is ignored, as under nohup(1), ends nothing; but blocked it waits as well (kernel/signal.c,
/// `sig_ignored`).
pub fn that_end() -> io::Result<SignalFd> {
    let ignored = ignored()?;
    let signals = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ];
    let is_heeded = |signal: &Signal| ignored >> (*signal as u32 - 1) & 1 == 0;
    let signals = signals.into_iter().filter(is_heeded).collect();
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?)
}

/// Signal N is bit N - 1 (proc_pid_status(5), `SigIgn`).
fn ignored() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    Ok(mask.unwrap_or(0))
}
