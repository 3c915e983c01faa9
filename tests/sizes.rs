//! `lovol resize` and `lovol trim`.

use crate::support::{TestPool, Writer, ensure_unchanged};

/// What `df` says of a mounted volume, in MiB.
fn mounted_mib(pool: &TestPool, dir: &str) -> u64 {
    let size = pool.sh(&format!("df -m --output=size {dir} | tail -1"));
    size.trim().parse().unwrap()
}

/// The sizes of image, device, record, and what is noted as unfinished.
fn sizes(pool: &TestPool, volume: &str) -> (u64, u64, String) {
    let image = pool.image(volume).metadata().unwrap().len() >> 20;
    let shown = pool.lovol(&format!("show {volume} -J")).json()["volumes"][0].clone();
    let record = shown["size"].as_u64().unwrap() >> 20;
    (image, record, shown["properties"]["resizing"].to_string())
}

/// A container's root may lack it.
fn may_grow_mounted_ext4() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let effective = crate::support::sh("sed -n 's/^CapEff:\t//p' /proc/self/status");
    u64::from_str_radix(&effective, 16).unwrap() & CAP_SYS_RESOURCE != 0
}

#[track_caller]
fn grows(fs: &str, from: u64, to: u64) {
    let pool = TestPool::new();
    let dir = pool.mounted("home", &format!("{from}M --fs {fs}"));
    ensure_unchanged(&pool, || {
        pool.lovol(&format!("resize home {to}M -n")).ok(&format!(
            "would make volumes/home.img {to}M large\n\
             would make the {fs} in volumes/home.img {to}M large\n"
        ));
    });
    if fs == "ext4" && !may_grow_mounted_ext4() {
        pool.lovol(&format!("resize home {to}M"))
            .fails(1, "the kernel asks for CAP_SYS_RESOURCE");
        assert_eq!(sizes(&pool, "home"), (from, from, "null".into()));
        pool.sh(&format!("umount home; lovol resize home {to}M"));
    } else {
        // Mounted, and written to.
        let writer = Writer::start(&dir);
        pool.lovol(&format!("resize home {to}M"))
            .ok(&format!("home has {to}M now\n"));
        assert!(mounted_mib(&pool, "home") > u64::midpoint(from, to));
        drop(writer);
        pool.sh("umount home");
    }
    assert_eq!(sizes(&pool, "home"), (to, to, "null".into()));
    // Again is nothing.
    pool.lovol(&format!("resize home {to}M")).ok_any();
    // Not mounted, and attached.
    pool.lovol("attach home").ok_any();
    pool.lovol("resize home +64M").ok_any();
    pool.lovol("detach home").ok("");
    // Neither.
    pool.lovol("resize home +64M").ok_any();
    assert_eq!(pool.loops(), []);
    assert_eq!(sizes(&pool, "home"), (to + 128, to + 128, "null".into()));
    pool.lovol("mount home -o fsck").arg(&dir).ok_any();
    // Less the filesystem's own.
    assert!(mounted_mib(&pool, "home") > to);
    pool.lovol("check").ok("");
}

#[test]
fn xfs_grows() {
    grows("xfs", 300, 512);
}

#[test]
fn ext4_grows() {
    grows("ext4", 64, 256);
}

#[test]
fn btrfs_grows() {
    grows("btrfs", 128, 256);
}

#[test]
fn what_cannot_shrink_is_refused_before_anything_is_done() {
    let pool = TestPool::new();
    pool.mounted("x", "512M");
    pool.mounted("e", "128M --fs ext4");
    pool.lovol("create n 2M --fs none").ok_any();
    ensure_unchanged(&pool, || {
        for (words, code, says) in [
            ("resize x -100M", 1, "xfs cannot shrink"),
            ("resize x 200M", 2, "200M is too small for xfs"),
            (
                "resize e 64M",
                1,
                "ext4 shrinks only while it is not mounted",
            ),
            ("resize e -128M", 2, "nothing would be left"),
            ("resize n 1M", 1, "there is no filesystem in it"),
            ("resize nobody +1G", 1, "no volume named nobody"),
            ("resize x many", 2, "expected a number"),
        ] {
            pool.lovol(words).fails(code, says);
        }
    });
    pool.lovol("resize n 4M").ok("n has 4M now\n");
}

#[test]
fn ext4_shrinks_while_it_is_not_mounted() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", "256M --fs ext4");
    pool.sh("head -c 60M /dev/urandom > home/file; sha1sum home/file > sum; umount home");
    pool.lovol("resize home -128M").ok("home has 128M now\n");
    assert_eq!(sizes(&pool, "home"), (128, 128, "null".into()));
    // More than is free in it.
    pool.lovol("resize home 32M").fails(1, "resize2fs");
    assert_eq!(sizes(&pool, "home"), (128, 128, "null".into()));
    pool.lovol("mount home -o fsck").arg(&dir).ok_any();
    pool.sh("sha1sum --check --quiet sum");
    assert!(mounted_mib(&pool, "home") < 128);
    pool.lovol("check").ok("");
}

#[test]
fn btrfs_shrinks_while_it_is_mounted() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", "1G --fs btrfs");
    pool.sh("head -c 300M /dev/urandom > home/file; sha1sum home/file > sum; sync");
    let writer = Writer::start(&dir);
    pool.lovol("resize home 768M").ok("home has 768M now\n");
    assert_eq!(sizes(&pool, "home"), (768, 768, "null".into()));
    assert_eq!(mounted_mib(&pool, "home"), 768);
    pool.lovol("resize home 300M")
        .fails(1, "what is in it needs more than 300M");
    pool.lovol("resize home 128M").fails(2, "the least is 256M");
    assert_eq!(sizes(&pool, "home"), (768, 768, "null".into()));
    drop(writer);
    pool.sh("umount home");
    pool.lovol("resize home -64M").ok_any();
    pool.lovol("mount home -o fsck").arg(&dir).ok_any();
    pool.sh("sha1sum --check --quiet sum");
    pool.lovol("check").ok("");
}

/// Killed at the ioctl that makes the filesystem larger, and with it all that is done after.
#[track_caller]
fn kill_between_image_and_filesystem(pool: &TestPool, words: &str, mib: u64) {
    let log = pool.temp().join("strace");
    let kill = "-e trace=ioctl -e inject=ioctl:signal=KILL:when=";
    let killed = (1..200).any(|nth| {
        let command = pool.lovol(words);
        command.strace(&log, &format!("{kill}{nth}")).finish();
        sizes(pool, "home").0 == mib
    });
    assert!(killed);
}

#[test]
fn a_relative_size_typed_again_finishes_what_was_begun() {
    let pool = TestPool::new();
    pool.mounted("home", "300M");
    kill_between_image_and_filesystem(&pool, "resize home +212M", 512);
    pool.lovol("resize home +212M").ok("home has 512M now\n");
    assert_eq!(sizes(&pool, "home"), (512, 512, "null".into()));
    pool.lovol("check").ok("");
}

#[test]
fn what_somebody_reads_is_not_shrunk_beneath_him() {
    let pool = TestPool::new();
    pool.lovol("create home 256M --fs ext4").ok_any();
    let reader = std::fs::File::open(pool.image("home")).unwrap();
    ensure_unchanged(&pool, || {
        pool.lovol("resize home 128M")
            .fails(1, "volume home is in use")
    });
    drop(reader);
    pool.lovol("resize home 128M").ok_any();
}

#[test]
fn a_resize_that_was_not_finished_is_named_and_finished() {
    let pool = TestPool::new();
    pool.mounted("home", "300M");
    kill_between_image_and_filesystem(&pool, "resize home 512M", 512);
    let found = pool.lovol("check").finish();
    assert!(
        found
            .stdout
            .contains("a resize to 536870912 bytes was not finished"),
        "{found}"
    );
    assert!(
        found.stdout.contains("hint: 'lovol resize home 536870912'"),
        "{found}"
    );
    let finished = pool.lovol("check --repair").ok_any();
    assert_eq!(finished, "");
    assert!(mounted_mib(&pool, "home") > 400);
    pool.lovol("check").ok("");
}

#[test]
fn what_a_resize_had_made_larger_is_not_made_smaller_by_its_line() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs ext4").ok_any();
    kill_between_image_and_filesystem(&pool, "resize home 256M", 256);
    let provision = |words: &str, mib: u64| {
        let line = format!("lovol:home /home lovol x-lovol.size={mib}M,x-lovol.grow 0 0\n");
        pool.lovol("provision -").arg(words).stdin(line).finish()
    };
    ensure_unchanged(&pool, || {
        for words in ["-n", "-v"] {
            let said = provision(words, 128);
            assert_eq!((said.code(), said.stdout.as_str()), (Some(0), ""), "{said}");
            let warning = "warning: home has 256M, more than 128M, and is not made smaller\n";
            assert_eq!(said.stderr, warning, "{said}");
        }
    });
    // The size that it was to get is finished, and a larger one as well.
    for mib in [256, 300] {
        let said = provision("-v", mib);
        assert_eq!(said.stdout, format!("made home {mib}M large\n"), "{said}");
        assert_eq!(sizes(&pool, "home"), (mib, mib, "null".into()));
    }
    pool.lovol("check").ok("");
}

/// A resize2fs that gets I/O errors after some writes, as in a pool that is full.
const FAILING: &str = r#"
    cp $(command -v resize2fs) resize2fs
    # Where pwrite(2) fails, it tries lseek(2) and write(2).
    inject=inject=pwrite64,lseek:error=EIO:when=9+
    echo '#!/bin/sh' > failing
    echo "exec strace -o /dev/null -e $inject $TEMP/resize2fs \"\$@\"" >> failing
    chmod +x failing"#;

#[test]
fn what_resize2fs_has_begun_to_move_is_not_cut_off() {
    let pool = TestPool::new();
    // Without reserved descriptors, what lies behind them must move.
    pool.lovol("create home 64M --fs ext4 --mkfs-options=-O^resize_inode")
        .ok_any();
    pool.sh(FAILING);
    pool.lovol("resize home 16G")
        .in_namespace("mount --bind failing $(command -v resize2fs)")
        .fails(4, "home is between 64M and 16G");
    // By its superblock's size, nothing has happened.
    let superblock = pool.sh("dumpe2fs -h $POOL/volumes/home.img 2>/dev/null | tr -s ' '");
    for line in [
        "Block count: 16384\n",
        "Filesystem state: clean with errors\n",
    ] {
        assert!(superblock.contains(line), "{superblock}");
    }
    let unfinished = (16 << 10, 64, format!("\"{}\"", 16_u64 << 30));
    assert_eq!(sizes(&pool, "home"), unfinished);
    // Whoever repairs it finishes it.
    pool.sh("e2fsck -fy $POOL/volumes/home.img || test $? = 1; lovol resize home 16G");
    assert_eq!(sizes(&pool, "home"), (16 << 10, 16 << 10, "null".into()));
    pool.lovol("check").ok("");
}

#[test]
fn a_volume_grows_to_what_the_pool_has_room_for() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs ext4").ok_any();
    let free = pool.free_bytes() >> 20;
    pool.lovol("resize home max").ok_any();
    let size = sizes(&pool, "home").0;
    assert!((free - 64..free + 64).contains(&size), "{size} of {free}");
    // Never smaller.
    pool.lovol("resize home +8G").ok_any();
    let larger = sizes(&pool, "home").0;
    pool.lovol("resize home max").ok_any();
    assert_eq!(sizes(&pool, "home").0, larger);
}

#[track_caller]
fn trims(fs: &str) {
    let pool = TestPool::new();
    let dir = pool.mounted("home", &format!("512M --fs {fs}"));
    pool.sh(
        "head -c 100M /dev/urandom > home/a; sync; lovol snapshot home@s
             head -c 100M /dev/urandom > home/b; sync; rm home/a home/b; sync",
    );
    ensure_unchanged(&pool, || {
        pool.lovol("trim home -n")
            .ok("would trim the filesystem in volumes/home.img\n");
    });
    let before = pool.free_bytes() >> 20;
    let trimmed = pool.lovol("trim home -J").json()["trimmed"][0].clone();
    pool.sh("sync --file-system $POOL");
    let given = (pool.free_bytes() >> 20) - before;
    let mib = |key: &str| trimmed[key].as_u64().unwrap() >> 20;
    // One file was in the snapshot.
    for (what, measured) in [
        ("freed", given),
        ("freed", mib("freed")),
        ("pinned", mib("pinned")),
    ] {
        assert!(
            (90..130).contains(&measured),
            "{fs}: {what} {measured}, {trimmed}"
        );
    }
    // Not mounted, and of all that do not say otherwise.
    pool.sh("umount home; lovol create other 64M --fs ext4; lovol create none 1M --fs none; lovol set other trim=off");
    let all = pool.lovol("trim --all").ok_any();
    assert!(all.starts_with("home: ") && !all.contains("other"), "{all}");
    assert_eq!(pool.loops(), []);
    pool.lovol("mount home -o ro").arg(&dir).ok_any();
    pool.lovol("trim home").fails(1, "it is mounted read-only");
    pool.lovol("set other trim=").ok("");
    assert!(pool.lovol("trim --all").ok_any().starts_with("other: "));
    // What a program uses beside lovol is left alone, and does not stop the rest.
    pool.sh("umount home");
    let used = std::fs::File::options()
        .write(true)
        .open(pool.image("home"))
        .unwrap();
    let finished = pool.lovol("trim --all").finish();
    assert_eq!(finished.code(), Some(4), "{finished}");
    assert!(finished.stdout.contains("other: "), "{finished}");
    assert!(
        finished.stderr.contains("volume home is in use"),
        "{finished}"
    );
    ensure_unchanged(&pool, || {
        pool.lovol("resize home +512M").fails(1, "is in use")
    });
    drop(used);
    pool.lovol("trim --all").ok_any();
    // The same where it is attached.
    let device = pool.lovol("attach home").ok_any();
    let used = std::fs::File::open(device.trim()).unwrap();
    pool.lovol("trim home").fails(1, "is in use");
    drop(used);
    pool.lovol("detach home").ok("");
}

#[test]
fn xfs_is_trimmed() {
    trims("xfs");
}

#[test]
fn ext4_is_trimmed() {
    trims("ext4");
}

#[test]
fn btrfs_is_trimmed() {
    trims("btrfs");
}
