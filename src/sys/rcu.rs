//! Short grace periods while something is being frozen.
//!
//! FIFREEZE waits three times until no CPU is inside a filesystem write (fs/super.c,
//! `sb_wait_write`: a percpu rwsem each, and `synchronize_rcu` in each).  A normal grace period takes
//! about 10 ms, an expedited one well below 1 ms: an idle XFS froze in 25 to 65 ms, and with
//! `/sys/kernel/rcu_expedited` in 1 ms.  The kernel itself switches it on while it boots and
//! suspends.
//!
//! It is one switch for the whole machine, and costs an interrupt on each CPU per grace period.  So
//! it is switched on only around the freeze, by whoever finds it off, never where CPUs are isolated
//! from such interrupts, and only once there is a guardian, which switches it off if we die.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// CPUs that somebody wants to be left alone.
const ISOLATED: [&str; 2] = [
    "/sys/devices/system/cpu/isolated",
    "/sys/devices/system/cpu/nohz_full",
];

/// The switch, found off and held open.  Once it is on, [`Expedited::restore`] is owed.
#[derive(Debug)]
pub struct Expedited(File);

impl Expedited {
    /// The switch, where it is off and ours to switch.  Nothing depends on it.
    pub fn find_off() -> Option<Self> {
        if !may_switch() {
            return None;
        }
        let mut switch = File::options().read(true).write(true).open(SWITCH).ok()?;
        let mut value = [0; 1];
        switch.read_exact(&mut value).ok()?;
        (value == *b"0").then_some(Self(switch))
    }

    /// Switches it on.
    pub fn switch_on(&self) {
        // If this fails, freezing takes longer.
        drop((&self.0).write_all(b"1"));
    }

    /// Switches it off; more than once is fine.
    pub fn restore(&self) {
        // If this fails, the machine has more interrupts.
        drop((&self.0).write_all(b"0"));
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        self.restore();
    }
}

impl AsFd for Expedited {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether [`Expedited::find_off`] would find it.
pub fn is_off() -> bool {
    may_switch() && std::fs::read(SWITCH).is_ok_and(|value| value.first() == Some(&b'0'))
}

/// Switches it off for somebody who is dead.
pub fn switch_off() {
    // If this fails, the machine has more interrupts.
    drop(std::fs::write(SWITCH, "0"));
}

fn may_switch() -> bool {
    !ISOLATED.iter().any(|file| names_a_cpu(file))
}

/// Such files hold a list of CPUs, `(null)`, or nothing.
fn names_a_cpu(file: &str) -> bool {
    std::fs::read_to_string(file)
        .is_ok_and(|text| text.starts_with(|first: char| first.is_ascii_digit()))
}
