//! Others who come in between: what a lovol has looked at is something else by the time it acts.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{FlockOperation, flock};

use crate::support::{Finished, Running, TestPool, children, wait_until, wait_until_delayed};

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
        let options = "-e trace=fcntl,renameat2 -e inject=renameat2:delay_enter=3000000:when=1";
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
    // The first waits for whoever may be moving the image, the second is to delete it.
    let options = "-e trace=flock -e inject=flock:delay_enter=3000000:when=2";
    let command = pool
        .lovol("delete a")
        .strace(pool.temp().join("strace"), options);
    let running = command.start();
    // flock(2)
    wait_until_delayed(&running, &["73"]);
    pool.sh("mv $POOL/aside $POOL/volumes/a.img");
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(finished.stderr.contains("replaced meanwhile"), "{finished}");
    assert!(pool.image("a").exists());
}

#[test]
fn whoever_finds_an_image_moved_says_what_it_is_called() {
    let pool = TestPool::new();
    pool.lovol("create a 1M --fs none").ok_any();
    pool.lovol("snapshot a@s").ok_any();
    let options = "-e trace=openat2 -e inject=openat2:delay_enter=3000000:when=";
    for (words, image, says) in [
        ("attach a", "volumes/a.img", "no volume named a"),
        ("clone a@s b", "snapshots/a/s.img", "no volume named a"),
    ] {
        let log = pool.temp().join("strace");
        pool.lovol(words).strace(&log, "-e trace=openat2").ok_any();
        pool.sh("lovol detach a || lovol delete b");
        let log_of_all = fs::read_to_string(&log).unwrap();
        let nth = 1 + log_of_all
            .lines()
            .position(|line| line.contains(image))
            .unwrap();
        let command = pool.lovol(words).strace(&log, &format!("{options}{nth}"));
        let running = command.start();
        // openat2(2)
        wait_until_delayed(&running, &["437"]);
        pool.lovol("rename a z").ok_any();
        let finished = running.finish();
        assert_eq!(finished.code(), Some(1), "{finished}");
        assert!(finished.stderr.contains(says), "{finished}");
        pool.lovol("rename z a").ok_any();
    }
}

#[test]
fn whoever_finds_a_name_taken_says_by_what() {
    let pool = TestPool::new();
    let log = pool.temp().join("strace");
    let create = |name: &str| pool.lovol(&format!("create {name} 1M --fs none"));
    create("a").strace(&log, "-e trace=openat2").ok_any();
    let log_of_all = fs::read_to_string(&log).unwrap();
    let nth = 1 + log_of_all
        .lines()
        .position(|line| line.contains("volumes/a.img"))
        .unwrap();
    let options = format!("-e trace=openat2 -e inject=openat2:delay_enter=3000000:when={nth}");
    let running = create("b").strace(&log, &options).start();
    wait_until_delayed(&running, &["437"]);
    create("b").ok_any();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(
        finished.stderr.contains("error: volume b exists already"),
        "{finished}"
    );
}

#[test]
fn what_is_mounted_over_a_btrfs_is_not_taken_for_it() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", "200M --fs btrfs");
    let options = format!(
        "-P {} -e trace=open,openat,ioctl -e inject=open,openat:delay_enter=3000000:when=1",
        dir.display()
    );
    let log = pool.temp().join("strace");
    let running = pool.lovol("snapshot home@a").strace(&log, &options).start();
    // open(2), openat(2)
    wait_until_delayed(&running, &["2", "257"]);
    pool.sh("mount -t tmpfs none $TEMP/home");
    let finished = running.finish();
    pool.sh("umount $TEMP/home");
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(
        finished.stderr.contains("it is no longer the filesystem"),
        "{finished}"
    );
    assert!(!fs::read_to_string(&log).unwrap().contains("FIFREEZE"));
}

#[test]
fn what_is_set_while_a_snapshot_is_taken_stays_set() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs ext4").ok_any();
    pool.sh("lovol snapshot home@a; lovol rollback --next-mount home@a; lovol set home user:a=1");
    // Its image is there, and has no name yet: after the volume's lock and that of a loop device, it
    // takes the pool's.
    let options = "-e trace=flock -e inject=flock:delay_enter=3000000:when=3";
    let log = pool.temp().join("strace");
    let snapshot = pool.lovol("snapshot home@b").strace(log, options).start();
    // flock(2)
    wait_until_delayed(&snapshot, &["73"]);
    pool.sh("lovol protect home; lovol set home keep=7d user:a=2 rollback-to=");
    snapshot.finish().expect_success();
    let shown = pool.lovol("show home -J").json();
    let properties = &shown["volumes"][0]["properties"];
    assert_eq!(
        *properties,
        serde_json::json!({"keep": "7d", "protect": "on", "user:a": "2"})
    );
    pool.lovol("check").ok("");
}

#[test]
fn what_replaces_a_volume_is_used_only_when_the_index_names_it() {
    let pool = TestPool::new();
    pool.lovol("create a 1M --fs none").ok_any();
    pool.lovol("create c 1M --fs none").ok_any();
    let log = pool.temp().join("strace");
    let attach = || pool.lovol("attach a");
    attach().strace(&log, "-e trace=openat2").ok_any();
    pool.lovol("detach a").ok("");
    let opened = fs::read_to_string(&log).unwrap();
    let before_lock = opened
        .lines()
        .position(|line| line.contains("volumes/a.img"));
    // It has looked up its name, and stands still before it locks the image.
    let options = format!(
        "-e trace=openat2 -e inject=openat2:signal=STOP:when={}",
        before_lock.unwrap()
    );
    let attaching = attach().strace(&log, &options).start();
    wait_for("--- stopped by SIGSTOP", &pool);

    // The index with and without the new directory, the index with the exchange, the exchange of
    // the images, and the index as it is then.
    let options = "-e trace=renameat2 -e inject=renameat2:delay_enter=3000000:when=5";
    let command = pool.lovol("clone -f c a");
    let cloning = command.strace(pool.temp().join("clone"), options).start();
    // renameat2(2)
    wait_until_delayed(&cloning, &["316"]);
    let main = children(attaching.pid().as_raw())[0];
    kill(Pid::from_raw(main), Signal::SIGCONT).unwrap();
    cloning.finish().expect_success();
    attaching.finish().expect_success();

    // The device is the new one's, and says so: nobody uses the old one.
    pool.lovol("purge -y a").ok_any();
    pool.lovol("detach a").ok("");
    pool.lovol("check").ok("");
}

/// Moves an image into a pool, and puts a symlink to another directory in the place of the image's own
/// while lovol is held at a rename.
fn while_an_image_is_moved(pool: &TestPool, options: &str) -> Finished {
    pool.sh(
        "mkdir $POOL/p $POOL/dir $POOL/other; lovol init $POOL/p; umask 027
         truncate -s 16M $POOL/dir/x.img; truncate -s 32M $POOL/other/x.img",
    );
    let command = pool.lovol("create x --move --from");
    let command = command
        .arg(pool.path().join("dir/x.img"))
        .env("LOVOL_POOL", pool.path().join("p"));
    let running = command.strace(pool.temp().join("strace"), options).start();
    // renameat2(2)
    wait_until_delayed(&running, &["316"]);
    pool.sh("mv $POOL/dir $POOL/away; ln -s other $POOL/dir");
    running.finish()
}

/// The images there are, and their sizes and modes.
fn images(pool: &TestPool) -> String {
    pool.sh("cd $POOL; find . -name '*.img' -printf '%P %s %m\\n' | sort")
}

#[test]
fn an_image_is_moved_from_where_it_was_found() {
    let pool = TestPool::raw();
    let options = "-e trace=renameat2 -e inject=renameat2:delay_enter=3000000:when=1";
    let finished = while_an_image_is_moved(&pool, options);
    assert_eq!(
        (finished.code(), images(&pool).as_str()),
        (
            Some(0),
            "other/x.img 33554432 640\np/volumes/x.img 16777216 600"
        ),
        "{finished}"
    );
}

#[test]
fn an_image_that_cannot_be_moved_goes_back_to_where_it_was_found() {
    let pool = TestPool::raw();
    // What fails is to write the pool's directory back, when the image is there.
    let options = "-e trace=renameat2,fsync -e inject=renameat2:delay_enter=3000000:when=2 \
                   -e inject=fsync:error=EIO:when=2";
    let finished = while_an_image_is_moved(&pool, options);
    assert_eq!(
        (finished.code(), images(&pool).as_str()),
        (Some(1), "away/x.img 16777216 640\nother/x.img 33554432 640"),
        "{finished}"
    );
}
