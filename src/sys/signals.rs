//! Signals that wait.

use nix::sys::signal::{SigSet, SigmaskHow};

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
