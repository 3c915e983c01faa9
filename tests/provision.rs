//! `lovol provision` and `lovol fstab`: volumes as /etc/fstab describes them.

use serde_json::Value;

use crate::support::{TestPool, ensure_unchanged, on_own_system, write_fstab};

/// `lovol provision` of these lines, which may have `$POOL` and `$TEMP`.
fn provision(pool: &TestPool, words: &str, lines: &str) -> crate::support::Lovol {
    let text = lines.replace("$POOL", &pool.path().display().to_string());
    let text = text.replace("$TEMP", &pool.temp().display().to_string());
    pool.lovol(&format!("provision - {words}")).stdin(text)
}

fn show(pool: &TestPool, volume: &str) -> Value {
    pool.lovol(&format!("show {volume} -J")).json()["volumes"][0].clone()
}

const TWO: &str = "\
# <image>               <dir>      <type> <options>
$POOL/volumes/home.img  $TEMP/home lovol  defaults,nofail,x-lovol.size=300M,x-lovol.fs=xfs,x-lovol.keep=7d24h4w 0 0
/dev/sda1               /          ext4   defaults 0 1
lovol:srv               $TEMP/srv  lovol  defaults,x-lovol.size=64M,x-lovol.fs=ext4,x-lovol.label=srv,x-lovol.trim=off,x-lovol.user:owner=me 0 0
";

#[test]
fn what_is_missing_is_made_and_then_nothing_is_said() {
    let pool = TestPool::new();
    ensure_unchanged(&pool, || {
        provision(&pool, "-n", TWO).ok("would make volumes/home.img (300M, sparse)\n\
             would make xfs in volumes/home.img\n\
             would set keep=24h7d4w of home\n\
             would make volumes/srv.img (64M, sparse)\n\
             would make ext4 in volumes/srv.img\n\
             would set trim=off of srv\n\
             would set user:owner=me of srv\n");
    });
    provision(&pool, "", TWO).ok(
        "created home\nset keep=24h7d4w of home\ncreated srv\nset trim=off, user:owner=me of srv\n",
    );
    ensure_unchanged(&pool, || provision(&pool, "", TWO).ok(""));
    let (home, srv) = (show(&pool, "home"), show(&pool, "srv"));
    assert_eq!(home["properties"]["keep"], "24h7d4w");
    assert_eq!(
        (&srv["fstype"], &srv["label"]),
        (&"ext4".into(), &"srv".into())
    );
    let shown = pool.lovol("show srv").ok_any();
    assert!(
        shown.contains("properties:       trim=off, user:owner=me"),
        "{shown}"
    );
    // The record has them too, not only the index.
    pool.sh("rm $POOL/index.json; lovol check --repair");
    assert_eq!(show(&pool, "home")["properties"]["keep"], "24h7d4w");
}

#[test]
fn mounted_as_well_if_that_is_wanted() {
    on_own_system(|pool| {
        let lines = TWO.replace("nofail", "noatime,X-mount.mkdir");
        write_fstab(pool, &lines);
        pool.sh("mkdir srv");
        let done = pool.lovol("provision --mount").ok_any();
        assert!(done.contains("mounted home on"), "{done}");
        assert!(pool.sh("findmnt -no OPTIONS home").contains("noatime"));
        pool.sh("touch srv/file");
        ensure_unchanged(pool, || pool.lovol("provision --mount").ok(""));
        // mount(8) finds all of it done.
        let mounts = pool.mounts();
        assert_eq!(pool.sh("mount -a 2>&1"), "");
        assert_eq!(pool.mounts(), mounts);
        pool.sh("umount home srv");
    });
}

#[test]
fn one_wrong_word_and_nothing_at_all_is_done() {
    let pool = TestPool::new();
    for (says, line) in [
        (
            "-:5: x-lovol.sise=1G: there is no property 'sise'",
            "lovol:a /a lovol x-lovol.sise=1G",
        ),
        (
            "-:5: x-lovol.size=many",
            "lovol:a /a lovol x-lovol.size=many",
        ),
        (
            "-:5: x-lovol.fs=ntfs: one of xfs",
            "lovol:a /a lovol x-lovol.size=1G,x-lovol.fs=ntfs",
        ),
        (
            "-:5: x-lovol.keep=some",
            "lovol:a /a lovol x-lovol.size=1G,x-lovol.keep=some",
        ),
        (
            "-:5: x-lovol.grow=2",
            "lovol:a /a lovol x-lovol.size=1G,x-lovol.grow=2",
        ),
        (
            "-:5: x-lovol.from=a@@b",
            "lovol:a /a lovol x-lovol.from=a@@b",
        ),
        ("-:5: 1M is too small", "lovol:a /a lovol x-lovol.size=1M"),
        (
            "-:5: /srv/a.img: it is no image's path",
            "/srv/a.img /a xfs loop,X-lovol.size=1G",
        ),
        (
            "-:5: srv is described twice",
            "lovol:srv /a lovol x-lovol.keep=1d",
        ),
        (
            "-:5: x-lovol.size=2G: it stands there twice",
            "lovol:a /a lovol x-lovol.size=1G,x-lovol.size=2G",
        ),
        (
            "-:5: x-lovol.label: it needs a value",
            "lovol:a /a lovol x-lovol.size=1G,x-lovol.label",
        ),
        (
            "-:5: x-lovol.label= and x-lovol.mkfs-options= are for a new filesystem",
            "lovol:a /a lovol x-lovol.from=srv,x-lovol.label=a",
        ),
        (
            "-:5: there is one quotation mark",
            "lovol:a /a lovol x-lovol.label=\"a,nofail,x-lovol.size=1G",
        ),
        (
            "-:5: a snapshot is never made",
            "lovol:srv /a lovol snap=x,x-lovol.size=1G",
        ),
    ] {
        ensure_unchanged(&pool, || {
            provision(&pool, "", &format!("{TWO}{line}\n")).finish()
        })
        .expect_failure(says);
    }
}

#[test]
fn what_one_line_cannot_have_is_told_when_the_others_are_made() {
    let pool = TestPool::new();
    pool.sh("lovol create old 1M --fs none; lovol delete old");
    let wrong = "lovol:a /a lovol defaults\n\
                 /nowhere/volumes/a.img /a lovol x-lovol.size=1G\n\
                 lovol:b /b lovol x-lovol.from=golden@v3\n\
                 lovol:old /old lovol x-lovol.size=300M\n";
    let says = [
        "-:1: no volume named a",
        "-:2: no pool at /nowhere",
        "-:3: no volume named golden",
        "-:4: old is not made: it was deleted",
        "4 things were not done",
    ];
    let right = "lovol:srv /srv lovol x-lovol.size=16M,x-lovol.fs=ext4\n";
    let planned = ensure_unchanged(&pool, || {
        provision(&pool, "-n", &format!("{wrong}{right}")).finish()
    });
    assert_eq!(planned.code(), Some(1), "{planned}");
    assert!(
        planned.stdout.starts_with("would make volumes/srv.img"),
        "{planned}"
    );
    let done = provision(&pool, "", &format!("{wrong}{right}")).finish();
    assert_eq!(
        (done.code(), done.stdout.as_str()),
        (Some(4), "created srv\n"),
        "{done}"
    );
    let again = provision(&pool, "", &format!("{wrong}{right}")).fails(1, "");
    for said in says {
        assert!(planned.stderr.contains(said), "{planned}");
        assert!(done.stderr.contains(said), "{done}");
        assert!(again.contains(said), "{again}");
    }
}

#[test]
fn one_line_of_several_describes_a_volume() {
    let pool = TestPool::new();
    let lines = "lovol:home /home lovol defaults\n\
                 $POOL/volumes/home.img /mnt ext4 noauto,loop,x-lovol.size=16M\n";
    provision(&pool, "", lines).ok("created home\n");
    // As the line's own type says.
    assert_eq!(show(&pool, "home")["fstype"], "ext4");
    ensure_unchanged(&pool, || provision(&pool, "", lines).ok(""));
}

#[test]
fn what_lies_in_another_mount_is_mounted_after_it() {
    let pool = TestPool::new();
    pool.dir("srv");
    let lines = "lovol:srv $TEMP/srv lovol x-lovol.size=16M,x-lovol.fs=ext4\n\
                 lovol:data $TEMP/srv/data lovol x-lovol.size=16M,x-lovol.fs=ext4,X-mount.mkdir\n";
    let planned = provision(&pool, "-n --mount", lines).ok_any();
    assert!(planned.contains("would make the directory"), "{planned}");
    provision(&pool, "--mount", lines).ok_any();
    pool.sh("umount srv/data; umount srv");
    // By now it is in there, and not to be seen before.
    let lines = lines.replace(",X-mount.mkdir", "");
    provision(&pool, "--mount", &lines).ok_any();
    pool.sh("umount srv/data; umount srv");
}

#[test]
fn a_copy_of_a_pool_is_another_pool() {
    let pool = TestPool::raw();
    pool.sh(
        "mkdir $POOL/one a b; export LOVOL_POOL=$POOL/one; lovol init; lovol create home 16M --fs ext4
         cp -a --reflink=always $POOL/one $POOL/two",
    );
    let lines = "$POOL/one/volumes/home.img $TEMP/a lovol defaults\n\
                 $POOL/two/volumes/home.img $TEMP/b lovol defaults,x-lovol.trim=off\n";
    provision(&pool, "--mount", lines).ok_any();
    pool.sh("touch b/file; ! test -e a/file; umount a b");
    let trim = |dir: &str| {
        let shown = pool
            .lovol("show home -J")
            .env("LOVOL_POOL", pool.path().join(dir));
        shown.json()["volumes"][0]["properties"]["trim"].clone()
    };
    assert_eq!((trim("one"), trim("two")), (Value::Null, "off".into()));
}

#[test]
fn whom_a_user_may_mount_is_not_trusted() {
    let pool = TestPool::new();
    pool.dir("a");
    let lines = "lovol:a $TEMP/a lovol user,exec,x-lovol.size=16M,x-lovol.fs=ext4\n";
    provision(&pool, "--mount", lines).ok_any();
    let options = pool.sh("findmnt -no VFS-OPTIONS a; umount a");
    assert!(options.contains("nosuid,nodev"), "{options}");
    assert!(!options.contains("noexec"), "{options}");
}

#[test]
fn nothing_is_shrunk_formatted_or_made_again() {
    let pool = TestPool::new();
    pool.sh("lovol create home 64M --fs ext4; lovol create old 1M --fs none; lovol delete old");
    let lines = "lovol:home /home lovol x-lovol.size=32M,x-lovol.fs=xfs,x-systemd.makefs 0 0\n";
    ensure_unchanged(&pool, || {
        let said = provision(&pool, "", lines).finish();
        assert_eq!((said.code(), said.stdout.as_str()), (Some(0), ""), "{said}");
        for warning in [
            "home has 64M, more than 32M",
            "home has ext4, not xfs",
            "x-systemd.makefs",
        ] {
            assert!(
                said.stderr.contains(&format!("warning: -:1: {warning}")),
                "{said}"
            );
        }
        let larger = "lovol:home /home lovol x-lovol.size=1G,x-lovol.fs=ext4 0 0\n";
        let said = provision(&pool, "", larger).finish();
        let warning = "warning: -:1: home has 64M, less than 1G, and grows only with x-lovol.grow";
        assert!(said.stderr.contains(warning), "{said}");
        let again = "lovol:old /old lovol x-lovol.size=300M 0 0\n";
        let said = provision(&pool, "", again).fails(1, "it was deleted, and is in the trash");
        assert!(said.contains("'lovol undelete old'"), "{said}");
    });
    pool.sh("lovol purge -y old");
    ensure_unchanged(&pool, || {
        // Somebody's file where the image is to be.
        pool.sh("echo mine >$POOL/volumes/old.img");
        provision(&pool, "", "lovol:old /old lovol x-lovol.size=300M\n").fails(1, "old.img");
        assert_eq!(
            pool.sh("cat $POOL/volumes/old.img; rm $POOL/volumes/old.img"),
            "mine"
        );
    });
}

#[test]
fn a_volume_is_seeded_from_a_snapshot() {
    let pool = TestPool::new();
    pool.mounted("golden", "64M --fs ext4");
    pool.sh("echo seed >golden/file; lovol snapshot golden@v3");
    let lines = "lovol:srv $TEMP/srv lovol x-lovol.size=128M,x-lovol.from=golden@v3 0 0\n";
    pool.dir("srv");
    let done = provision(&pool, "--mount", lines).ok_any();
    assert!(done.starts_with("cloned golden@v3 to srv\n"), "{done}");
    assert_eq!(pool.sh("cat srv/file"), "seed");
    assert_eq!(show(&pool, "srv")["size"], 128 << 20);
    ensure_unchanged(&pool, || provision(&pool, "--mount", lines).ok(""));
    let wrong = "lovol:b /b lovol x-lovol.fs=xfs,x-lovol.from=golden@v3\n";
    provision(&pool, "", wrong).fails(1, "cannot make b with xfs");
    // The same where the file makes the first one as well.
    let both = "lovol:first /f lovol x-lovol.size=32M,x-lovol.fs=ext4\n\
                lovol:larger /l lovol x-lovol.size=64M,x-lovol.from=first\n\
                lovol:smaller /s lovol x-lovol.size=16M,x-lovol.from=first\n";
    let said = provision(&pool, "", both).finish();
    let warning = "warning: -:3: smaller gets 32M, as volume first has: more than 16M";
    assert!(said.stderr.contains(warning), "{said}");
    assert_eq!(show(&pool, "larger")["size"], 64 << 20);
}

#[test]
fn a_volume_grows_if_its_line_says_so() {
    let pool = TestPool::new();
    let home = pool.mounted("home", "128M --fs btrfs");
    let lines = "lovol:home /home lovol x-lovol.size=256M 0 0\n";
    ensure_unchanged(&pool, || provision(&pool, "", lines).ok(""));
    let lines = "lovol:home /home lovol x-lovol.size=256M,x-lovol.grow 0 0\n";
    ensure_unchanged(&pool, || {
        provision(&pool, "-n", lines).ok("would make volumes/home.img 256M large\n\
             would make the btrfs in volumes/home.img 256M large\n");
    });
    provision(&pool, "", lines).ok("made home 256M large\n");
    ensure_unchanged(&pool, || provision(&pool, "", lines).ok(""));
    let size = pool.sh(&format!("df -m --output=size {} | tail -1", home.display()));
    assert!(size.trim().parse::<u64>().unwrap() > 200, "{size}");
}

#[test]
fn what_one_line_cannot_have_is_no_reason_for_the_others() {
    let pool = TestPool::new();
    pool.sh("mkdir a; mkdir b");
    let lines = "lovol:a $TEMP/a lovol x-lovol.size=16M,x-lovol.fs=ext4,nonsense=1 0 0\n\
                 lovol:b $TEMP/b lovol x-lovol.size=16M,x-lovol.fs=ext4 0 0\n";
    let said = provision(&pool, "--mount", lines).fails(4, "error: -:1: cannot mount at");
    assert!(said.contains("1 thing was not done"), "{said}");
    pool.sh("touch b/file; umount b");
}

#[test]
fn a_directory_that_nothing_was_mounted_on_is_not_left() {
    let pool = TestPool::new();
    pool.lovol("create a 16M --fs ext4").ok_any();
    let lines = "lovol:a $TEMP/new/dir lovol nonsense=1,X-mount.mkdir 0 0\n";
    ensure_unchanged(&pool, || {
        provision(&pool, "--mount", lines).fails(1, "cannot mount at");
    });
    assert!(!pool.temp().join("new").exists());
}

#[test]
fn a_plan_is_what_would_be_done() {
    let pool = TestPool::new();
    pool.mounted("golden", "16M --fs ext4");
    pool.dir("view");
    let lines = "lovol:a $TEMP/view lovol x-lovol.from=golden 0 0\n\
                 lovol:golden $TEMP/view lovol fsck 0 0\n";
    let shown = provision(&pool, "-n --mount", lines).ok_any();
    let shown = shown.replace(&pool.temp().display().to_string(), "");
    assert_eq!(
        shown,
        "would freeze /golden and clone volumes/golden.img to volumes/a.img\n\
         would give the filesystem in volumes/a.img a new UUID\n\
         would mount volumes/a.img (ext4) on /view\n\
         would mount volumes/golden.img (ext4) on /view\n"
    );
}

#[test]
fn a_pool_is_never_made() {
    let pool = TestPool::raw();
    provision(&pool, "", TWO).fails(1, "no pool at");
    assert_eq!(pool.sh("ls -A $POOL"), "");
    pool.lovol("provision $TEMP/none").fails(1, "cannot read");
    provision(&pool, "", "").ok("");
}

#[test]
fn a_line_for_fstab_is_followed_without_a_word() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir 'my home' view");
        pool.sh("lovol snapshot home@a; lovol fstab home \"$TEMP/my home\" >/etc/fstab; lovol fstab home@a $TEMP/view >>/etc/fstab");
        let lines = pool.sh("cat /etc/fstab");
        for part in [
            "/volumes/home.img ",
            "/my\\040home lovol defaults,nofail,x-systemd.requires=lovol-provision.service,x-lovol.size=64M,x-lovol.fs=ext4 0 0",
            "/snapshots/home/a.img ",
        ] {
            assert!(lines.contains(part), "{lines}");
        }
        pool.lovol("provision").ok("");
        assert_eq!(pool.sh("mount -a 2>&1"), "");
        pool.sh("touch 'my home/file'; mountpoint -q view; umount 'my home' view");
        // On another machine it makes the volume.
        pool.sh("lovol delete -r home; lovol purge -y home; lines=$(grep -v /snapshots/ /etc/fstab); echo \"$lines\" >/etc/fstab");
        pool.lovol("provision").ok("created home\n");
        pool.lovol("fstab home home").fails(2, "absolute");
        // All that provisioning can make again is said.
        let described = "lovol:v /v lovol x-lovol.size=16M,x-lovol.fs=ext4,\"x-lovol.label=a,b\",x-lovol.trim=off,x-lovol.user:who=me 0 0";
        let described = described.replace("\"x-lovol.label=a,b\"", "x-lovol.label=\"a,b\"");
        pool.lovol("provision -").stdin(described).ok_any();
        let line = pool.lovol("fstab v /v").ok_any();
        let words = ",x-lovol.size=16M,x-lovol.fs=ext4,x-lovol.label=\"a,b\",x-lovol.trim=off,x-lovol.user:who=me 0 0";
        assert!(line.contains(words), "{line}");
        pool.lovol("create bare 1M --fs none").ok_any();
        pool.lovol("fstab bare /b")
            .fails(1, "there is no filesystem in it");
    });
}

#[test]
fn the_lines_of_what_is_renamed_are_named() {
    on_own_system(|pool| {
        pool.sh(
            "lovol create home 1M --fs none; lovol create srv 1M --fs none; lovol snapshot home@a
            for spec in lovol:home $LOVOL_POOL/volumes/home.img lovol:home@a lovol:srv; do
                echo \"$spec /x lovol defaults 0 0\"
            done >/etc/fstab",
        );
        let said = pool.lovol("rename home home2").finish();
        let warnings = said.stderr.matches("of /etc/fstab names").count();
        assert_eq!(warnings, 3, "{said}");
        assert!(
            said.stderr
                .contains("line 1 of /etc/fstab names lovol:home,"),
            "{said}"
        );
    });
}

#[test]
fn a_label_of_any_letters_is_known_and_made_again() {
    let pool = TestPool::new();
    let label_of = || pool.sh("e2label $POOL/volumes/db.img");
    for label in ["my data", "a $b 'c' \\d", "<`übér`>", "M-x ^y", "né,è"] {
        pool.lovol("create db 20M --fs ext4 --label")
            .arg(label)
            .ok_any();
        assert_eq!(label_of(), label);
        assert_eq!(show(&pool, "db")["label"], label);
        let line = pool.lovol("fstab db /srv").ok_any();
        pool.lovol("delete db --now -y").ok("");
        provision(&pool, "", &line).ok("created db\n");
        assert_eq!(label_of(), label, "{line}");
        assert_eq!(show(&pool, "db")["label"], label);
        pool.lovol("delete db --now -y").ok("");
    }
    // Made elsewhere; what is in no line is not made from it.
    pool.sh("truncate -s 20M x; mkfs.ext4 -q -L $'a\\xffb' x; lovol create db --from ./x --copy");
    assert_eq!(show(&pool, "db")["label"], "a\u{fffd}b");
    let line = pool.lovol("fstab db /srv").ok_any();
    assert!(!line.contains("label"), "{line}");
}

#[test]
fn a_plain_line_works_without_lovol() {
    on_own_system(|pool| {
        pool.sh("lovol create home 64M --fs ext4; mkdir home; lovol fstab --plain home $TEMP/home >/etc/fstab");
        pool.sh("rm /usr/sbin/mount.lovol; mount -a; mount -a");
        let list = pool.lovol("show home -J").json();
        assert_eq!(list["volumes"][0]["state"], "mounted");
        pool.sh("touch home/file; lovol snapshot home@a; umount home");
        assert_eq!(pool.loops(), []);
    });
}
