//! Dirty tracking: while the guest is still frozen, the clone has every block of the image, though
//! only what the tracker has recorded was cloned in the freeze.
//!
//! 4 freezes of each guest here; `LOVOL_TRACKED=100` for the long run.  In the test's own process, as
//! nobody else can look before the thaw; the freeze has its guardian, which is a process of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use lovol::guest::Fs;
use lovol::image::NewImage;
use lovol::plan::{Observer, Step};
use lovol::snapshot::passes::Passes;
use lovol::snapshot::{Job, Limits, Source, Taking, choose};
use lovol::sys::extents::{self, Run};
use lovol::sys::freeze::{Deadline, while_frozen};
use lovol::sys::holders::writers_of_file;
use lovol::sys::loopdev::FileId;
use lovol::usage::Usage;

use crate::support::{Round, Running, TestPool, Trace, Writer, from_env, tally, wait_until};

/// Nobody listens, but tracking must not have been given up silently.
#[derive(Debug, Default)]
struct Details(std::cell::RefCell<Vec<String>>);

impl Observer for Details {
    fn begin(&self, _: &Step) {}
    fn warn(&self, _: &str) {}
    fn detail(&self, text: &str) {
        self.0.borrow_mut().push(text.to_owned());
    }
    fn progress(&self, _: &str, _: u64, _: u64) {}
}

impl Details {
    fn has(&self, text: &str) -> bool {
        self.0.borrow().iter().any(|line| line.contains(text))
    }
}

/// What there is while all is frozen.
struct Look {
    image: Vec<Run>,
    clone: Vec<Run>,
    /// Only what was recorded has been cloned in the freeze.
    is_tracked: bool,
}

impl Look {
    #[track_caller]
    fn must_be_the_same(&self) {
        let extents = self.image.len();
        assert!(extents > 300, "only {extents} extents");
        assert_eq!(differences(&self.image, &self.clone), Vec::<&Run>::new());
    }
}

const LIMITS: Limits = Limits {
    frozen: Duration::from_secs(30),
    wait: Duration::from_secs(10),
};

/// Whether the kernel lets anybody follow a loop device's requests.  Where it does not (user-mode
/// Linux has no perf), everything is cloned again in the freeze, and the clone is the image as well.
fn can_track() -> bool {
    lovol::sys::completions::Completions::start(0, 1).is_ok()
}

/// A volume with a few thousand extents, mounted, and fio at work in it: reads, writes, fsyncs, and
/// holes that become discards.
struct Bed {
    pool: TestPool,
    fs: Fs,
    fio: String,
}

impl Bed {
    fn new(fs: &str) -> Self {
        let pool = TestPool::new();
        let home = pool.dir("home");
        pool.lovol(&format!("create home 600M --fs {fs}")).ok_any();
        let options = if fs == "btrfs" {
            "discard=async"
        } else {
            "discard"
        };
        pool.lovol(&format!("mount -o {options} home"))
            .arg(&home)
            .ok("");
        let fio = format!(
            "cd {}; exec fio --output=/dev/null --directory=home --size=48M --bs=4k --time_based \
             --runtime=3600 --thread \
             --name=mixed --rw=randrw --fdatasync=16 --ioengine=psync \
             --name=direct --rw=randwrite --direct=1 --ioengine=libaio --iodepth=4 --rate_iops=3000 \
             --name=holes --rw=randtrim --ioengine=falloc --rate_iops=300",
            pool.temp().display()
        );
        Self {
            pool,
            fs: fs.to_owned().into(),
            fio,
        }
    }

    /// Returns when there are many extents.
    fn set_to_work(&self) -> Running {
        let fio = self.pool.start(&self.fio);
        let image = self.pool.image("home");
        wait_until("fio writes", Duration::from_secs(120), || {
            std::os::unix::fs::MetadataExt::blocks(&image.metadata().unwrap()) * 512 > 32 << 20
        });
        // What is written to blocks that a snapshot has is a new extent.
        self.pool.lovol("snapshot home@first").ok_any();
        wait_until("there are many extents", Duration::from_secs(120), || {
            extents::written(&File::open(&image).unwrap())
                .unwrap()
                .len()
                > 300
        });
        fio
    }

    /// One snapshot, as the command takes it: what there was at its instant.
    fn look_while_frozen(&self) -> Look {
        let image = File::open(self.pool.image("home")).unwrap();
        let dir = File::open(self.pool.path().join("snapshots")).unwrap();
        let clone = NewImage::in_dir(dir.as_fd(), "clone".into()).unwrap();
        let source = Source {
            name: "home".into(),
            file: &image,
            fs: &self.fs,
            sector: None,
            paths: ("home.img".into(), "clone".into()),
        };
        let way = choose(&source, &Usage::look().unwrap(), false).unwrap();
        let job = Job {
            source: &source,
            destination: &clone,
            way: &way,
        };
        let details = Details::default();
        let takings = [Taking::new(&job, &details).unwrap()];
        for _ in 0..3 {
            details.0.borrow_mut().clear();
            let mut passes = Passes::run(&takings, Duration::ZERO).unwrap();
            let was_begun = !details.has("cannot follow what is written");
            assert_eq!(was_begun, can_track(), "{details:?}");
            // However much fio writes.
            assert!(!details.has("pass 9:"), "{details:?}");
            let wards = [takings[0].ward().unwrap().unwrap()];
            let mut maps = None;
            let frozen = while_frozen(&wards, LIMITS, |deadline| {
                maps = Some(compare(&mut passes, deadline, &image, &clone.file)?);
                Ok(())
            });
            frozen.unwrap();
            // Otherwise a lovol would freeze again, and so do we.
            if !passes.distrust() {
                let (image, clone) = maps.unwrap();
                let is_tracked = passes.is_tracking();
                return Look {
                    image,
                    clone,
                    is_tracked,
                };
            }
        }
        panic!("the tracker has missed something three times");
    }
}

/// The maps of image and clone, once nothing changes: a discard that was on its way when the freeze
/// began may still come (of blocks that the guest has freed).
fn compare(
    passes: &mut Passes<'_, '_>,
    deadline: Deadline,
    image: &File,
    clone: &File,
) -> io::Result<(Vec<Run>, Vec<Run>)> {
    loop {
        let before = extents::written(image)?;
        passes
            .clone_now(Some(deadline))
            .map_err(|(_, error)| error)?;
        let of_clone = extents::written(clone)?;
        let of_image = extents::written(image)?;
        if before == of_image {
            return Ok((of_image, of_clone));
        }
    }
}

fn the_clone_is_the_image(fs: &str) {
    let count = from_env("LOVOL_TRACKED", 4);
    let bed = Bed::new(fs);
    let fio = bed.set_to_work();
    let mut tracked = 0;
    // On a busy machine the kernel loses a record now and then: then all is cloned, and rightly so.
    let most = if can_track() { 3 * count } else { count };
    for number in 0..most {
        let _round = Round::of(format!("{fs} {number}"));
        let tried = tally(&format!("tracked freezes, {fs} guest"), 1);
        let look = bed.look_while_frozen();
        look.must_be_the_same();
        if look.is_tracked {
            tried.survived();
            tracked += 1;
        } else {
            tried.never_was();
        }
        if tracked == count {
            break;
        }
    }
    assert_eq!(tracked, if can_track() { count } else { 0 });
    drop(fio);
}

/// What only one of them has.
fn differences<'r>(one: &'r [Run], other: &'r [Run]) -> Vec<&'r Run> {
    let [in_one, in_other] = [one, other].map(|runs| {
        runs.iter()
            .map(|run| (run.logical, run.physical, run.length))
            .collect::<std::collections::HashSet<_>>()
    });
    let key = |run: &&Run| (run.logical, run.physical, run.length);
    let only_one = one.iter().filter(|run| !in_other.contains(&key(run)));
    let only_other = other.iter().filter(|run| !in_one.contains(&key(run)));
    only_one.chain(only_other).collect()
}

#[test]
fn the_clone_is_the_image_xfs() {
    the_clone_is_the_image("xfs");
}

#[test]
fn the_clone_is_the_image_ext4() {
    the_clone_is_the_image("ext4");
}

#[test]
fn the_clone_is_the_image_btrfs() {
    the_clone_is_the_image("btrfs");
}

/// What is hidden is hidden from all: who counts on following something holds this.
static HIDING: Mutex<()> = Mutex::new(());

/// Somebody else has a program of BPF on the same tracepoint, which lets perf see none of its events.
#[test]
fn what_somebody_else_hides_is_cloned_all_the_same() {
    const HIDE: &str = r#"mkdir tracing; mount -t tracefs tracefs tracing; exec perl -e '
        $insns = pack("H*", "b700000000000000" . "9500000000000000"); # return 0
        $load = pack("L2PPL2QL2", 5, 2, $insns, ($license = "GPL\\0"), 0, 0, 0, 0, 0);
        $program = syscall(321, 5, $load, length $load); # BPF_PROG_LOAD
        open ID, "tracing/events/block/block_rq_complete/id";
        $attributes = pack("L2Q7", 2, 64, <ID> + 0, (0) x 6);
        $event = syscall(298, $attributes, -1, 0, -1, 0); # perf_event_open
        open EVENT, "+<&=", $event;
        ioctl(EVENT, 0x40042408, $program + 0) or die $!; # PERF_EVENT_IOC_SET_BPF
        open READY, ">hidden";
        sleep' "#;
    let _alone = HIDING.lock();
    let bed = Bed::new("xfs");
    let fio = bed.set_to_work();
    // Where nothing can be followed there is nothing to hide, and the clone is the image as well.
    let hidden = can_track().then(|| bed.pool.start(&format!("cd $TEMP; {HIDE}")));
    wait_until("it is hidden", Duration::from_secs(20), || {
        hidden.is_none() || bed.pool.temp().join("hidden").exists()
    });
    for _ in 0..3 {
        bed.look_while_frozen().must_be_the_same();
    }
    drop((hidden, fio));
}

/// A mounted volume of which so much was written in single blocks that to follow it is worth while,
/// and a writer in it.
fn fragmented(written: &str) -> (TestPool, Writer) {
    let pool = TestPool::new();
    let home = pool.mounted("home", "1G");
    let fio = "fio --output=/dev/null --name=data --directory=home --size=128M --fsync_on_close=1";
    pool.sh(&format!("{fio} --rw=write --bs=1M"));
    pool.lovol("snapshot home@first").ok_any();
    pool.sh(&format!("{fio} --rw=randwrite --bs=4k --io_size={written}"));
    let writer = Writer::start(home);
    (pool, writer)
}

/// The calls between the freeze and the thaw.
fn calls_while_frozen(trace: &Trace) -> Vec<String> {
    let lines = trace.lines().iter();
    let frozen = lines.skip_while(|line| !line.contains("FIFREEZE")).skip(1);
    frozen
        .take_while(|line| !line.contains("FITHAW"))
        // To ask for the time is a system call on user-mode Linux only.
        .filter(|line| !line.starts_with("clock_gettime("))
        .cloned()
        .collect()
}

/// The bytes that a clone call is about: `src_length=4096`.
fn cloned_bytes(call: &str) -> u64 {
    let length = call.split("src_length=").nth(1).unwrap();
    length.split(',').next().unwrap().parse().unwrap()
}

#[test]
fn in_the_freeze_only_what_was_written_is_cloned() {
    let _alone = HIDING.lock();
    let (pool, writer) = fragmented("64M");
    let log = pool.temp().join("strace");
    let mut totals = Vec::new();
    // On a busy machine the kernel loses a record now and then: then all is cloned, and rightly so.
    for number in 0..4 {
        let command = pool.lovol(&format!("snapshot home@{number}"));
        command.strace(&log, "").ok_any();
        let calls = calls_while_frozen(&Trace::read(&log));
        let (clones, others): (Vec<&String>, Vec<&String>) =
            calls.iter().partition(|call| call.contains("FICLONERANGE"));
        // Neither memory nor files nor words: only the device's statistics.
        let is_statistics =
            |call: &&String| call.starts_with("pread64(") && call.contains(", 512, 0) ");
        assert!(others.iter().all(is_statistics), "{others:?}");
        assert_eq!(others.is_empty(), !can_track());
        totals.push(clones.iter().map(|call| cloned_bytes(call)).sum::<u64>());
        if totals[number] < 32 << 20 {
            break;
        }
    }
    assert_eq!(
        totals.iter().min() < Some(&(32 << 20)),
        can_track(),
        "{totals:?}"
    );
    writer.stop();
}

#[test]
fn where_nothing_can_be_followed_everything_is_cloned_again() {
    let (pool, writer) = fragmented("64M");
    let log = pool.temp().join("strace");
    let finished = pool
        .lovol("snapshot -v home@a")
        .strace(&log, "-e inject=perf_event_open:error=EACCES")
        .finish();
    assert_eq!(finished.stdout, "home@a\n", "{finished}");
    assert!(
        finished
            .stderr
            .contains("home: cannot follow what is written"),
        "{finished}"
    );
    let calls = calls_while_frozen(&Trace::read(&log));
    assert!(
        calls.iter().all(|call| call.contains("FICLONERANGE")),
        "{calls:?}"
    );
    let bytes: u64 = calls.iter().map(|call| cloned_bytes(call)).sum();
    assert_eq!(bytes, 1 << 30);
    writer.stop();
}

/// The calls by which a device is followed, and what is done to one of them.
const FOLLOWING: &[(&str, &str, &str)] = &[
    ("fsopen", "tracefs", "error=ENODEV"),
    ("fsmount", "", "error=EPERM"),
    ("openat2", "block_rq_complete", "error=ENOENT"),
    ("inotify_init1", "", "error=EMFILE"),
    ("inotify_add_watch", "", "error=ENOSPC"),
    ("perf_event_open", "", "error=EMFILE"),
    ("perf_event_open", "", "signal=KILL"),
    ("mmap", "MAP_SHARED", "error=ENOMEM"),
];

/// In the words of strace: what is done to the first call of this name that has this text in `trace`.
fn aimed(trace: &Trace, (name, text, what): (&str, &str, &str)) -> Option<String> {
    let is_named = |line: &&String| line.starts_with(&format!("{name}("));
    let mut named = trace.lines().iter().filter(is_named);
    let before = named.position(|line| line.contains(text))?;
    Some(format!("-e inject={name}:{what}:when={}", before + 1))
}

#[test]
fn whatever_fails_while_it_is_followed_the_snapshot_is_right() {
    let (pool, writer) = fragmented("16M");
    let view = pool.dir("view");
    let log = pool.temp().join("strace");
    pool.lovol("snapshot home@whole").strace(&log, "").ok_any();
    let whole = Trace::read(&log);
    let home = pool.temp().join("home");
    // The only one that is there all the same: of the freeze's marker.
    let is_ours = |(name, _, _): &&(_, _, _)| can_track() || *name != "mmap";
    let following = FOLLOWING.iter().filter(is_ours);
    let following = following.map(|fault| aimed(&whole, *fault));
    // By their path, and all of them: how many calls come before depends on the time that cloning takes.
    let device = pool.loops()[0].device.replace("/dev/", "/sys/block/");
    let statistics = format!("-P {device}/stat -e inject=pread64:error=EIO:when=1+");
    // Followed until then.
    let frozen = [1, 2].map(|nth| {
        let path = home.display();
        format!("-P {path} -e inject=ioctl:signal=KILL:when={nth}")
    });
    let others = [statistics].into_iter().chain(frozen).map(Some);
    for (number, options) in following.chain(others).enumerate() {
        // Where nothing can be followed there is nothing more to fail.
        let Some(options) = options else {
            assert!(!can_track(), "{:?} is not there", FOLLOWING[number]);
            continue;
        };
        let durable = writer.count();
        let snapshot = format!("home@{number}");
        let taken = pool.lovol(&format!("snapshot {snapshot}"));
        let finished = taken.strace(&log, &options).finish();
        writer.must_go_on();
        if options.contains("KILL") {
            assert_eq!(finished.signal(), Some(9), "{options}: {finished}");
            pool.lovol("check --repair").ok("");
            pool.lovol(&format!("show {snapshot}"))
                .fails(1, "no snapshot");
            continue;
        }
        assert!(Trace::read(&log).injected() > 0, "{options}: {finished}");
        assert_eq!(
            finished.stdout,
            format!("{snapshot}\n"),
            "{options}: {finished}"
        );
        pool.lovol(&format!("mount {snapshot}")).arg(&view).ok("");
        let newest = pool.sh(
            "od -A n -t u8 -w4096 $TEMP/view/writer | awk '$1 > n { n = $1 } END { print n + 1 }'",
        );
        assert!(
            newest.trim().parse::<u64>().unwrap() >= durable,
            "{options}"
        );
        pool.lovol("umount").arg(&view).ok("");
    }
    pool.lovol("check").ok("");
    writer.stop();
}

#[test]
fn a_mapping_of_another_file_with_the_same_number_is_no_writer() {
    let (pool, other) = (TestPool::new(), TestPool::raw());
    pool.lovol("create home 16M --fs ext4").ok_any();
    let id = FileId::of(&File::open(pool.image("home")).unwrap()).unwrap();
    // One of the first files of an empty filesystem has the number.
    other.sh("for file in {1..500}; do echo >$POOL/$file; done");
    let twin = other.sh(&format!("find $POOL -inum {}", id.inode));
    let id_of_twin = FileId::of(&File::open(&twin).unwrap()).unwrap();
    assert_eq!(id_of_twin.inode, id.inode);
    let mapped = other.start(&format!(
        "exec python3 -c \"
import mmap, time
with open('{twin}', 'r+b') as file:
    mapped = mmap.mmap(file.fileno(), 1)
time.sleep(600)\""
    ));
    wait_until("it is mapped", Duration::from_secs(20), || {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", mapped.pid()));
        maps.unwrap().contains(&twin)
    });
    assert_eq!(writers_of_file(id_of_twin).len(), 1);
    assert_eq!(writers_of_file(id), Vec::<String>::new());
    drop(mapped);
}

#[test]
fn a_second_writer_of_the_image_is_not_overlooked() {
    let (pool, writer) = fragmented("64M");
    // It counts where nobody else writes, and notes when it has written what.
    let second = pool.start(
        "exec python3 -c \"
import os, time
image = os.open('$POOL/volumes/home.img', os.O_WRONLY)
log = open('$TEMP/written', 'w')
for number in range(10**9):
    os.pwrite(image, number.to_bytes(8, 'little'), 700 << 20)
    print(time.time_ns() // 1000, number, file=log, flush=True)\"",
    );
    wait_until("it counts", Duration::from_secs(20), || {
        std::fs::read(pool.temp().join("written")).is_ok_and(|log| !log.is_empty())
    });
    let finished = pool.lovol("snapshot -v home@a").finish();
    assert_eq!(finished.stdout, "home@a\n", "{finished}");
    let is_seen = ["another program writes", "somebody else may have written"]
        .iter()
        .any(|words| finished.stderr.contains(words));
    assert!(is_seen || !can_track(), "{finished}");
    drop(second);
    writer.stop();
    // At the instant it had written this, or more.
    let at =
        pool.sh("date -d $(lovol list -a -J | jq -r '.volumes[0].snapshots[-1].created') +%s%6N");
    let least = pool.sh(&format!(
        "awk '$1 < {at} {{ last = $2 }} END {{ print last }}' $TEMP/written"
    ));
    let cloned = pool.sh("od -A n -t u8 -j $((700 << 20)) -N 8 $POOL/snapshots/home/a.img");
    let number = |text: String| text.trim().parse::<u64>().unwrap();
    assert!(number(cloned) >= number(least));
}
