//! The pool's disk fails while guests are being written to, before a verb or in the middle of it: the
//! verb fails and says of what, or has done its work; nothing is frozen, nothing hangs.  Once the
//! disk works again, the pool is mounted again, and `check --repair` at most makes it clean, what was
//! there before is untouched, and what failed is whole or absent.
//!
//! For each verb the disk takes no more writes, or nothing at all any more; before it, and at one
//! random moment of it: `LOVOL_MOMENTS=20` for the long run, `LOVOL_SEED=7` for other ones.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::mapper::{Mapped, unmount};
use crate::support::{Finished, Numbers, Round, TestPool, Writer, from_env, tally};

/// No verb takes as long as this, whatever the disk does.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How the disk fails.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// It takes no more writes, but can be read.
    Writes,
    /// It does nothing at all any more.
    Everything,
}

impl Failure {
    /// dm-flakey: up for no second, down for one, and so on.
    fn target(self, under: &str) -> String {
        match self {
            Self::Writes => format!("flakey {under} 0 0 1 1 error_writes"),
            Self::Everything => format!("flakey {under} 0 0 1"),
        }
    }
}

/// A verb that changes something; `{}` is the number of the round.
struct Verb {
    prepare: &'static [&'static str],
    words: &'static str,
    /// What it makes, and what is gone when it is done.
    makes: &'static [&'static str],
    removes: &'static [&'static str],
}

type Names = BTreeSet<String>;

/// A pool on a disk that can be made to fail, with volumes that are in use.
struct Bed {
    disk: Mapped,
    under: PathBuf,
    pool: TestPool,
    kept: String,
}

impl Bed {
    #[track_caller]
    fn new() -> Self {
        let pool = TestPool::unmounted(4 << 30);
        let under = PathBuf::from(pool.sh("losetup -f --show --direct-io=on $TEMP/pool.xfs"));
        let disk = Mapped::new(&under, &format!("linear {} 0", under.display()));
        let mut bed = Self {
            disk,
            under,
            pool,
            kept: String::new(),
        };
        bed.mount_pool();
        bed.pool.lovol("init").ok_any();
        for name in ["home", "other"] {
            bed.pool.mounted(name, "40M --fs ext4");
            bed.pool.sh(&format!("echo precious > $TEMP/{name}/letter"));
            bed.pool.lovol(&format!("snapshot {name}@keep")).ok_any();
        }
        bed.kept = bed.sums();
        bed
    }

    #[track_caller]
    fn mount_pool(&self) {
        let device = self.disk.path();
        self.pool.sh(&format!(
            "mount {} $POOL; chmod 755 $POOL",
            device.display()
        ));
    }

    #[track_caller]
    fn sums(&self) -> String {
        self.pool
            .sh("sha256sum $POOL/snapshots/home/keep.img $POOL/snapshots/other/keep.img")
    }

    #[track_caller]
    fn names(&self) -> Names {
        let list = self
            .pool
            .lovol("list -a --raw --no-header -o name")
            .ok_any();
        list.lines().map(str::to_owned).collect()
    }

    fn fail(&self, failure: Failure) {
        let target = failure.target(&self.under.to_string_lossy());
        self.disk.turn_into(&self.under, &target);
    }

    /// The disk works again, and the pool and its guests are mounted again.
    #[track_caller]
    fn heal(&self) {
        self.disk
            .turn_into(&self.under, &format!("linear {} 0", self.under.display()));
        self.pool.sh("umount $TEMP/home $TEMP/other $POOL");
        self.mount_pool();
        self.pool.lovol("check --repair").ok("");
        self.pool.lovol("check").ok("");
        assert_eq!(self.sums(), self.kept, "a snapshot has changed");
        for name in ["home", "other"] {
            let dir = self.pool.dir(name);
            self.pool.lovol("mount").arg(name).arg(dir).ok("");
            self.pool
                .sh(&format!("grep -qx precious $TEMP/{name}/letter"));
        }
    }

    /// A thaw finds nothing to thaw.
    #[track_caller]
    fn nothing_is_frozen(&self) {
        for dir in ["home", "other"] {
            let thawed = format!("! fsfreeze --unfreeze $TEMP/{dir} 2>&1");
            let said = self.pool.sh(&thawed);
            assert!(said.ends_with("Invalid argument"), "{dir}: {said}");
        }
    }

    /// The verb, with the disk failing `after` so long, or before it.
    #[track_caller]
    fn run(&self, words: &str, failure: Failure, after: Option<Duration>) -> Finished {
        if after.is_none() {
            self.fail(failure);
        }
        let running = self.pool.lovol(words).start();
        if let Some(after) = after {
            thread::sleep(after);
            self.fail(failure);
        }
        running.finish_within(TOO_LONG)
    }

    #[track_caller]
    fn round(&self, verb: &Verb, round: u64, failure: Failure, after: Option<Duration>) {
        let tried = tally(&format!("{} on a failing disk", verb.words), 1);
        let numbered = |words: &&str| words.replace("{}", &round.to_string());
        for words in verb.prepare.iter().map(numbered) {
            self.pool.lovol(&words).ok_any();
        }
        let before = self.names();
        let mut done = before.clone();
        done.extend(verb.makes.iter().map(numbered));
        for name in verb.removes.iter().map(numbered) {
            done.remove(&name);
        }
        let attached = self.pool.loops().len();
        let writer = Writer::start(self.pool.dir("home"));

        let finished = self.run(&numbered(&verb.words), failure, after);

        let _round = Round::of(format!("{failure:?} {after:?} {finished}"));
        self.nothing_is_frozen();
        let error = writer.failure();
        assert!(
            [Some(libc::EIO), Some(libc::EROFS)].contains(&error.raw_os_error()),
            "{error}"
        );
        assert_eq!(self.pool.loops().len(), attached, "{:?}", self.pool.loops());
        self.heal();
        let found = self.names();
        if finished.code() == Some(0) {
            assert_eq!(found, done);
        } else {
            must_be_an_explained_error(&finished);
            assert!(found == before || found == done, "{found:#?}");
        }
        tried.survived();
    }
}

/// It names what it could not do, and on what.
#[track_caller]
fn must_be_an_explained_error(finished: &Finished) {
    assert!(matches!(finished.code(), Some(1 | 4)), "{finished}");
    let error = finished
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "));
    let causes = [
        "I/O error",
        "Input/output error",
        "its filesystem could not write everything back",
    ];
    let is_explained = |line: &str| causes.iter().any(|cause| line.contains(cause));
    assert!(error.is_some_and(is_explained), "{finished}");
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Whatever is mounted must go before the disk does, and goes only if that works.
        let linear = format!("linear {} 0", self.under.display());
        self.disk.turn_into(&self.under, &linear);
        unmount(&self.pool, &["home", "other", "pool"]);
    }
}

fn survives_a_failing_disk(verb: &Verb) {
    let bed = Bed::new();
    let mut numbers = Numbers(from_env("LOVOL_SEED", 1));
    let mut round = 0;
    for failure in [Failure::Writes, Failure::Everything] {
        bed.round(verb, round, failure, None);
        round += 1;
        for _ in 0..from_env("LOVOL_MOMENTS", 2) {
            let after = Duration::from_millis(numbers.below(300));
            bed.round(verb, round, failure, Some(after));
            round += 1;
        }
    }
}

const IDLE: &[&str] = &["create idle{} 1M --fs none", "snapshot idle{}@s"];

/// One test for each verb.
macro_rules! survives_a_failing_disk {
    ($($name:ident: $verb:expr;)*) => {
        $(#[test] fn $name() { survives_a_failing_disk(&$verb); })*
    };
}

survives_a_failing_disk! {
    snapshot: Verb {
        prepare: &[],
        words: "snapshot home@s{}",
        makes: &["home@s{}"],
        removes: &[],
    };
    group_snapshot: Verb {
        prepare: &[],
        words: "snapshot home@s{} other@s{}",
        makes: &["home@s{}", "other@s{}"],
        removes: &[],
    };
    create: Verb {
        prepare: &[],
        words: "create v{} 20M --fs ext4",
        makes: &["v{}"],
        removes: &[],
    };
    clone: Verb {
        prepare: &[],
        words: "clone home@keep c{}",
        makes: &["c{}"],
        removes: &[],
    };
    rename: Verb {
        prepare: IDLE,
        words: "rename idle{} moved{}",
        makes: &["moved{}", "moved{}@s"],
        removes: &["idle{}", "idle{}@s"],
    };
    delete: Verb {
        prepare: IDLE,
        words: "delete -r idle{}",
        makes: &[],
        removes: &["idle{}", "idle{}@s"],
    };
}
