//! `lovol du`, `lovol df`, and the columns of `lovol list` that say what images cost: exact to the
//! block, held against what deleting really frees.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Numbers, Scratch, TestPool, ensure_unchanged, from_env, lovol, sh, tally, wait_until,
};

const BLOCK: u64 = 4096;
/// A part of the volume, so that what is written is written again.
const BLOCKS: u64 = (4 << 20) / BLOCK;

/// Writes some runs of blocks to a volume's image, as somebody's database would.
fn scribble(pool: &TestPool, volume: &str, numbers: &mut Numbers) {
    let file = File::options()
        .write(true)
        .open(pool.image(volume))
        .unwrap();
    for _ in 0..=numbers.below(60) {
        let length = 1 + numbers.below(16);
        let start = numbers.below(BLOCKS - length);
        let data = vec![
            u8::try_from(numbers.below(256)).unwrap();
            usize::try_from(length * BLOCK).unwrap()
        ];
        file.write_all_at(&data, start * BLOCK).unwrap();
    }
    file.sync_all().unwrap();
}

/// What is free, once all that was deleted is: XFS frees an inode's blocks a moment later, and waits for
/// that when it is to free what was allocated beyond the end of files (fs/xfs/xfs_icache.c,
/// `xfs_blockgc_free_space`).
fn free(pool: &TestPool) -> u64 {
    pool.sh(
        "sync --file-system $POOL; xfs_spaceman -c 'prealloc -s' $POOL; sync --file-system $POOL",
    );
    let stat = rustix::fs::statvfs(pool.path()).unwrap();
    stat.f_bfree * stat.f_frsize
}

/// The rows of `du` by their names.
fn du(pool: &TestPool, words: &str) -> BTreeMap<String, Value> {
    let json = pool.lovol(&format!("du -J {words}")).json();
    let rows = json["usage"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone()))
        .collect()
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap()
}

/// All names of volumes and snapshots.
fn names(pool: &TestPool) -> Vec<String> {
    let listed = pool.lovol("list -a -o name --raw --no-header").ok_any();
    listed.lines().map(str::to_owned).collect()
}

/// Writes, snapshots, clones and deletions in some order; then some images are deleted, and what
/// becomes free is what was said.
fn history(seed: u64) {
    let pool = TestPool::new();
    let mut numbers = Numbers(seed);
    pool.lovol("create v0 64M --fs none").ok_any();
    scribble(&pool, "v0", &mut numbers);
    let (mut volumes, mut snapshots) = (1, 0);
    for _ in 0..20 {
        let volume = format!("v{}", numbers.below(volumes));
        match numbers.below(10) {
            0..=4 => scribble(&pool, &volume, &mut numbers),
            5..=7 => {
                pool.lovol(&format!("snapshot {volume}@s{snapshots}"))
                    .ok_any();
                snapshots += 1;
            }
            8 => {
                pool.lovol(&format!("clone {volume} v{volumes}")).ok_any();
                volumes += 1;
            }
            _ => {
                let all = names(&pool);
                let mut old = all.iter().filter(|name| name.contains('@'));
                if let Some(old) = old.next() {
                    pool.lovol(&format!("delete {old}")).ok("");
                }
            }
        }
    }
    // One, two, three of them at once, until all snapshots are gone.
    loop {
        let mut left: Vec<String> = names(&pool)
            .into_iter()
            .filter(|name| name.contains('@'))
            .collect();
        if left.is_empty() {
            break;
        }
        let count = 1 + numbers.below(3).min(u64::try_from(left.len()).unwrap() - 1);
        let mut chosen = Vec::new();
        for _ in 0..count {
            let number = numbers.below(u64::try_from(left.len()).unwrap());
            chosen.push(left.swap_remove(usize::try_from(number).unwrap()));
        }
        let targets = chosen.join(" ");
        // With what is known from the last time, and from nothing.
        let rows = du(&pool, &targets);
        assert_eq!(du(&pool, &targets), rows, "seed {seed}");
        pool.sh("rm $POOL/shares");
        assert_eq!(du(&pool, &targets), rows, "seed {seed}");
        let row = rows.get("(together)").unwrap_or_else(|| &rows[&chosen[0]]);
        let before = free(&pool);
        pool.lovol(&format!("delete {targets}")).ok("");
        let freed = free(&pool) - before;
        let said = number(row, "exclusive");
        // An inode is freed with 63 others of its chunk, if they are free: 32 KiB.
        let chunk = 32 << 10;
        assert!(
            freed == said || freed == said + chunk,
            "seed {seed}: deleting {targets} freed {freed}, said {said}: {rows:?}"
        );
        assert_eq!(
            number(row, "allocated"),
            said + number(row, "shared") + number(row, "foreign"),
        );
    }
}

#[test]
fn what_is_said_to_be_free_is_free_when_it_is_deleted() {
    let first = from_env("LOVOL_SEED", 1) * 1000;
    for seed in first..first + from_env("LOVOL_HISTORIES", 6) {
        let tried = tally("what is said to come free, random histories", 1);
        history(seed);
        tried.survived();
    }
}

#[test]
fn rows_are_for_volumes_images_ranges_and_all_together() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs none").ok_any();
    let mut numbers = Numbers(7);
    for name in ["a", "b", "c"] {
        scribble(&pool, "home", &mut numbers);
        pool.lovol(&format!("snapshot home@{name}")).ok_any();
    }
    pool.sh("lovol create gone 64M --fs none; dd if=/dev/zero of=$POOL/volumes/gone.img bs=1M count=3 conv=notrunc status=none; lovol delete gone");
    let rows = du(&pool, "");
    assert_eq!(rows.keys().collect::<Vec<_>>(), ["(trash)", "home"]);
    assert_eq!(number(&rows["(trash)"], "exclusive"), 3 << 20);
    // All of a volume is nobody else's.
    assert_eq!(number(&rows["home"], "shared"), 0);
    let all = du(&pool, "-a");
    assert_eq!(all.len(), 5, "{all:?}");
    // What two have alone shows when both are asked for.
    let range = du(&pool, "home@a%b");
    let alone = number(&all["home@a"], "exclusive") + number(&all["home@b"], "exclusive");
    assert!(
        number(&range["home@a%b"], "exclusive") > alone,
        "{range:?} {all:?}"
    );
    let both = du(&pool, "home@a home@b");
    assert_eq!(
        both["(together)"]["exclusive"],
        range["home@a%b"]["exclusive"]
    );
    // A file that lovol does not know: what names the extents is still the snapshot's own.
    pool.sh("cp --reflink=always $POOL/snapshots/home/a.img $POOL/stray");
    let now = du(&pool, "home@a");
    assert!(
        pool.path().join("shares").exists(),
        "it was not asked again"
    );
    let (foreign, own) = (
        number(&now["home@a"], "foreign"),
        number(&now["home@a"], "exclusive"),
    );
    assert_eq!(foreign + own, number(&all["home@a"], "exclusive"));
    assert!(own <= 4 * BLOCK && foreign > 0, "{now:?}");
    pool.sh("rm $POOL/stray");
    let table = pool.lovol("du home@a%c --raw --no-header").ok_any();
    assert!(table.starts_with("home@a%c 192M "), "{table}");
    pool.lovol("du home@none")
        .fails(1, "no snapshot named home@none");
}

#[test]
fn list_shows_what_was_written_and_what_would_be_free() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs none").ok_any();
    pool.sh("xfs_io -c 'extsize 0' -c 'cowextsize 4096' $POOL/volumes/home.img");
    let write = |at: u64, blocks: u64| {
        let file = File::options()
            .write(true)
            .open(pool.image("home"))
            .unwrap();
        let data = vec![1; usize::try_from(blocks * BLOCK).unwrap()];
        file.write_all_at(&data, at * BLOCK).unwrap();
        file.sync_all().unwrap();
    };
    write(0, 100);
    pool.lovol("snapshot home@a").ok_any();
    write(0, 10);
    pool.lovol("snapshot home@b").ok_any();
    write(50, 30);
    let listed = pool
        .lovol("list -a -b --raw --no-header -o name,refer,excl,written")
        .ok_any();
    let of = |blocks: u64| blocks * BLOCK;
    // A block more names the extents of what has many.
    assert_eq!(
        listed,
        format!(
            "home {} {} {}\nhome@a {} {} {}\nhome@b {} {} {}\n",
            of(100),
            of(30),
            of(30),
            of(100),
            of(10 + 1),
            of(100),
            of(100),
            of(1),
            of(10),
        )
    );
    let json = pool.lovol("list -a -J -o written").json();
    assert_eq!(json["volumes"][0]["snapshots"][1]["written"], of(10));
}

#[test]
fn df_tells_what_is_promised_and_plans_what_to_delete() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs none").ok_any();
    let mut numbers = Numbers(9);
    for day in 1..=6 {
        scribble(&pool, "home", &mut numbers);
        pool.lovol(&format!("snapshot home@2026010{day}T120000Z"))
            .ok_any();
    }
    let df = pool.lovol("df -J").json()["pools"][0].clone();
    let home = du(&pool, "home")["home"].clone();
    assert_eq!(df["promised"], 64 << 20);
    assert_eq!(
        number(&df, "claimable"),
        (64 << 20) - number(&home, "exclusive")
    );
    let all = du(&pool, "")["home"].clone();
    assert_eq!(df["allocated"], all["allocated"]);
    let shown = pool.lovol("df").ok_any();
    assert!(
        shown.contains("promised:    64M (0.01 times the size)"),
        "{shown}"
    );
    assert!(!shown.contains("beneath"), "{shown}");

    // What is held does not go, nor does the newest; and what is planned is what comes free.
    pool.lovol("hold home@20260101T120000Z").ok("");
    let planned = pool.lovol("df --plan-free 200K -J").json()["plan"][0].clone();
    let chosen: Vec<&str> = planned["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert!(
        !chosen.is_empty() && !chosen.contains(&"home@20260101T120000Z"),
        "{planned}"
    );
    assert!(!chosen.contains(&"home@20260106T120000Z"), "{planned}");
    let before = free(&pool);
    pool.lovol(&format!("delete {}", chosen.join(" "))).ok("");
    let freed = free(&pool) - before;
    assert!(freed >= 200 << 10, "{freed}");
    assert_eq!(number(&planned, "freed"), freed);
    let said = pool.lovol("df --plan-free 1T").fails(1, "cannot free 1T");
    assert!(said.contains(": home@"), "{said}");
}

#[test]
fn snapshots_of_one_instant_are_planned_together() {
    let pool = TestPool::new();
    for name in ["a", "b"] {
        pool.mounted(name, "64M --fs ext4");
    }
    pool.sh("head -c 8M /dev/urandom > $TEMP/a/file; sync");
    pool.lovol("snapshot a@both b@both").ok_any();
    pool.sh("rm $TEMP/a/file; sync; fstrim $TEMP/a");
    pool.lovol("snapshot a@last b@last").ok_any();

    let planned = || pool.lovol("df --plan-free 6M").ok_any();
    assert_eq!(planned(), "a@both\nb@both\n");
    // Where one of them must stay, none goes.
    pool.lovol("hold b@both").ok("");
    pool.lovol("df --plan-free 6M").fails(1, "cannot free 6M");
}

#[test]
fn what_is_promised_is_there() {
    let pool = TestPool::sized(1 << 30);
    pool.lovol("set overcommit=none").ok("");
    pool.lovol("create a 300M --fs ext4").ok_any();
    let said = ensure_unchanged(&pool, || {
        pool.lovol("create b 2G --fs ext4")
            .fails(1, "volumes could come to take")
    });
    assert!(said.contains("is free"), "{said}");
    let a = pool.dir("a");
    pool.lovol("mount a").arg(&a).ok_any();
    pool.sh("head -c 200M /dev/urandom > a/file; sync; lovol snapshot a@one");
    // A second snapshot would keep what is written until then, and there is no room for that.
    pool.sh("head -c 200M /dev/urandom > a/file; sync");
    let taken = (0..8).take_while(|number| {
        let taken = pool.lovol(&format!("snapshot a@s{number}")).finish();
        if !taken.status.success() {
            assert!(
                taken.stderr.contains("volumes could come to take"),
                "{taken}"
            );
        }
        pool.sh("head -c 200M /dev/urandom > a/file; sync");
        taken.status.success()
    });
    assert!(taken.count() < 8, "each snapshot was allowed");
    // The guest can be filled to its last block, and again: nothing of it fails but by its own size.
    for _ in 0..2 {
        pool.sh("dd if=/dev/urandom of=a/all bs=1M status=none 2>said || grep -q 'No space left' said; sync a/all; rm a/all; sync");
    }
    pool.lovol("check").ok("");
    // Whatever may come to take more is refused, and changes nothing.
    pool.sh("truncate -s 2G other.img; mkfs.ext4 -q other.img
        echo 'lovol:new /nowhere lovol x-lovol.size=2G' > fstab");
    ensure_unchanged(&pool, || {
        for words in [
            "resize a +2G",
            "clone a@one b",
            "clone a b",
            "create b --from ./other.img --copy",
            "provision ./fstab",
        ] {
            let said = pool.lovol(words).fails(1, "volumes could come to take");
            assert!(said.contains("hint: "), "{words}: {said}");
        }
    });

    pool.lovol("set overcommit=2").ok("");
    pool.lovol("create c 1G --fs ext4").ok_any();
    pool.lovol("create d 2G --fs ext4")
        .fails(1, "more than 2 times the pool's");
    pool.lovol("set overcommit=any reserve=100%").ok("");
    pool.lovol("snapshot a@late")
        .fails(1, "of it is its reserve");
    pool.lovol("set reserve=").ok("");
    pool.lovol("snapshot a@late").ok_any();
}

#[test]
fn what_lies_beneath_a_pool_and_in_its_trash_is_told() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("pool");
    lovol("init --loop 1G --sparse").arg(&dir).ok_any();
    let at = |words: &str| lovol(words).env("LOVOL_POOL", &dir);
    at("create home 64M --fs ext4").ok_any();
    let df = || at("df -J").json()["pools"][0].clone();
    let (before, beneath) = (df(), number(&df(), "beneath"));
    assert_eq!(number(&before, "trash"), 0);
    let free = sh(&format!("stat -f -c '%a %S' {}", scratch.path().display()));
    let free: u64 = free
        .split(' ')
        .map(|word| word.parse::<u64>().unwrap())
        .product();
    assert!(beneath.abs_diff(free) < 1 << 30, "{beneath} {free}");

    at("delete home").ok("");
    let after = df();
    assert!(number(&after, "trash") > 1 << 20, "{after}");
    at("purge -y home").ok("");
    assert_eq!(number(&df(), "trash"), 0);
    sh(&format!("umount {}", dir.display()));
}

#[test]
fn a_watch_that_only_shows_changes_nothing() {
    let pool = TestPool::new();
    pool.mounted("home", "64M --fs ext4");
    pool.sh(
        "printf '#!/bin/sh\\necho called >%s/called\\n' $TEMP >command; chmod 755 command
        lovol set low=100% command=$TEMP/command; lovol set home keep=1h
        lovol snapshot home@20260101T000000Z; lovol snapshot home@20260101T100000Z",
    );
    ensure_unchanged(&pool, || {
        let shown = pool.lovol("watch -n").ok_any();
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].ends_with(" are free: low"), "{shown}");
        assert!(lines[1].starts_with("would run ") && lines[1].contains("/command low "));
        assert_eq!(
            lines[2..],
            [
                "would trim home",
                "would delete home@20260101T000000Z if there is not enough then"
            ]
        );
        let plan = &pool.lovol("watch -n -J").json()["plan"][0];
        assert_eq!(plan["level"], "low");
        assert_eq!(plan["steps"][1], "would trim home");
    });
    assert_eq!(pool.sh("ls -A | grep called || true"), "");
}

#[test]
fn the_same_room_is_not_promised_twice() {
    let pool = TestPool::sized(1 << 30);
    pool.lovol("set overcommit=none").ok("");
    // Two of them have room.
    let create = |number: u32| {
        let create = pool.lovol(&format!("create v{number} 400M --fs ext4"));
        create.start()
    };
    let all: Vec<_> = (0..5).map(create).collect();
    let made = all.into_iter().map(|create| create.finish());
    assert_eq!(made.filter(|create| create.code() == Some(0)).count(), 2);
    // What is left, and no more than is there.
    pool.sh("lovol delete -y --now $(lovol list --no-header -o name)");
    pool.lovol("create home 300M --fs ext4").ok_any();
    pool.lovol("resize home max").ok_any();
    let size = pool.image("home").metadata().unwrap().len();
    ensure_unchanged(&pool, || {
        pool.lovol("resize home +2M")
            .fails(1, "volumes could come to take")
    });
    assert!(size > 600 << 20 && size < 1 << 30, "{size}");
    // What was deleted has its room already: it comes back, and whatever the reserve is.
    pool.sh("head -c 600M /dev/zero | tr '\\0' x | dd of=$POOL/volumes/home.img conv=notrunc bs=1M status=none");
    pool.lovol("delete home").ok("");
    pool.lovol("set reserve=100%").ok("");
    pool.lovol("undelete home").ok("home\n");
}

#[test]
fn what_is_claimed_is_not_there_until_its_lovol_is_done_or_dead() {
    let pool = TestPool::sized(1 << 30);
    pool.lovol("set overcommit=none").ok("");
    let claim = pool.sh("echo /run/lovol/claim-$(jq -r .pool $POOL/index.json)-1-0");
    pool.sh("mkdir -p -m 700 /run/lovol");
    std::fs::write(&claim, (800 << 20).to_string()).unwrap();
    let held = File::open(&claim).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    ensure_unchanged(&pool, || {
        pool.lovol("create a 400M --fs none")
            .fails(1, "volumes could come to take")
    });
    // Nobody holds it any more.
    drop(held);
    pool.lovol("create a 400M --fs none").ok_any();
    assert!(!Path::new(&claim).exists());
}

#[test]
fn a_pool_that_is_watched_does_not_run_full() {
    let pool = TestPool::sized(1 << 30);
    pool.mounted("home", "4G --fs ext4");
    pool.sh("printf '#!/bin/sh\\necho \"$1\" >>%s/levels\\n' $TEMP >command; chmod 755 command");
    pool.sh("lovol set warn=45% low=32% command=$TEMP/command; lovol set home keep=1h");
    let mut watch = pool.lovol("watch --interval 1").start();
    // Some times as much as the pool has room for is written, snapshot and deleted.
    for round in 0..12 {
        pool.sh(&format!(
            "head -c 120M /dev/urandom > home/file; sync home/file
             lovol snapshot home@2026010{}T{:02}0000Z
             rm home/file; sync",
            1 + round / 10,
            round
        ));
        wait_until("there is room", Duration::from_secs(60), || {
            pool.free_bytes() > 250 << 20
        });
    }
    pool.sh("echo alive > home/file; sync home/file");
    let levels = pool.sh("sort -u levels | xargs");
    assert!(levels.contains("low"), "{levels}");
    watch.signal(Signal::SIGTERM);
    let done = watch.finish();
    assert!(done.stdout.contains("trimmed home: "), "{done}");
    assert!(
        done.stdout.contains("deleted home@20260101T000000Z"),
        "{done}"
    );
    assert!(done.stderr.contains("free: low"), "{done}");
    pool.lovol("set low=1%").ok("");
    pool.lovol("watch --once").ok("");
    pool.lovol("check").ok("");
}

/// A guest that got "no space" from the pool is named, and the steps that are named help.
#[track_caller]
fn a_guest_without_room_is_found_and_recovers(fs: &str) {
    let pool = TestPool::sized(400 << 20);
    let home = pool.mounted("home", &format!("1G --fs {fs}"));
    pool.sh("echo precious > home/letter; sync; lovol snapshot home@a");
    pool.sh(
        "dd if=/dev/zero of=$POOL/trash/fill bs=1M status=none || true
         dd if=/dev/zero of=$POOL/trash/fill bs=4K oflag=append conv=notrunc status=none || true
         # What is allocated beside a block that is overwritten is used up first.
         number=0
         while mkdir home/dir$number 2>/dev/null && [ $number -lt 500 ]; do
             dd if=/dev/urandom of=home/$((number % 20)) bs=1M count=4 conv=fsync status=none 2>/dev/null || true
             sync home 2>/dev/null || true
             number=$((number + 1))
         done",
    );
    let found = pool.lovol("check").finish();
    assert!(found.stdout.contains("given up ("), "{found}");
    let hint = format!(
        "'lovol umount home'; 'lovol mount home {} -o fsck'",
        home.display()
    );
    assert!(found.stdout.contains(&hint), "{found}");
    pool.sh("rm $POOL/trash/fill");
    // What is on the disk is not all that was written.
    ensure_unchanged(&pool, || {
        let said = pool.lovol("snapshot home@b").fails(1, "");
        assert!(said.contains("'lovol check'"), "{said}");
    });
    // By its directory, which may not even be looked at.
    pool.lovol("umount").arg(&home).ok("");
    pool.lovol("mount home -o fsck").arg(&home).ok("");
    pool.sh("grep -x precious home/letter; echo more > home/more; sync home/more");
    pool.lovol("check").ok("");
}

#[test]
fn an_xfs_without_room_is_found_and_recovers() {
    a_guest_without_room_is_found_and_recovers("xfs");
}

#[test]
fn an_ext4_without_room_is_found_and_recovers() {
    a_guest_without_room_is_found_and_recovers("ext4");
}

#[test]
fn a_btrfs_without_room_is_found_and_recovers() {
    a_guest_without_room_is_found_and_recovers("btrfs");
}
