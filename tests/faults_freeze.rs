//! Bad days inside the freeze: nothing stays frozen, and there is a whole snapshot or none.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    Finished, Lovol, Moment, Running, TO_AIM, TestPool, Thaw, Trace, Writer, children,
    ensure_state, ensure_unchanged, is_dead, leave_others, state, strike, wait_until,
};

/// The guardian thaws a moment after it notices, whatever the machine has to do besides.
const SOON: Duration = Duration::from_secs(5);

/// Longer than lovol may freeze anything.
const TOO_LONG: Duration = Duration::from_secs(30);

/// An ext4 guest: small, and its mount is quick.
const SMALL: &str = "40M --fs ext4";

/// A volume `home` that somebody writes to, and that is thawed in the end even if lovol fails to.
struct Home {
    // The writer must stop before the pool goes.
    writer: Writer,
    thaw: Thaw,
    dir: PathBuf,
    pool: TestPool,
}

impl Home {
    #[track_caller]
    fn new(size_and_options: &str) -> Self {
        let pool = TestPool::new();
        pool.dir("run");
        let dir = pool.mounted("home", size_and_options);
        // Until a shot has hit, as well.
        let thaw = Thaw::later(&dir, TO_AIM + TOO_LONG * 2);
        let writer = Writer::start(&dir);
        Self {
            writer,
            thaw,
            dir,
            pool,
        }
    }

    /// `lovol snapshot home@a` under strace, which looks only at calls on the guest's root.
    fn snapshot_with(&self, options: &str) -> Lovol {
        self.with("snapshot home@a", options)
    }

    fn with(&self, words: &str, options: &str) -> Lovol {
        let options = format!("-P {} -e trace=ioctl {options}", self.dir.display());
        let command = self.pool.lovol(words).strace(self.log(), &options);
        self.with_own_markers(command)
    }

    fn with_own_markers(&self, command: Lovol) -> Lovol {
        command.with_markers_in(self.pool.temp().join("run"))
    }

    fn log(&self) -> PathBuf {
        self.pool.temp().join("strace")
    }

    fn markers(&self) -> usize {
        fs::read_dir(self.pool.dir("run")).unwrap().count()
    }

    /// Fails if the guest is frozen, or was thawed by the test's own safety net.
    #[track_caller]
    fn must_be_writable(&mut self) {
        self.writer.must_go_on();
        assert!(
            !self.thaw.has_come(),
            "it was frozen until the test thawed it"
        );
    }

    /// Fails if the guest was frozen for longer than that.
    #[track_caller]
    fn must_have_been_writable_within(&mut self, limit: Duration) {
        self.must_be_writable();
        let worst = self.writer.worst();
        assert!(worst < limit, "a write has taken {worst:?}");
    }

    #[track_caller]
    fn must_have_no_snapshot(&self, name: &str) {
        assert!(!self.pool.snapshot_image("home", name).exists());
        let list = self.pool.lovol("list -a -J").json();
        assert_eq!(list["volumes"][0]["snapshots"], serde_json::json!([]));
    }
}

#[test]
fn killed_before_the_clone_it_leaves_a_thawed_guest() {
    let mut home = Home::new(SMALL);

    let hit = strike(&home.pool, Moment::Frozen, "signal=KILL", |command| {
        home.with_own_markers(command)
    });

    assert_eq!(hit.finished.signal(), Some(9), "{}", hit.finished);
    home.must_have_been_writable_within(SOON);
    home.must_have_no_snapshot(&hit.snapshot);
    ensure_state(&home.pool, &hit.before);
    wait_until("the guardian leaves", SOON, || home.markers() == 0);
    home.pool.lovol("check").ok("");
}

#[test]
fn killed_after_the_clone_it_leaves_a_thawed_guest() {
    let mut home = Home::new(SMALL);

    ensure_unchanged(&home.pool, || {
        // The first call on the guest's root freezes it, the second thaws it.
        let killed = home
            .snapshot_with("-e inject=ioctl:signal=KILL:when=2")
            .finish();
        assert_eq!(killed.signal(), Some(9), "{killed}");
    });

    home.must_have_been_writable_within(SOON);
    home.must_have_no_snapshot("a");
    wait_until("the guardian leaves", SOON, || home.markers() == 0);
    home.pool.lovol("check").ok("");
}

/// A lovol that stands still inside the freeze, its own pid, and its guardian's.
struct Halted {
    running: Running,
    main: Pid,
    guardian: Pid,
}

impl Halted {
    fn of(home: &Home, running: Running) -> Self {
        let main = children(running.pid().as_raw());
        let guardian = children(main[0]);
        assert_eq!((main.len(), guardian.len()), (1, 1));
        assert!(!fs::read_to_string(home.log()).unwrap().contains("FITHAW)"));
        Self {
            running,
            main: Pid::from_raw(main[0]),
            guardian: Pid::from_raw(guardian[0]),
        }
    }

    /// Stopped when FIFREEZE returns, before it could note that.
    fn behind_freeze(home: &Home) -> Self {
        let command = home.snapshot_with("-e inject=ioctl:signal=STOP:when=1");
        let running = command.start();
        wait_until("it stops inside the freeze", TOO_LONG, || {
            fs::read_to_string(home.log()).is_ok_and(|log| log.contains("--- stopped by SIGSTOP"))
        });
        Self::of(home, running)
    }

    /// Held before FITHAW, with everything noted.
    fn before_thaw(home: &Home) -> Self {
        let command = home.snapshot_with("-e inject=ioctl:delay_enter=60000000:when=2");
        let running = command.start();
        wait_until_held(&home.log(), "FITHAW");
        Self::of(home, running)
    }

    fn kill_both(mut self) {
        kill(self.guardian, Signal::SIGKILL).unwrap();
        kill(self.main, Signal::SIGKILL).unwrap();
        // Nobody dies while strace has something else to wait for.
        self.running.signal(Signal::SIGKILL);
        self.running.finish();
        let is_dead = || kill(self.main, None).is_err();
        wait_until("it is dead", TOO_LONG, is_dead);
    }
}

#[test]
fn what_the_dead_and_their_dead_guardian_leave_frozen_is_thawed_by_check() {
    for halt in [Halted::behind_freeze, Halted::before_thaw] {
        check_thaws(halt);
    }
}

fn check_thaws(halt: impl Fn(&Home) -> Halted) {
    let mut home = Home::new(SMALL);
    let halted = halt(&home);
    let count = home.writer.count();
    halted.kill_both();

    // Nobody is left who could thaw it.
    let check = home.pool.lovol("check -J");
    let checked = home.with_own_markers(check).finish();
    assert_eq!(checked.code(), Some(1), "{checked}");
    let found: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(found["findings"][0]["kind"], "frozen");
    assert_eq!(found["findings"][0]["what"], "home");
    assert!(home.writer.count() <= count + 1, "it is not frozen");

    let repair = home.pool.lovol("check --repair");
    home.with_own_markers(repair).ok("");
    home.must_be_writable();
    assert_eq!(home.markers(), 0);
    home.must_have_no_snapshot("a");
    let check = home.pool.lovol("check");
    home.with_own_markers(check).ok("");
}

#[test]
fn even_a_guest_that_was_unmounted_while_frozen_is_thawed_by_check() {
    let home = Home::new(SMALL);
    Halted::before_thaw(&home).kill_both();

    home.pool.sh("umount --lazy $TEMP/home");
    let repair = home.pool.lovol("check --repair");
    home.with_own_markers(repair).ok("");
    home.writer.stop();
}

#[test]
fn what_nobody_has_mounted_is_not_mounted_to_thaw_it() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs ext4").ok_any();
    let device = pool.lovol("attach vm").ok_any();
    // A lovol was killed that had frozen it; it was thawed by hand and unmounted, and is a machine's now.
    let image = pool.image("vm").metadata().unwrap();
    let note = serde_json::json!({
        "pid": 1,
        "loop_number": device.trim().trim_start_matches("/dev/loop").parse::<u32>().unwrap(),
        "device": image.dev(),
        "inode": image.ino(),
        "fstype": "ext4",
        "name": "vm",
    });
    let mut marker = vec![0; 4096];
    // FROZEN
    marker[..4].copy_from_slice(&2_u32.to_ne_bytes());
    marker.extend(note.to_string().into_bytes());
    let run = pool.dir("run");
    fs::write(run.join("freeze-1-0"), marker).unwrap();
    let machine = File::open(device.trim()).unwrap();
    let before = pool.sh("sha1sum $POOL/volumes/vm.img");

    pool.lovol("check --repair").with_markers_in(&run).ok("");

    assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    // Mounting it would have written to it.
    assert_eq!(pool.sh("sha1sum $POOL/volumes/vm.img"), before);
    drop(machine);
}

#[test]
fn stopped_inside_the_freeze_its_guardian_thaws_at_the_deadline() {
    let mut home = Home::new(SMALL);
    let before = state(&home.pool);

    let Halted {
        mut running, main, ..
    } = Halted::behind_freeze(&home);
    home.must_be_writable();
    let worst = home.writer.worst();
    assert!(
        worst > Duration::from_secs(5),
        "it was not frozen: {worst:?}"
    );
    assert!(
        worst < Duration::from_secs(13),
        "thawed too late: {worst:?}"
    );
    assert!(running.is_running());

    kill(main, Signal::SIGCONT).unwrap();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(finished.stderr.contains("longer than 10"), "{finished}");
    ensure_state(&home.pool, &before);
    assert_eq!(home.markers(), 0);
}

#[test]
fn a_freeze_that_somebody_else_has_ended_is_over_for_the_guardian_too() {
    let home = Home::new(SMALL);
    let halted = Halted::before_thaw(&home);

    home.pool.sh("fsfreeze --unfreeze $TEMP/home");
    // At the deadline, with nothing to thaw; a backup agent's freeze may come at any moment.
    let guardian = halted.guardian.as_raw();
    wait_until("the guardian leaves", TOO_LONG, || is_dead(guardian));

    home.pool.sh("fsfreeze --freeze $TEMP/home");
    halted.kill_both();
    home.pool.sh("fsfreeze --unfreeze $TEMP/home");
    home.must_have_no_snapshot("a");
    home.writer.stop();
}

#[test]
fn what_is_late_inside_the_freeze_is_given_up_or_taken_unfrozen() {
    let mut home = Home::new(SMALL);
    // The second call on the guest's root is the thaw.
    let is_late = "-e inject=ioctl:delay_enter=3000000:when=2";

    ensure_unchanged(&home.pool, || {
        home.with("snapshot --max-freeze 1 home@a", is_late)
            .fails(1, "frozen for longer than 1");
    });
    home.must_have_been_writable_within(SOON);

    let taken = home
        .with("snapshot --max-freeze 1 --if-late crash home@a -J", is_late)
        .json();
    assert_eq!(taken["snapshots"][0]["consistency"], "crash");
    home.must_have_been_writable_within(SOON);
    home.pool.lovol("check").ok("");
}

/// The clone fails with each of these.
fn clone_fails_with(moment: Moment, errno: &str) {
    let mut home = Home::new(SMALL);

    let hit = strike(&home.pool, moment, &format!("error={errno}"), |command| {
        home.with_own_markers(command)
    });

    assert_eq!(hit.finished.code(), Some(1), "{}", hit.finished);
    assert!(
        hit.finished.stderr.starts_with("error: "),
        "{}",
        hit.finished
    );
    assert_eq!(hit.finished.stdout, "");
    home.must_have_been_writable_within(SOON);
    home.must_have_no_snapshot(&hit.snapshot);
    ensure_state(&home.pool, &hit.before);
    assert_eq!(home.markers(), 0);
}

#[test]
fn a_clone_that_fails_before_the_freeze_leaves_nothing() {
    for errno in ["EIO", "EOPNOTSUPP"] {
        clone_fails_with(Moment::Unfrozen, errno);
    }
}

#[test]
fn a_clone_that_fails_inside_the_freeze_leaves_a_thawed_guest_and_nothing_else() {
    for errno in ["EIO", "ENOSPC", "EOPNOTSUPP", "EXDEV", "EINTR"] {
        clone_fails_with(Moment::Frozen, errno);
    }
}

#[test]
fn a_clone_that_only_pretends_is_no_snapshot() {
    let mut home = Home::new("300M");

    let hit = strike(&home.pool, Moment::Frozen, "retval=0", |command| {
        home.with_own_markers(command)
    });

    assert_eq!(hit.finished.code(), Some(1), "{}", hit.finished);
    assert!(hit.finished.stderr.contains("cloned"), "{}", hit.finished);
    home.must_be_writable();
    home.must_have_no_snapshot(&hit.snapshot);
    ensure_state(&home.pool, &hit.before);
}

#[test]
fn what_another_program_has_frozen_is_waited_for_and_never_thawed() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", SMALL);
    let mut thaw = Thaw::later(&dir, TOO_LONG);
    pool.sh("fsfreeze --freeze $TEMP/home");

    ensure_unchanged(&pool, || {
        let said = pool
            .lovol("--wait 1 snapshot home@a")
            .fails(1, "frozen by another program");
        assert!(said.contains("hint: "), "{said}");
    });

    // Still frozen: a second freeze is refused, and a thaw works.
    pool.sh("if fsfreeze --freeze $TEMP/home 2>/dev/null; then false; fi");
    assert!(!thaw.has_come());
    pool.sh("fsfreeze --unfreeze $TEMP/home");
    pool.lovol("snapshot home@a").ok("home@a\n");
}

#[test]
fn it_waits_until_another_program_thaws() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", SMALL);
    pool.sh("fsfreeze --freeze $TEMP/home");
    let _thaw = Thaw::later(&dir, Duration::from_secs(1));

    pool.lovol("snapshot home@a").ok("home@a\n");
}

#[test]
fn a_freeze_that_somebody_else_ends_gives_no_snapshot() {
    let home = Home::new(SMALL);

    ensure_unchanged(&home.pool, || {
        let meddler = home
            .pool
            .start("while true; do fsfreeze --unfreeze $TEMP/home 2>/dev/null || sleep 0.01; done");
        let said = home
            .snapshot_with("-e inject=ioctl:delay_enter=300000")
            .fails(1, "thawed it");
        assert!(!said.contains("panicked"), "{said}");
        drop(meddler);
    });
    home.must_have_no_snapshot("a");
    home.writer.must_go_on();
}

#[test]
fn a_freeze_that_is_lost_once_is_tried_again() {
    let home = Home::new(SMALL);

    let meddler = home
        .pool
        .start("until fsfreeze --unfreeze $TEMP/home 2>/dev/null; do sleep 0.01; done");
    home.snapshot_with("-e inject=ioctl:delay_enter=300000")
        .ok("home@a\n");

    assert!(meddler.finish().status.success());
    let calls = Trace::read(home.log());
    let freezes = calls
        .lines()
        .iter()
        .filter(|line| line.contains("FIFREEZE"));
    assert_eq!(freezes.count(), 2, "{:?}", calls.lines());
}

#[test]
fn a_thaw_that_fails_is_tried_again() {
    let mut home = Home::new(SMALL);

    home.snapshot_with("-e inject=ioctl:error=EIO:when=2..4")
        .ok("home@a\n");

    assert_eq!(Trace::read(home.log()).injected(), 3);
    home.must_have_been_writable_within(SOON);
}

#[test]
fn a_thaw_that_never_succeeds_is_left_to_the_guardian_and_said() {
    let mut home = Home::new(SMALL);
    let before = state(&home.pool);

    let said = home
        .snapshot_with("-e inject=ioctl:error=EIO:when=2+")
        .fails(1, "may still be frozen");

    assert!(said.contains("hint: "), "{said}");
    assert!(said.contains("SysRq"), "{said}");
    home.must_have_been_writable_within(Duration::from_secs(13));
    ensure_state(&home.pool, &before);
    wait_until("the guardian leaves", SOON, || home.markers() == 0);
}

#[test]
fn a_freeze_that_fails_is_a_failed_snapshot() {
    for (errno, says) in [("EIO", "could not write"), ("EOPNOTSUPP", "--crash")] {
        let mut home = Home::new(SMALL);
        ensure_unchanged(&home.pool, || {
            home.snapshot_with(&format!("-e inject=ioctl:error={errno}:when=1"))
                .fails(1, says);
        });
        home.must_have_been_writable_within(SOON);
        assert_eq!(home.markers(), 0);
    }
}

/// Waits until strace holds lovol where it enters such a call, to let it go later: the last line of
/// its log has the call, and not yet its result.
#[track_caller]
fn wait_until_held(log: &Path, call: &str) {
    wait_until("it is held", TOO_LONG, || {
        let log = fs::read_to_string(log).unwrap_or_default();
        let last = log.lines().last().unwrap_or_default();
        last.contains(call) && !last.contains(" = ")
    });
}

#[test]
fn unmounted_at_the_last_moment_it_never_freezes_what_lies_beneath() {
    // What lies beneath is this machine's own filesystem.
    let pool = TestPool::new();
    let dir = pool.mounted("home", SMALL);
    let mut thaw = Thaw::later(pool.temp(), TOO_LONG);

    let options = format!(
        "-P {} -e trace=open,openat,ioctl -e inject=open,openat:delay_enter=2000000:when=1",
        dir.display()
    );
    let log = pool.temp().join("strace");
    let running = pool.lovol("snapshot home@a").strace(&log, &options).start();
    wait_until_held(&log, "open");
    pool.sh("umount $TEMP/home");

    let finished = running.finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert!(finished.stderr.contains("no longer"), "{finished}");
    let trace = Trace::read(log);
    let is_frozen = |line: &String| line.contains("FIFREEZE");
    assert!(!trace.lines().iter().any(is_frozen), "{:?}", trace.lines());
    File::create(pool.temp().join("still-writable")).unwrap();
    assert!(!thaw.has_come());
    assert!(!pool.snapshot_image("home", "a").exists());
    wait_until("its device is gone", TOO_LONG, || pool.loops().is_empty());
    pool.lovol("check").ok("");
}

#[test]
fn output_into_the_guest_does_not_hang() {
    let mut home = Home::new(SMALL);
    home.pool
        .sh("lovol -v snapshot home@a > $TEMP/home/stdout 2> $TEMP/home/stderr");

    let read = |name: &str| fs::read_to_string(home.dir.join(name)).unwrap();
    assert_eq!(read("stdout"), "home@a\n");
    assert!(read("stderr").contains("freeze "), "{}", read("stderr"));
    home.must_have_been_writable_within(SOON);
}

#[test]
fn a_frozen_pool_is_not_waited_for_for_ever() {
    let pool = TestPool::new();
    pool.mounted("home", SMALL);
    let mut thaw = Thaw::later(pool.path(), TOO_LONG);
    pool.sh("fsfreeze --freeze $POOL");

    let mut running = pool.lovol("--wait 1 snapshot home@a").start();
    let limit = Instant::now() + Duration::from_secs(8);
    while running.is_running() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    let has_ended = !running.is_running();
    assert!(!thaw.has_come());
    // Before anything can fail: a frozen pool cannot be cleaned up.
    pool.sh("fsfreeze --unfreeze $POOL");

    let finished = running.finish();
    assert!(
        has_ended,
        "it waited until the pool was thawed:\n{finished}"
    );
    assert!(matches!(finished.code(), Some(1 | 3)), "{finished}");
    pool.sh("touch $TEMP/home/still-writable");
    assert!(!pool.snapshot_image("home", "a").exists());
    pool.lovol("check").ok("");
}

#[test]
fn mounted_only_in_another_namespace_it_is_not_taken_unfrozen() {
    let pool = TestPool::new();
    pool.lovol(&format!("create home {SMALL}")).ok_any();
    let device = pool.lovol("attach home").ok_any();
    pool.dir("home");
    let script = format!(
        "{}; mount {} $TEMP/home; touch $TEMP/ready; exec sleep 100",
        leave_others(pool.temp()),
        device.trim()
    );
    fs::write(pool.temp().join("elsewhere"), script).unwrap();
    let elsewhere =
        pool.start("exec unshare --mount --propagation=private bash -e $TEMP/elsewhere");
    let ready = pool.temp().join("ready");
    wait_until("it is mounted there", TOO_LONG, || ready.exists());

    ensure_unchanged(&pool, || {
        let said = pool.lovol("snapshot home@a").fails(1, "namespace");
        assert!(said.contains("--crash"), "{said}");
        pool.lovol("detach home").fails(1, "");
    });
    pool.lovol("snapshot home@a --crash").ok("home@a\n");
    drop(elsewhere);
}

#[test]
fn a_device_that_cannot_be_asked_is_not_taken_for_unused() {
    let home = Home::new(SMALL);
    let device = home.pool.loops()[0].device.clone();
    let options = format!("-P {device} -e trace=ioctl -e inject=ioctl:error=EIO:when=1");

    ensure_unchanged(&home.pool, || {
        let command = home.pool.lovol("snapshot home@a");
        command.strace(home.log(), &options).fails(1, "");
    });
    ensure_unchanged(&home.pool, || {
        let command = home.pool.lovol("mount home").arg(home.pool.dir("again"));
        command.strace(home.log(), &options).fails(1, "");
    });
}

/// A signal at any moment: the command ends by it or succeeds, and never in between.
fn signalled_at_any_moment(signal: Signal) {
    let mut home = Home::new(SMALL);
    let pool = &home.pool;
    let mut taken = 0;
    for round in 0_u64..25 {
        let name = format!("s{round}");
        let command = pool.lovol("snapshot").arg(format!("home@{name}"));
        let mut running = command.start();
        std::thread::sleep(Duration::from_millis(round * 3));
        running.signal(signal);
        let finished = running.finish();
        let is_there = pool.snapshot_image("home", &name).exists();
        judge(&finished, signal, is_there);
        taken += usize::from(is_there);
    }

    // It may come between an image and its index entry.
    pool.lovol("check --repair").ok("");
    let list = pool.lovol("list -a -J").json();
    let snapshots = list["volumes"][0]["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), taken);
    for snapshot in snapshots {
        assert_eq!(snapshot["consistency"], "frozen");
    }
    home.must_have_been_writable_within(SOON);
}

#[track_caller]
fn judge(finished: &Finished, signal: Signal, is_there: bool) {
    if finished.status.success() {
        assert!(is_there, "{finished}");
    } else {
        assert_eq!(finished.signal(), Some(signal as i32), "{finished}");
    }
}

#[test]
fn interrupted_at_any_moment_there_is_a_snapshot_or_none() {
    signalled_at_any_moment(Signal::SIGINT);
}

#[test]
fn terminated_at_any_moment_there_is_a_snapshot_or_none() {
    signalled_at_any_moment(Signal::SIGTERM);
}

#[test]
fn the_marker_stays_for_as_long_as_it_tries() {
    let home = Home::new(SMALL);
    home.pool.sh("fsfreeze --freeze $TEMP/home");
    let command = home.pool.lovol("--wait 60 snapshot home@a");
    let mut running = home.with_own_markers(command).start();
    wait_until("it has begun", TOO_LONG, || home.markers() == 1);
    // Each attempt has a guardian of its own, whose end must not take the marker along.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert_eq!(home.markers(), 1);
        assert!(running.is_running());
    }
    home.pool.sh("fsfreeze --unfreeze $TEMP/home");
    running.finish().expect_success();
    assert_eq!(home.markers(), 0);
    home.pool.lovol("show home@a").ok_any();
}
