//! A mount namespace for one test, in which it has `/run/lovol` for itself.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::command::sh;
use super::lovol::leave_others;

/// Runs `body` on a thread of its own whose mounts nobody else sees, nor the other way round.
///
/// All programs that it starts are there too, without the cost of a namespace for each.
#[track_caller]
pub(crate) fn in_own_namespace(body: impl FnOnce() + Send) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        sh(&format!(
            "mount --make-rprivate /; {}; mkdir -p -m 0700 /run/lovol; mount -t tmpfs -o mode=700 lovol-test /run/lovol",
            leave_others(Path::new("/nothing"))
        ));
        body();
    };
    let result = thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}
