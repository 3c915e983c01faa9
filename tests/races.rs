//! Others who come in between: what a lovol has looked at is something else by the time it acts.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::support::{Running, TestPool, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// Waits until the log of a running strace has this in it.
fn wait_for(what: &str, pool: &TestPool) {
    let log = pool.temp().join("strace");
    wait_until(what, SOON, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(what))
    });
}

#[test]
fn whoever_opens_what_is_being_deleted_does_not_kill_the_lovol() {
    for words in ["delete a", "rename a b", "clone -f c a"] {
        let pool = TestPool::new();
        pool.lovol("create a 1M --fs none").ok_any();
        pool.lovol("create c 1M --fs none").ok_any();
        let options = "-e trace=fcntl,renameat2 -e inject=renameat2:delay_enter=1000000:when=1";
        let command = pool
            .lovol(words)
            .strace(pool.temp().join("strace"), options);
        let running = command.start();
        wait_for("F_SETLEASE, F_WRLCK)", &pool);
        let opened = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(pool.image("a"));
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
        running.finish().expect_success();
        pool.lovol("check").ok("");
    }
}

/// Starts a lovol, lets it wait for the pool's lock, does `between`, and lets it go on.
fn while_it_waits(pool: &TestPool, words: &str, between: impl FnOnce()) -> Running {
    let lock = File::open(pool.path().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let command = pool
        .lovol(words)
        .strace(pool.temp().join("strace"), "-y -e trace=flock");
    let running = command.start();
    wait_for("/lock>, LOCK_EX|LOCK_NB) = -1 EAGAIN", pool);
    between();
    flock(&lock, FlockOperation::Unlock).unwrap();
    running
}

#[test]
fn what_takes_the_place_of_what_was_locked_is_left_alone() {
    for words in ["delete a", "rename a b", "clone -f c a"] {
        let pool = TestPool::new();
        pool.lovol("create a 1M --fs none").ok_any();
        pool.lovol("create c 1M --fs none").ok_any();
        pool.sh("cp --preserve=all $POOL/volumes/a.img $POOL/another");
        let another = fs::metadata(pool.path().join("another")).unwrap().ino();
        let running = while_it_waits(&pool, words, || {
            pool.sh("mv $POOL/another $POOL/volumes/a.img");
        });
        let finished = running.finish();
        assert_eq!(finished.code(), Some(1), "{finished}");
        assert!(finished.stderr.contains("replaced meanwhile"), "{finished}");
        assert_eq!(fs::metadata(pool.image("a")).unwrap().ino(), another);
    }
}

#[test]
fn what_comes_where_nothing_was_to_be_locked_is_left_alone() {
    let pool = TestPool::new();
    pool.lovol("create a 1M --fs none").ok_any();
    pool.sh("mv $POOL/volumes/a.img $POOL/aside");
    let running = while_it_waits(&pool, "delete a", || {
        pool.sh("mv $POOL/aside $POOL/volumes/a.img");
    });
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(finished.stderr.contains("replaced meanwhile"), "{finished}");
    assert!(pool.image("a").exists());
}
