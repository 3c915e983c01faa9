//! What the tests stand on.
//!
//! ```ignore
//! let pool = TestPool::new();                      // an XFS with reflinks, and a pool on it
//! pool.lovol("create home 300M").ok_any();         // lovol, as it is typed
//! pool.lovol("mount home").arg(pool.dir("home")).ok_any();
//! let writer = Writer::start(pool.dir("home"));    // somebody who writes all the time
//! pool.lovol("snapshot home@a").ok("home@a\n");
//! writer.must_go_on();
//! ensure_unchanged(&pool, || {
//!     pool.lovol("snapshot home@a").fails(1, "home@a");
//! });
//! ```                                              // and nothing of it is left

#![allow(
    dead_code,
    unused_imports,
    reason = "a toolbox: not every tool is in use at every moment"
)]

mod command;
mod lovol;
mod machine;
mod namespace;
mod numbers;
mod pool;
mod round;
mod scratch;
mod strike;
mod system;
mod tally;
mod terminal;
mod thaw;
mod twins;
mod unchanged;
mod wait;
mod writer;

pub(crate) use command::{Finished, Running, sh};
pub(crate) use lovol::{LOVOL, Lovol, leave_others, lovol, lovol_called};
pub(crate) use machine::{LoopDevice, Mount, loop_devices, mounts, require_root};
pub(crate) use namespace::in_own_namespace;
pub(crate) use numbers::{Numbers, from_env};
pub(crate) use pool::TestPool;
pub(crate) use round::Round;
pub(crate) use scratch::Scratch;
pub(crate) use strike::{Moment, TO_AIM, Trace, children, is_dead, strike, wait_until_delayed};
pub(crate) use system::{on_own_machine, on_own_system, write_fstab};
pub(crate) use tally::tally;
pub(crate) use terminal::Shell;
pub(crate) use thaw::Thaw;
pub(crate) use twins::{kernel_tells_twins_apart, restore_btrfs};
pub(crate) use unchanged::{ensure_state, ensure_unchanged, state};
pub(crate) use wait::wait_until;
pub(crate) use writer::Writer;
