//! The life of a volume: create, attach, mount, list, rename, delete, undelete, purge.

use crate::support::{TestPool, ensure_unchanged, sh};

const GUESTS: [&str; 3] = ["xfs", "ext4", "btrfs"];

#[test]
fn a_volume_of_each_guest_is_made_mounted_and_filled() {
    let pool = TestPool::new();
    for fs in GUESTS {
        let dir = pool.dir(fs);
        pool.lovol(&format!("create {fs} 400M --fs {fs} --label my-{fs}"))
            .ok(&format!("{fs}\n"));
        pool.lovol(&format!("mount {fs}")).arg(&dir).ok("");
        pool.sh(&format!("echo hello > $TEMP/{fs}/file; sync -f $TEMP/{fs}"));
        let shown = pool.lovol(&format!("show {fs} -J")).json();
        let volume = &shown["volumes"][0];
        assert_eq!(volume["state"], "mounted");
        assert_eq!(volume["label"], format!("my-{fs}"));
        assert_eq!(volume["direct_io"], true);
        assert_eq!(volume["size"], 400 << 20);
        assert!(
            volume["allocated"].as_u64().unwrap() < 200 << 20,
            "it is sparse"
        );
        assert_eq!(pool.sh(&format!("findmnt -no FSTYPE $TEMP/{fs}")), *fs);
    }
    // A plain umount(8) leaves nothing behind.
    pool.sh("umount $TEMP/xfs $TEMP/ext4 $TEMP/btrfs");
    assert_eq!(pool.loops().len(), 0);
    pool.lovol("check").ok("");
}

#[test]
fn guests_have_sectors_and_blocks_of_4096_bytes() {
    let pool = TestPool::new();
    for fs in GUESTS {
        pool.lovol(&format!("create {fs} 400M --fs {fs}")).ok_any();
        let image = pool.image(fs);
        assert_eq!(
            sh(&format!(
                "blkid -p -o value -s BLOCK_SIZE {}",
                image.display()
            )),
            "4096",
            "{fs}"
        );
    }
    assert_eq!(
        sh(&format!(
            "xfs_db -r -c 'sb 0' -c 'p sectsize' {}",
            pool.image("xfs").display()
        )),
        "sectsize = 4096"
    );
}

#[test]
fn odd_sizes_are_rounded_up_and_it_says_so() {
    let pool = TestPool::new();
    let done = pool.lovol("create odd 1100000 --fs none").finish();
    assert_eq!(done.code(), Some(0));
    assert!(
        done.stderr.contains("1100000 bytes are rounded up to 2M"),
        "{done}"
    );
    assert_eq!(std::fs::metadata(pool.image("odd")).unwrap().len(), 2 << 20);
    pool.lovol("create gb 1GB --fs none").ok_any();
    // 954 MiB is the next above 10^9 bytes.
    assert_eq!(
        std::fs::metadata(pool.image("gb")).unwrap().len(),
        954 << 20
    );
}

#[test]
fn mkfs_options_reach_mkfs() {
    let pool = TestPool::new();
    pool.lovol("create small 400M --fs ext4")
        .arg("--mkfs-options=-N 128 -m 0")
        .ok_any();
    let inodes =
        pool.sh("dumpe2fs -h $POOL/volumes/small.img 2>/dev/null | sed -n 's/^Inode count: *//p'");
    assert_eq!(inodes, "128");
    ensure_unchanged(&pool, || {
        pool.lovol("create bad 400M")
            .arg("--mkfs-options=-Z nonsense")
            .fails(1, "mkfs.xfs");
    });
}

#[test]
fn attach_gives_one_device_and_detach_waits_until_it_is_gone() {
    let pool = TestPool::new();
    pool.lovol("create vm 16M --fs none").ok_any();
    let device = pool.lovol("attach vm").ok_any();
    let device = device.trim();
    assert_eq!(
        pool.lovol("attach vm").ok_any().trim(),
        device,
        "the same again"
    );
    assert_eq!(
        sh(&format!("losetup -nO DIO,AUTOCLEAR,RO {device} | xargs")),
        "1 0 0"
    );
    pool.lovol("attach vm -J").json();
    pool.lovol(&format!("detach {device}")).ok("");
    assert_eq!(pool.loops().len(), 0);
    ensure_unchanged(&pool, || pool.lovol("detach vm").fails(1, "not attached"));
}

#[test]
fn an_attached_snapshot_cannot_be_written_to() {
    let pool = TestPool::new();
    pool.lovol("create vm 16M --fs none").ok_any();
    pool.lovol("snapshot vm@a").ok("vm@a\n");
    let before = pool.sh("sha256sum < $POOL/snapshots/vm/a.img");
    let device = pool.lovol("attach vm@a").ok_any();
    let written = sh(&format!(
        "dd if=/dev/urandom of={} bs=4k count=1 oflag=direct 2>&1 || true",
        device.trim()
    ));
    assert!(
        written.contains("not permitted") || written.contains("Read-only"),
        "{written}"
    );
    assert_eq!(sh(&format!("blockdev --getro {}", device.trim())), "1");
    pool.lovol("detach vm@a").ok("");
    assert_eq!(pool.sh("sha256sum < $POOL/snapshots/vm/a.img"), before);
    assert_eq!(
        pool.sh("stat -c %a:%U $POOL/snapshots/vm/a.img"),
        "400:root"
    );
}

#[test]
fn a_volume_that_is_attached_is_mounted_from_its_device() {
    let pool = TestPool::new();
    let dir = pool.dir("m");
    pool.lovol("create home 300M").ok_any();
    let device = pool.lovol("attach home").ok_any();
    pool.lovol("mount home").arg(&dir).ok("");
    assert_eq!(
        format!("{}\n", pool.sh("findmnt -no SOURCE $TEMP/m")),
        device
    );
    pool.lovol("detach home").fails(1, "mounted on");
    pool.lovol("umount home").ok("");
    // What was attached on purpose stays.
    assert_eq!(pool.loops().len(), 1);
    pool.lovol("detach home").ok("");
}

#[test]
fn mount_options_are_flags_or_the_guests() {
    let pool = TestPool::new();
    let dir = pool.dir("m");
    pool.lovol("create home 300M --fs ext4").ok_any();
    pool.lovol("mount home")
        .arg(&dir)
        .arg("-o")
        .arg("noatime,nosuid,nofail,x-systemd.automount,data=journal")
        .ok("");
    let options = pool.sh("findmnt -no OPTIONS $TEMP/m");
    for word in ["noatime", "nosuid", "data=journal"] {
        assert!(options.contains(word), "{options}");
    }
    pool.lovol("umount").arg(&dir).ok("");
    ensure_unchanged(&pool, || {
        pool.lovol("mount home")
            .arg(&dir)
            .arg("-o")
            .arg("nonsense=1")
            .fails(1, "nonsense=1");
    });
    pool.lovol("mount home")
        .arg(&dir)
        .arg("-o")
        .arg("ro")
        .ok("");
    assert!(
        pool.sh("touch $TEMP/m/x 2>&1 || true")
            .contains("Read-only")
    );
}

#[test]
fn a_volume_is_not_mounted_twice_on_one_directory() {
    let pool = TestPool::new();
    let dir = pool.dir("m");
    pool.lovol("create home 300M").ok_any();
    pool.lovol("mount home").arg(&dir).ok("");
    ensure_unchanged(&pool, || {
        pool.lovol("mount home")
            .arg(&dir)
            .fails(1, "exists already")
    });
    // Elsewhere it is the same filesystem, on the same device.
    pool.lovol("mount home").arg(pool.dir("n")).ok("");
    assert_eq!(pool.loops().len(), 1);
    pool.lovol("umount home").ok("");
    assert_eq!(pool.loops().len(), 0);
}

#[test]
fn names_that_are_files_are_not_taken_for_paths() {
    let pool = TestPool::new();
    pool.sh("touch $TEMP/a.img");
    let said = pool.lovol("show a.img").fails(1, "no volume named a.img");
    assert!(
        said.contains("hint: if you mean the file, type ./a.img"),
        "{said}"
    );
}

#[test]
fn list_shows_tables_json_and_columns() {
    let pool = TestPool::new();
    pool.lovol("create home 300M").ok_any();
    pool.lovol("create db 64M --fs ext4").ok_any();
    pool.lovol("snapshot home@a").ok_any();
    let listed = pool.lovol("list -o name,size,snaps,fs").ok_any();
    assert_eq!(
        listed,
        "NAME  SIZE  SNAPS  FS\ndb     64M      0  ext4\nhome  300M      1  xfs\n"
    );
    pool.lovol("list home -b --raw --no-header -o name,size,mounted-on")
        .ok("home 314572800 -\n");
    let tree = pool.lovol("list --tree -o name").ok_any();
    assert_eq!(tree, "NAME\ndb\nhome\n└─ a\n");
    let json = pool.lovol("list -a -J").json();
    assert_eq!(json["lovol"]["command"], "list");
    assert_eq!(json["lovol"]["schema"], 1);
    assert_eq!(json["volumes"][1]["snapshots"][0]["full_name"], "home@a");
    assert_eq!(json["volumes"][0]["device"], serde_json::Value::Null);
    pool.lovol("list nobody").fails(1, "no volume named nobody");
    pool.lovol("list nobody/x").fails(2, "a name consists of");
}

#[test]
fn abbreviations_and_btrfs_habits_work() {
    let pool = TestPool::new();
    pool.lovol("cr home 64M --fs ext4").ok("home\n");
    pool.lovol("subvolume list --no-header -o name")
        .ok("home\n");
    pool.lovol("subvolume snapshot home@a").ok("home@a\n");
}

#[test]
fn rename_moves_the_image_and_its_snapshots() {
    let pool = TestPool::new();
    pool.lovol("create a 64M --fs ext4").ok_any();
    pool.lovol("snapshot a@one").ok_any();
    pool.lovol("rename a b").ok("b\n");
    pool.lovol("rename b@one b@two").ok("b@two\n");
    pool.lovol("rename b@two three").ok("b@three\n");
    pool.lovol("list -a --no-header -o name").ok("b\nb@three\n");
    assert!(pool.image("b").exists() && !pool.image("a").exists());
    assert!(pool.snapshot_image("b", "three").exists());
    assert!(!pool.path().join("snapshots/a").exists());
    pool.lovol("check").ok("");
    pool.lovol("create a 64M --fs ext4").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("rename a b").fails(1, "volume b exists already")
    });
    pool.lovol("mount b").arg(pool.dir("m")).ok_any();
    ensure_unchanged(&pool, || pool.lovol("rename b c").fails(1, "mounted on"));
}

#[test]
fn of_several_mounts_it_says_which_are_unmounted_if_one_is_busy() {
    let pool = TestPool::new();
    let last = pool.dir("last");
    pool.dir("other");
    pool.sh("mount -t tmpfs other $TEMP/other");
    let first = pool.mounted("home", "64M --fs ext4");
    // Its mount's id is free again, and the lowest: the next one gets it.
    pool.sh("umount $TEMP/other");
    pool.lovol("mount home").arg(&last).ok("");
    let busy = std::fs::File::create(first.join("busy")).unwrap();
    let said = pool.lovol("umount home").fails(4, "last was unmounted");
    assert!(said.contains("fuser -vm"), "{said}");
    drop(busy);
    pool.lovol("umount home").ok("");
}

#[test]
fn several_are_unmounted_by_one_command_or_none_if_one_cannot_be_meant() {
    let pool = TestPool::new();
    let first = pool.mounted("first", "64M --fs ext4");
    let second = pool.mounted("second", "64M --fs ext4");
    pool.lovol("snapshot second@a").ok_any();
    pool.lovol("mount second@a").arg(pool.dir("view")).ok("");
    pool.lovol("create idle 64M --fs ext4").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("umount first idle")
            .fails(1, "it is not mounted");
        pool.lovol("umount first nothing").fails(1, "no volume");
    });
    let said = pool.lovol("umount -n first second@a").ok_any();
    assert_eq!(said.lines().count(), 2, "{said}");
    // By name, by directory, and a view.
    pool.lovol("umount first")
        .arg(&second)
        .arg("second@a")
        .ok("");
    assert_eq!(pool.loops(), []);
    // What comes before one that is busy is unmounted.
    pool.lovol("mount first").arg(&first).ok("");
    pool.lovol("mount second").arg(&second).ok("");
    let busy = std::fs::File::create(second.join("busy")).unwrap();
    pool.lovol("umount first second")
        .fails(4, "unmounted: first");
    drop(busy);
    pool.lovol("umount second").ok("");
    assert_eq!(pool.loops(), []);
}

#[test]
fn a_mount_that_hides_another_says_so_and_a_view_is_not_mounted_for_writing() {
    let pool = TestPool::new();
    let dir = pool.mounted("home", "64M --fs ext4");
    pool.sh("lovol create srv 64M --fs ext4; lovol snapshot home@a; mkdir view");
    let said = ensure_unchanged(&pool, || {
        pool.lovol("mount home@a view -o rw,noatime")
            .fails(2, "is never written to")
    });
    assert!(said.contains("lovol clone home@a NAME"), "{said}");
    pool.lovol("mount home@a view -o noatime").ok("");
    let mounted = pool.lovol("mount srv").arg(&dir).finish();
    assert_eq!(mounted.code(), Some(0), "{mounted}");
    assert!(
        mounted.stderr.contains("is mounted on")
            && mounted.stderr.contains("already, and is hidden"),
        "{mounted}"
    );
}

#[test]
fn a_volume_that_is_larger_than_its_pool_is_made_with_a_warning() {
    let pool = TestPool::sized(1 << 30);
    pool.sh("lovol create fits 500M --fs ext4 2>said; test ! -s said");
    pool.sh("lovol create home 2G --fs ext4 2>said");
    let said = pool.sh("cat said");
    assert!(
        said.starts_with("warning: home may come to take 2G, and the pool has "),
        "{said}"
    );
    pool.sh("lovol resize fits 600M 2>said; test ! -s said");
    pool.sh("lovol resize fits 3G 2>said; grep 'fits may come to take 3G' said");
}

#[test]
fn a_deleted_volume_comes_back_with_all_its_snapshots() {
    let pool = TestPool::new();
    let dir = pool.dir("m");
    pool.lovol("create home 300M").ok_any();
    pool.lovol("mount home").arg(&dir).ok_any();
    pool.sh("echo kept > $TEMP/m/file");
    pool.lovol("snapshot home@a").ok_any();
    pool.lovol("umount home").ok_any();
    ensure_unchanged(&pool, || {
        let said = pool.lovol("delete home").fails(1, "it has 1 snapshot");
        assert!(said.contains("lovol delete -r home"), "{said}");
    });
    pool.lovol("delete -r home").ok("");
    pool.lovol("list -a --no-header").ok("");
    let said = pool.lovol("show home").fails(1, "no volume named home");
    assert!(said.contains("lovol undelete home"), "{said}");
    let trash = pool.lovol("list --trash -J").json();
    assert_eq!(trash["trash"][0]["name"], "home");
    assert_eq!(trash["trash"][0]["snapshot_count"], 1);
    pool.lovol("check").ok("");

    pool.lovol("undelete home").ok("home\n");
    pool.lovol("list -a --no-header -o name")
        .ok("home\nhome@a\n");
    pool.lovol("mount home@a").arg(&dir).ok("");
    assert_eq!(pool.sh("cat $TEMP/m/file"), "kept");
    pool.lovol("check").ok("");
    assert_eq!(pool.sh("ls -A $POOL/trash"), "");
}

#[test]
fn undelete_never_replaces_a_volume() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    pool.lovol("delete home").ok_any();
    pool.lovol("create home 16M --fs ext4").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("undelete home")
            .fails(1, "undelete home --as NAME");
    });
    pool.lovol("undelete home --as old").ok("old\n");
    pool.lovol("list --no-header -o name").ok("home\nold\n");
    // Several, or none.
    pool.lovol("delete home old").ok("");
    ensure_unchanged(&pool, || {
        pool.lovol("undelete home nobody")
            .fails(1, "no deleted volume named nobody");
        pool.lovol("undelete home old --as both")
            .fails(2, "--as is for one volume");
    });
    pool.lovol("undelete home old").ok("home\nold\n");
}

#[test]
fn a_name_that_is_nearly_right_is_told() {
    let pool = TestPool::new();
    pool.lovol("create database 1M --fs none").ok_any();
    pool.lovol("snapshot database@monday").ok_any();
    let said = pool
        .lovol("show datbase")
        .fails(1, "no volume named datbase");
    assert!(said.contains("did you mean database?"), "{said}");
    let said = pool
        .lovol("delete database@mnoday")
        .fails(1, "no snapshot named");
    assert!(said.contains("did you mean monday?"), "{said}");
    let said = pool.lovol("show home").fails(1, "no volume named home");
    assert!(!said.contains("did you mean"), "{said}");
}

#[test]
fn what_is_final_asks_and_off_a_terminal_refuses() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("delete --now home").fails(1, "this is final");
    });
    pool.lovol("delete home").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("purge home")
            .fails(1, "-y says that you mean it")
    });
    pool.lovol("purge -y home").ok("");
    assert_eq!(
        pool.sh("ls -A $POOL/trash $POOL/volumes | grep img || true"),
        ""
    );
    pool.lovol("undelete home")
        .fails(1, "no deleted volume named home");
    pool.lovol("create gone 16M --fs ext4").ok_any();
    pool.lovol("snapshot gone@a").ok_any();
    pool.lovol("delete -y -r --now gone").ok("");
    assert_eq!(pool.sh("find $POOL -name '*.img'"), "");
    pool.lovol("check").ok("");
}

#[test]
fn what_somebody_reads_is_not_removed_for_good() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    pool.lovol("snapshot home@a").ok_any();
    let reader = std::fs::File::open(pool.snapshot_image("home", "a")).unwrap();
    ensure_unchanged(&pool, || {
        pool.lovol("delete -y -r --now home")
            .fails(1, "home@a is in use");
    });
    pool.lovol("delete -r home").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("purge -y home").fails(1, "in use");
    });
    drop(reader);
    pool.lovol("purge -y home").ok("");
}

#[test]
fn ranges_of_snapshots_go_by_age() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    for name in ["d", "c", "b", "a"] {
        pool.lovol(&format!("snapshot home@{name}")).ok_any();
    }
    ensure_unchanged(&pool, || {
        pool.lovol("delete home@a%c").fails(2, "a is newer than c");
        pool.lovol("delete home@c%x")
            .fails(1, "no snapshot named home@x");
        // One that cannot go keeps all.
        pool.lovol("delete home@d home@nobody")
            .fails(1, "home@nobody");
    });
    pool.lovol("delete home@c%b").ok("");
    pool.lovol("list -a --no-header -o name")
        .ok("home\nhome@d\nhome@a\n");
    pool.lovol("delete home@d home@a").ok("");
    assert_eq!(pool.sh("ls -A $POOL/snapshots"), "");
    pool.lovol("check").ok("");
}

#[test]
fn automatic_names_are_times_and_never_collide() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    let mut names: Vec<String> = (0..4)
        .map(|_| pool.lovol("snapshot home").ok_any())
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
    let is_time = |name: &String| {
        let time = name.trim().strip_prefix("home@20").unwrap_or_default();
        time.len() >= 14 && time.contains('T') && time.contains('Z')
    };
    assert!(names.iter().all(is_time), "{names:?}");
}

#[test]
fn an_image_is_taken_in_by_reflink_or_moved() {
    let pool = TestPool::raw();
    // 512-byte sectors, as an image from elsewhere may have.
    pool.sh("mkdir $POOL/p && truncate -s 300M $POOL/x.img && mkfs.xfs -q -s size=512 -L old $POOL/x.img");
    pool.sh("mkdir $TEMP/m && mount -o loop $POOL/x.img $TEMP/m && echo hi > $TEMP/m/f && umount $TEMP/m");
    let at = |words: &str| {
        pool.lovol(words)
            .env("LOVOL_POOL", pool.path().join("p").to_str().unwrap())
    };
    at("init").ok_any();
    let file = pool.path().join("x.img");
    at("create copy --from").arg(&file).ok("copy\n");
    let copy = at("show copy -J").json();
    assert_eq!(copy["volumes"][0]["fstype"], "xfs");
    assert_eq!(copy["volumes"][0]["label"], "old");
    at("mount copy").arg(pool.dir("n")).ok("");
    assert_eq!(pool.sh("cat $TEMP/n/f; umount $TEMP/n"), "hi");
    at("snapshot copy@a").ok_any();
    at("create moved --move --from").arg(&file).ok("moved\n");
    assert!(!file.exists());
    at("mount moved").arg(pool.dir("n")).ok("");
    assert_eq!(
        pool.sh("cat $TEMP/n/f; stat -c %a:%U $POOL/p/volumes/moved.img; umount $TEMP/n"),
        "hi\n600:root"
    );
    at("check").ok("");
    // Another filesystem shares no blocks, and nothing is copied instead.
    pool.sh("truncate -s 16M $TEMP/far.img");
    let said = at("create far --from")
        .arg(pool.temp().join("far.img"))
        .fails(1, "different filesystems");
    assert!(said.contains("reflink"), "{said}");
    at("create far --move --from")
        .arg(pool.temp().join("far.img"))
        .fails(1, "not on the pool's filesystem");
}

#[test]
fn create_copies_an_image_from_another_filesystem_if_told_to() {
    let pool = TestPool::new();
    pool.sh(
        "cd $TEMP; truncate -s 64M far.img; mkfs.ext4 -q -L far far.img
         mkdir m; mount -o loop far.img m; head -c 3M /dev/urandom > m/f; sha1sum < m/f > sum",
    );
    let far = pool.temp().join("far.img");
    ensure_unchanged(&pool, || {
        pool.lovol("create far --copy --from")
            .arg(&far)
            .fails(1, "is in use: mounted on")
    });
    pool.sh("umount $TEMP/m; while losetup -j $TEMP/far.img | grep -q .; do sleep 0.1; done");
    ensure_unchanged(&pool, || {
        let planned = pool.lovol("create far --copy -n --from").arg(&far).ok_any();
        assert!(
            planned.ends_with("far.img to volumes/far.img\n"),
            "{planned}"
        );
    });
    let used = |path: &str| -> u64 { pool.sh(&format!("stat -c %b {path}")).parse().unwrap() };
    let free = pool.free_bytes();
    pool.lovol("create far --copy --from").arg(&far).ok("far\n");
    assert!(free - pool.free_bytes() < 32 << 20, "holes were copied");
    assert!(used("$POOL/volumes/far.img") < 2 * used("$TEMP/far.img"));
    pool.sh("cmp $TEMP/far.img $POOL/volumes/far.img");
    let shown = pool.lovol("show far -J").json();
    assert_eq!(shown["volumes"][0]["label"], "far");
    pool.lovol("mount far").arg(pool.dir("n")).ok("");
    pool.sh("sha1sum < $TEMP/n/f | cmp - $TEMP/sum");
    pool.lovol("check").ok("");
}

#[test]
fn a_guest_made_by_hand_is_known_from_then_on() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs none").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("mount vm")
            .arg(pool.dir("m"))
            .fails(1, "there is no filesystem in it");
    });
    let device = pool.lovol("attach vm").ok_any();
    pool.sh(&format!("mkfs.ext4 -q -b 1024 -L mine {device}"));
    pool.lovol("mount vm").arg(pool.dir("m")).ok("");
    pool.sh("echo hi > $TEMP/m/f");
    let shown = pool.lovol("show vm -J").json();
    assert_eq!(shown["volumes"][0]["fstype"], "ext4");
    assert_eq!(shown["volumes"][0]["label"], "mine");
    let taken = pool.lovol("snapshot vm@a -J").json();
    assert_eq!(taken["snapshots"][0]["consistency"], "frozen");
    pool.lovol("clone vm@a copy").ok("copy\n");
    pool.lovol("mount copy").arg(pool.dir("n")).ok("");
    assert_eq!(pool.sh("cat $TEMP/n/f"), "hi");
    pool.lovol("check").ok("");
}

#[test]
fn a_refused_detach_changes_nothing() {
    let pool = TestPool::new();
    pool.lovol("create vm 16M --fs none").ok_any();
    let device = pool.lovol("attach vm").ok_any();
    let held = std::fs::File::open(device.trim()).unwrap();
    // The test itself is the holder: its name is this binary's.
    pool.lovol("detach vm").fails(1, "is in use: lovol-");
    drop(held);
    assert_eq!(
        pool.lovol("attach vm").ok_any(),
        device,
        "it is still attached"
    );
    pool.lovol("detach vm").ok("");
}

#[test]
fn a_reflinked_image_with_small_blocks_is_mounted_again() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs none").ok_any();
    let device = pool.lovol("attach vm").ok_any();
    pool.sh(&format!("mkfs.ext4 -q -b 1024 {device}"));
    pool.lovol("snapshot vm@a").ok_any();
    pool.lovol("detach vm").ok("");
    // A device of a reflinked file may have sectors of 4096 bytes, unless others are asked for.
    pool.lovol("attach vm").ok_any();
    pool.lovol("mount vm").arg(pool.dir("m")).ok("");
    pool.lovol("umount vm").ok("");
    pool.lovol("detach vm").ok("");
    pool.lovol("mount vm").arg(pool.dir("m")).ok("");
    pool.lovol("mount vm@a").arg(pool.dir("n")).ok("");
}

#[test]
fn what_is_mounted_over_a_volume_is_not_unmounted() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs ext4").ok_any();
    pool.lovol("mount home").arg(pool.dir("m")).ok("");
    pool.sh("mount -t tmpfs other $TEMP/m");
    ensure_unchanged(&pool, || {
        pool.lovol("umount home")
            .fails(1, "other is mounted over it")
    });
    pool.sh("umount $TEMP/m");
    pool.lovol("umount home").ok("");
}

#[test]
fn a_device_of_somebody_else_is_taken_only_if_it_is_whole_and_writable() {
    let pool = TestPool::new();
    pool.lovol("create home 64M --fs ext4").ok_any();
    for (options, how) in [
        ("-r", "attached read-only"),
        ("-o 1M", "a part of it is attached"),
    ] {
        let device = pool.sh(&format!(
            "losetup -f --show {options} $POOL/volumes/home.img"
        ));
        ensure_unchanged(&pool, || {
            pool.lovol("attach home").fails(1, how);
            pool.lovol("mount home").arg(pool.dir("m")).fails(1, how);
        });
        pool.sh(&format!("losetup -d {device}"));
    }
}

#[test]
fn an_image_that_is_open_for_writing_is_not_unused() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs ext4").ok_any();
    let open = std::fs::File::options()
        .write(true)
        .open(pool.image("vm"))
        .unwrap();
    ensure_unchanged(&pool, || {
        let said = pool
            .lovol("snapshot vm@a")
            .fails(1, "its image is open for writing (lovol-");
        assert!(said.contains("--crash"), "{said}");
        pool.lovol("delete vm").fails(1, "in use");
    });
    pool.lovol("snapshot --crash vm@a").ok("vm@a\n");
    drop(open);
    pool.lovol("snapshot vm@b").ok("vm@b\n");
}

/// A virtual machine, as far as anybody can see it: somebody has this open for writing.
fn machine_on(file: &std::path::Path) -> std::fs::File {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .unwrap()
}

/// Each way to mount `vm`.
const MOUNTS: [&str; 4] = [
    "mount vm m",
    "mount vm m -o ro",
    "mount vm m -o fsck",
    "mount vm m -n",
];

#[test]
fn beside_a_virtual_machine_on_its_device_a_volume_is_not_mounted() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs ext4").ok_any();
    let dir = pool.dir("m");
    let device = pool.lovol("attach vm").ok_any();
    let device = device.trim();
    // As a machine that was killed leaves it: a check would write to it.
    pool.sh(&format!("debugfs -w -R 'ssv state 0' {device}"));
    let machine = machine_on(device.as_ref());
    let before = pool.sh(&format!("sha1sum {device}"));
    ensure_unchanged(&pool, || {
        for words in MOUNTS {
            let said = pool.lovol(words).fails(1, "volume vm is in use: lovol-");
            assert!(said.contains("lovol snapshot --crash vm"), "{said}");
        }
    });
    assert_eq!(pool.sh(&format!("sha1sum {device}")), before);
    // It has its device already.
    pool.lovol("attach vm").ok(&format!("{device}\n"));
    drop(machine);
    // Who only reads is not waited for.
    let reader = std::fs::File::open(device).unwrap();
    pool.lovol("mount vm m -o fsck").ok("");
    // What is mounted is the kernel's, and is mounted elsewhere as well, whoever has the device open.
    let tool = machine_on(device.as_ref());
    pool.lovol("mount vm").arg(pool.dir("n")).ok("");
    drop((reader, tool));
    pool.sh("umount $TEMP/m $TEMP/n");
    assert!(!dir.join("lost+found").exists());
}

#[test]
fn beside_a_virtual_machine_on_its_image_a_volume_is_neither_mounted_nor_attached() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs ext4").ok_any();
    pool.lovol("snapshot vm@a").ok_any();
    pool.dir("m");
    let image = pool.image("vm");
    let machine = machine_on(&image);
    ensure_unchanged(&pool, || {
        for words in MOUNTS.iter().chain(&["attach vm", "attach vm -n"]) {
            pool.lovol(words).fails(1, "volume vm is in use: lovol-");
        }
    });
    // A snapshot is not what it writes to.
    pool.sh("lovol attach vm@a; lovol mount vm@a m; umount m; lovol detach vm@a");
    drop(machine);
    // Who only reads it does no harm.
    let reader = std::fs::File::open(&image).unwrap();
    pool.sh("lovol mount vm m; umount m; lovol attach vm; lovol detach vm");
    drop(reader);
    assert_eq!(pool.loops(), []);
}

#[test]
fn a_machine_that_is_about_to_end_is_waited_for() {
    let pool = TestPool::new();
    pool.lovol("create vm 64M --fs ext4").ok_any();
    pool.dir("m");
    pool.sh("(sleep 0.3) >/dev/null 2>&1 <>$POOL/volumes/vm.img & lovol mount vm m; umount m");
    pool.sh("device=$(lovol attach vm); (sleep 0.3) >/dev/null 2>&1 <>$device & lovol mount vm m");
}

#[test]
fn an_image_that_is_open_or_in_a_pool_is_not_moved_into_one() {
    let pool = TestPool::raw();
    pool.sh("lovol init $POOL/p > /dev/null; lovol init $POOL/q > /dev/null; truncate -s 16M $POOL/x.img; chmod 640 $POOL/x.img");
    let at = |words: &str| pool.lovol(words).env("LOVOL_POOL", pool.path().join("p"));
    pool.lovol("create there 16M --fs ext4")
        .env("LOVOL_POOL", pool.path().join("q"))
        .ok_any();
    let file = pool.path().join("x.img");
    let open = std::fs::File::open(&file).unwrap();
    ensure_unchanged(&pool, || {
        at("create x --move --from").arg(&file).fails(1, "in use")
    });
    drop(open);
    let theirs = pool.path().join("q/volumes/there.img");
    ensure_unchanged(&pool, || {
        at("create x --move --from")
            .arg(&theirs)
            .fails(1, "it lies in a pool")
    });
    at("create x --move --from").arg(&file).ok("x\n");
}

#[test]
fn what_a_symlink_leads_to_is_moved_and_the_symlink_stays() {
    let pool = TestPool::raw();
    pool.sh(
        "mkdir $POOL/p $POOL/dir; lovol init $POOL/p; truncate -s 16M $POOL/dir/x.img
         ln -s dir/x.img $POOL/link.img",
    );
    let create = |path: &str| {
        let command = pool.lovol("create x --move --from").arg(path);
        command
            .env("LOVOL_POOL", pool.path().join("p"))
            .within(pool.path())
    };
    for (path, says) in [
        ("..", "Is a directory"),
        ("/", "Is a directory"),
        ("dir/none.img", "cannot find"),
    ] {
        create(path).fails(1, says);
    }
    create("dir/../link.img").ok("x\n");
    assert_eq!(
        pool.sh("cd $POOL; ls -A dir; readlink link.img; stat -c %s p/volumes/x.img"),
        "dir/x.img\n16777216"
    );
}

/// A pool with a volume `home`, and a first snapshot of it whose lovol was killed when the image had its
/// name, before the index had it.
fn with_a_snapshot_that_the_index_does_not_name() -> TestPool {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol create other 1M --fs none");
    let options = "-e trace=renameat2 -e inject=renameat2:signal=KILL:when=1";
    let command = pool.lovol("snapshot home@x");
    command
        .strace(pool.temp().join("strace"), options)
        .finish()
        .expect_failure("");
    assert!(pool.snapshot_image("home", "x").exists());
    pool.lovol("list -a home --no-header -o name").ok("home\n");
    pool
}

#[test]
fn a_snapshot_that_the_index_does_not_name_goes_with_its_volume() {
    for (script, names) in [
        ("lovol rename home work", "other work work@x"),
        (
            "lovol delete home; lovol undelete home",
            "home home@x other",
        ),
        (
            "lovol delete home; lovol check --repair; lovol undelete home --as work",
            "other work work@x",
        ),
        (
            "lovol clone --force other home; lovol undelete home --as old",
            "home old old@x other",
        ),
    ] {
        let pool = with_a_snapshot_that_the_index_does_not_name();
        pool.sh(script);
        pool.lovol("check --repair").ok("");
        pool.lovol("check").ok("");
        let listed = pool.lovol("list -a --no-header -o name").ok_any();
        assert_eq!(listed.replace('\n', " ").trim(), names, "{script}");
    }
}

#[test]
fn a_snapshot_that_the_index_does_not_name_is_removed_when_it_is_named() {
    for script in [
        "lovol delete -y --now home",
        "lovol delete home; lovol purge -y home",
    ] {
        let pool = with_a_snapshot_that_the_index_does_not_name();
        pool.sh(script);
        // It is in the trash, and no volume's.
        pool.lovol("check").fails(1, "1 thing is wrong");
        pool.lovol("check --repair").fails(1, "1 thing is wrong");
        pool.lovol("list -a --no-header -o name").ok("other\n");
        pool.lovol("purge -y home").ok("");
        pool.lovol("check").ok("");
        assert_eq!(
            pool.sh("ls -A $POOL/snapshots $POOL/trash | grep -c img || true"),
            "0"
        );
    }
}

#[test]
fn snapshots_whose_volume_is_gone_are_cloned_and_removed() {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@x; rm $POOL/volumes/home.img");
    let found = pool.lovol("check --repair").finish();
    assert!(
        found
            .stdout
            .contains("volumes/home.img: the index names it"),
        "{found}"
    );
    pool.lovol("clone home@x back").ok("back\n");
    pool.sh("lovol delete -r home; lovol purge -y home");
    pool.lovol("list -a --no-header -o name").ok("back\n");
    pool.lovol("check").ok("");
    assert_eq!(
        pool.sh("ls -A $POOL/snapshots $POOL/trash | grep -c img || true"),
        "0"
    );
}
