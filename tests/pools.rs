//! Pools: made where reflinks work, on an image of their own elsewhere, refused where unsafe.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::support::{Scratch, TestPool, ensure_unchanged, lovol, sh, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// A pool on an image of its own in a fresh directory of the host's filesystem.
fn on_image(scratch: &Scratch) -> std::path::PathBuf {
    let dir = scratch.path().join("pool");
    let made = lovol("init --loop 1G --sparse").arg(&dir).ok_any();
    assert!(made.contains("reflinks:    yes"), "{made}");
    assert!(
        made.contains(&format!("{0}.img {0} xfs loop,nofail 0 0", dir.display())),
        "{made}"
    );
    dir
}

#[test]
fn init_shows_what_it_tried() {
    let pool = TestPool::raw();
    let dir = pool.path().join("p");
    let made = lovol("init -J").arg(&dir).json();
    for ability in ["reflink", "direct_io", "punch_hole", "xattr"] {
        assert_eq!(made["pools"][0]["filesystem"][ability], true, "{made}");
    }
    assert_eq!(
        sh(&format!(
            "stat -c %a:%U {0} {0}/volumes {0}/snapshots {0}/trash {0}/lock {0}/index.json",
            dir.display()
        )),
        "755:root\n700:root\n700:root\n700:root\n600:root\n644:root"
    );
    ensure_unchanged(&pool, || {
        lovol("init").arg(&dir).fails(1, "it is a pool already")
    });
    pool.sh("mkdir $POOL/full; touch $POOL/full/x");
    ensure_unchanged(&pool, || {
        lovol("init")
            .arg(pool.path().join("full"))
            .fails(1, "it is not empty (x)")
    });
}

#[test]
fn what_a_killed_init_has_left_is_in_nobodys_way() {
    let pool = TestPool::raw();
    let half = pool.path().join("half");
    pool.sh("mkdir -p $POOL/half/volumes $POOL/half/trash; touch $POOL/half/lock");
    lovol("init").arg(&half).ok_any();
    lovol("check").env("LOVOL_POOL", &half).ok("");

    // What may be somebody's is.
    for other in [
        "echo x > lock",
        "touch volumes/x",
        "mkdir x",
        "touch index.json",
        "mkfifo lock",
    ] {
        pool.sh("rm -rf $POOL/other; mkdir -p $POOL/other/volumes");
        pool.sh(&format!("cd $POOL/other; {other}"));
        ensure_unchanged(&pool, || {
            let other = pool.path().join("other");
            lovol("init").arg(other).fails(1, "it is not empty")
        });
    }
}

#[test]
fn a_pool_whose_init_was_killed_at_the_very_end_is_never_taken_away() {
    let pool = TestPool::raw();
    let dir = pool.path().join("own");
    let at = |words: &str| pool.lovol(words).env("LOVOL_POOL", &dir);
    let init = || pool.lovol("init --loop 1G --sparse").arg(&dir);
    init().ok_any();
    // As it is left if only the note on its image was still to go.
    pool.sh("setfattr -n user.lovol.unfinished $POOL/own.img");
    at("create home 20M --fs ext4").ok("home\n");
    pool.sh("umount $POOL/own");

    for _ in 0..2 {
        init().fails(1, "is not mounted at");
    }

    pool.sh("mount -o loop $POOL/own.img $POOL/own");
    at("list --no-header -o name").ok("home\n");
    at("check").ok("");
}

#[test]
fn where_reflinks_are_missing_it_says_what_to_do_and_leaves_nothing() {
    let scratch = Scratch::new();
    sh(&format!(
        "cd {}; truncate -s 64M x; mkfs.ext4 -q x; mkdir m; mount -o loop x m",
        scratch.path().display()
    ));
    let dir = scratch.path().join("m/a/b");
    let said = lovol("init")
        .arg(&dir)
        .fails(1, "its filesystem (ext4) has no reflinks");
    assert!(said.contains("hint: 'lovol init --loop 100G"), "{said}");
    assert!(!scratch.path().join("m/a").exists());
}

#[test]
fn a_pool_on_an_image_of_its_own_works_and_grows() {
    let scratch = Scratch::new();
    let dir = on_image(&scratch);
    let at = |words: &str| lovol(words).env("LOVOL_POOL", dir.to_str().unwrap());
    at("create home 300M").ok("home\n");
    at("snapshot home@a").ok("home@a\n");
    assert_eq!(
        sh(&format!("losetup -nO DIO -j {}.img | xargs", dir.display())),
        "1"
    );
    // What was attached has the name that it has.
    let image = format!("{}.img", dir.display());
    assert_eq!(
        sh(&format!("losetup -nO BACK-FILE | grep -F {image}")),
        image
    );
    let before = sh(&format!(
        "df --output=size -B1M {} | tail -1",
        dir.display()
    ));
    lovol("init --loop +512M").arg(&dir).ok_any();
    let after = sh(&format!(
        "df --output=size -B1M {} | tail -1",
        dir.display()
    ));
    let number = |text: String| text.trim().parse::<i64>().unwrap();
    assert!((number(after) - number(before) - 512).abs() < 16);
    at("check").ok("");
}

#[test]
fn an_unmounted_pool_refuses_every_verb_and_nothing_is_made_in_its_place() {
    let scratch = Scratch::new();
    let dir = on_image(&scratch);
    sh(&format!("umount {}", dir.display()));
    let before = sh(&format!("ls -A {}", dir.display()));
    for words in [
        "list",
        "create home 300M",
        "snapshot home",
        "check",
        "check --repair",
        "purge --all",
    ] {
        let said = lovol(words)
            .env("LOVOL_POOL", dir.to_str().unwrap())
            .fails(1, "is not mounted at");
        assert!(
            said.contains(&format!("mount -o loop {0}.img {0}", dir.display())),
            "{said}"
        );
    }
    lovol("init").arg(&dir).fails(1, "is not mounted at");
    assert!(sh(&format!("touch {}/x 2>&1 || true", dir.display())).contains("not permitted"));
    assert_eq!(sh(&format!("ls -A {}", dir.display())), before);
    // What it printed for /etc/fstab brings it back, as at boot.
    let line = format!("{0}.img {0} xfs loop,nofail 0 0", dir.display());
    std::fs::write(scratch.path().join("fstab"), line).unwrap();
    sh(&format!(
        "mount --fstab {0}/fstab --all; mountpoint -q {1}; umount {1}",
        scratch.path().display(),
        dir.display()
    ));
    // The hint is right.
    sh(&format!("mount -o loop {0}.img {0}", dir.display()));
    lovol("list")
        .env("LOVOL_POOL", dir.to_str().unwrap())
        .ok_any();
}

#[test]
fn what_is_allocated_for_a_pool_stays_so() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("pool");
    let made = lovol("init --loop 600M").arg(&dir).ok_any();
    let line = format!(
        "{0}.img {0} xfs loop,nofail,X-fstrim.notrim 0 0\n",
        dir.display()
    );
    assert!(made.contains(&line), "{made}");
    std::fs::write(scratch.path().join("fstab"), line).unwrap();

    // As fstrim.timer does.
    sh(&format!(
        "fstrim --listed-in {}/fstab",
        scratch.path().display()
    ));

    let image = std::fs::metadata(format!("{}.img", dir.display())).unwrap();
    assert!(image.blocks() * 512 >= image.len(), "{}", image.blocks());
}

#[test]
fn init_loop_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("pool");
    lovol("init --loop 64M")
        .arg(&dir)
        .fails(2, "too small for a pool");
    sh(&format!("touch {}.img", dir.display()));
    lovol("init --loop 1G").arg(&dir).fails(1, "exists already");
    assert!(!dir.exists());
    sh(&format!("rm {}.img", dir.display()));
    // More than there is, allocated.
    lovol("init --loop 4000T")
        .arg(&dir)
        .fails(1, "cannot allocate");
    assert!(!dir.exists() && !scratch.path().join("pool.img").exists());
    assert_eq!(scratch.loops().len(), 0);
}

#[test]
fn a_pool_that_others_may_change_is_refused() {
    let pool = TestPool::new();
    pool.sh("chmod g+w $POOL");
    pool.lovol("list").fails(1, "may be written to by others");
    pool.sh("chmod 755 $POOL; chown 1000 $POOL");
    pool.lovol("list").fails(1, "does not belong to root");
    pool.sh("chown 0 $POOL; chmod 777 $TEMP");
    pool.lovol("list").fails(1, "may be written to by others");
    // With the sticky bit nobody else can take the pool's name.
    pool.sh("chmod 1777 $TEMP");
    pool.lovol("list").ok_any();
    pool.sh("chmod 755 $TEMP");
}

#[test]
fn list_works_without_root_and_the_rest_says_so() {
    let pool = TestPool::new();
    pool.sh("chmod 755 $TEMP");
    pool.lovol("create home 300M").ok_any();
    pool.lovol("mount home").arg(pool.dir("m")).ok("");
    let as_nobody = |words: &str| {
        use std::os::unix::process::CommandExt;
        pool.lovol(words).with(|command| {
            command.uid(65534).gid(65534);
        })
    };
    let listed = as_nobody("list --raw --no-header").ok_any();
    assert_eq!(
        listed,
        format!("home 300M - 0 xfs {}\n", pool.temp().join("m").display())
    );
    as_nobody("show home").ok_any();
    for words in [
        "create x 300M",
        "snapshot home",
        "delete home",
        "check",
        "mount home /mnt",
        "init /tmp/x",
    ] {
        let said = as_nobody(words).fails(1, "this needs root");
        assert!(said.contains("sudo"), "{said}");
    }
}

#[test]
fn there_is_no_pool_until_one_is_made() {
    let scratch = Scratch::new();
    let nowhere = scratch.path().join("nowhere");
    let said = lovol("list")
        .env("LOVOL_POOL", nowhere.to_str().unwrap())
        .fails(1, "no pool at");
    assert!(said.contains("lovol init"), "{said}");
    lovol("create home 300M --pool")
        .arg(&nowhere)
        .fails(1, "no pool at");
    assert!(!nowhere.exists());
}

#[test]
fn create_makes_the_pool_at_the_default_place_where_reflinks_work() {
    let pool = TestPool::raw();
    // A /var/lib of its own, with reflinks, in a mount namespace of its own.
    let script = "mkdir -p $POOL/lib; unshare -m bash -euc 'mount --bind $POOL/lib /var/lib; unset LOVOL_POOL; lovol create home 300M 2>&1; lovol list --no-header -o name'";
    assert_eq!(pool.sh(script), "made a pool at /var/lib/lovol\nhome\nhome");
    let script = "mkdir -p $TEMP/none; unshare -m bash -uc 'mount -t tmpfs none /var/lib; unset LOVOL_POOL; lovol create home 300M 2>&1; ls /var/lib'";
    let said = pool.sh(script);
    assert!(
        said.contains("lovol init --loop 100G /var/lib/lovol") && said.contains("(tmpfs)"),
        "{said}"
    );
    assert!(
        said.ends_with("/var/lib/lovol' puts the pool on an XFS image of its own"),
        "nothing was made: {said}"
    );
}

#[test]
fn a_share_of_a_pool_is_another_pools_index_to_nobody() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    pool.sh("mkdir $TEMP/other; lovol --pool $POOL/../pool list > /dev/null");
    // An index copied from another pool is not taken for this one's.
    pool.sh(r#"sed -i 's/"pool":"[0-9a-f]*/"pool":"00000000/' $POOL/index.json"#);
    pool.lovol("list").fails(1, "it belongs to another pool");
    pool.lovol("check --repair").ok("");
    pool.lovol("list --no-header -o name").ok("home\n");
}

#[test]
fn a_wait_for_a_lock_is_bounded_and_names_its_holder() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    let holds = |file: &std::path::Path| {
        let lock = std::fs::File::open(file).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        lock
    };
    let pid = std::process::id();
    let lock = holds(&pool.path().join("lock"));
    ensure_unchanged(&pool, || {
        let said = pool
            .lovol("--wait 0 create x 1M --fs none")
            .fails(3, &format!("pid {pid}"));
        assert!(
            said.contains("is locked by") && said.contains("--wait SECONDS"),
            "{said}"
        );
    });
    // Reading waits for nobody.
    pool.lovol("list --no-header -o name").ok("home\n");
    drop(lock);
    let lock = holds(&pool.image("home"));
    ensure_unchanged(&pool, || {
        pool.lovol("--wait 1 snapshot home")
            .fails(3, "volume home is locked by");
    });
    // Long work holds its volume, not the pool.
    pool.lovol("create other 1M --fs none").ok("other\n");
    drop(lock);
}

#[test]
fn a_pool_on_btrfs_does_all_of_it() {
    let pool = TestPool::unmounted(4 << 30);
    pool.sh("mkfs.btrfs -q -f $TEMP/pool.xfs; mkdir -p $POOL; mount -o loop $TEMP/pool.xfs $POOL");
    pool.lovol("init").arg(pool.path()).ok_any();
    for (name, size) in [("xfs", "300M"), ("ext4", "100M")] {
        pool.mounted(name, &format!("{size} --fs {name}"));
        pool.sh(&format!(
            "cd $TEMP/{name}; echo precious >letter; head -c 20M /dev/urandom >data; sync -f ."
        ));
    }
    pool.lovol("snapshot xfs@a ext4@a").ok("ext4@a\nxfs@a\n");
    for name in ["xfs", "ext4"] {
        pool.sh(&format!(
            "cd $TEMP/{name}; rm letter data; sync -f .; fstrim ."
        ));
        let view = pool.dir("view");
        pool.lovol(&format!("mount {name}@a")).arg(&view).ok("");
        assert_eq!(
            pool.sh("cat $TEMP/view/letter; umount $TEMP/view"),
            "precious"
        );
        pool.lovol(&format!("restore {name}@a:letter")).ok_any();
        assert_eq!(pool.sh(&format!("cat $TEMP/{name}/letter")), "precious");
    }

    // What is said to be the snapshot's alone comes free: at least nine tenths of it at once, as btrfs frees
    // an extent when nobody has any of it.
    let alone = pool.lovol("du ext4@a -J").json()["usage"][0]["exclusive"]
        .as_u64()
        .unwrap();
    assert!(alone > 20 << 20, "{alone}");
    let free = || -> u64 {
        let printed = pool.sh("btrfs filesystem sync $POOL; stat -f -c '%f %S' $POOL");
        let numbers: Vec<u64> = printed
            .split(' ')
            .map(|word| word.parse().unwrap())
            .collect();
        numbers.iter().product()
    };
    let before = free();
    pool.lovol("delete ext4@a").ok("");
    wait_until("it is free", SOON, || free() >= before + alone / 10 * 9);

    pool.lovol("clone xfs@a two").ok("two\n");
    pool.lovol("resize two 400M").ok_any();
    pool.lovol("rollback --remount xfs@a").ok_any();
    assert_eq!(pool.sh("cat $TEMP/xfs/letter"), "precious");
    pool.lovol("rename two three").ok_any();
    pool.lovol("delete three").ok_any();
    pool.lovol("undelete three").ok_any();
    pool.lovol("snapshot three").ok_any();
    pool.lovol("df").ok_any();
    pool.lovol("check").ok("");
}
