//! Bad days of a pool: it is full, its disk fails, its index is broken, somebody worked in it by
//! hand, or planted something.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::support::{Lovol, Round, TestPool, Trace, ensure_state, ensure_unchanged, state};

/// Runs `command` once for each call of `syscall` that it makes, which fails with `errno` then; with
/// a `+`, as do those after it.
///
/// The first run that is not hit ends it, and must succeed.
#[track_caller]
fn fails_at_each(pool: &TestPool, syscall: &str, errno: &str, command: impl Fn() -> Lovol) {
    let (syscall, and_later) = match syscall.strip_suffix('+') {
        Some(syscall) => (syscall, "+"),
        None => (syscall, ""),
    };
    let log = pool.temp().join("strace");
    let before = state(pool);
    for nth in 1.. {
        let options =
            format!("-e trace={syscall} -e inject={syscall}:error={errno}:when={nth}{and_later}");
        let finished = command().strace(&log, &options).finish();
        let trace = Trace::read(&log);
        if trace.injected() == 0 {
            assert!(finished.status.success(), "{finished}");
            assert!(nth > 2, "it makes no such calls");
            return;
        }
        let hit = trace
            .lines()
            .iter()
            .find(|line| line.contains("(INJECTED)"))
            .unwrap();
        // What is said to people is not what is done.
        if hit.starts_with("write(1,") || hit.starts_with("write(2,") {
            return;
        }
        assert_eq!(finished.code(), Some(1), "{nth}: {hit}\n{finished}");
        assert!(finished.stderr.contains("error: "), "{finished}");
        ensure_state(pool, &before);
        pool.lovol("check").ok("");
    }
}

#[test]
fn a_create_whose_fsync_fails_leaves_nothing() {
    let pool = TestPool::new();
    fails_at_each(&pool, "fsync", "EIO", || {
        pool.lovol("create new 20M --fs ext4")
    });
}

#[test]
fn a_snapshot_whose_fsync_fails_leaves_nothing() {
    let pool = TestPool::new();
    pool.mounted("home", "20M --fs ext4");
    fails_at_each(&pool, "fsync", "EIO", || pool.lovol("snapshot home@a"));
}

#[test]
fn a_clone_whose_fsync_fails_leaves_nothing() {
    let pool = TestPool::new();
    pool.lovol("create home 20M --fs ext4").ok_any();
    fails_at_each(&pool, "fsync", "EIO", || pool.lovol("clone home copy"));
}

#[test]
fn a_snapshot_whose_guest_cannot_write_back_leaves_nothing() {
    let pool = TestPool::new();
    pool.mounted("home", "20M --fs ext4");
    fails_at_each(&pool, "syncfs+", "EIO", || pool.lovol("snapshot home@a"));
}

#[test]
fn a_write_without_space_leaves_the_old_index() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    let log = pool.temp().join("strace");
    for words in ["create new 1M --fs none", "snapshot home@a", "delete home"] {
        // Also without what the ballast gives up.
        let options = "-e trace=write -e inject=write:error=ENOSPC:when=1..2";
        ensure_unchanged(&pool, || {
            pool.lovol(words)
                .strace(&log, options)
                .fails(1, "No space left")
        });
        pool.lovol("check").ok("");
    }
    // With it, one failure is none.
    let options = "-e trace=write -e inject=write:error=ENOSPC:when=1";
    pool.lovol("create new 1M --fs none")
        .strace(&log, options)
        .ok("new\n");
}

#[test]
fn a_record_that_cannot_be_set_leaves_nothing() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    let log = pool.temp().join("strace");
    for words in ["create new 1M --fs none", "snapshot home@a"] {
        ensure_unchanged(&pool, || {
            let options = "-e trace=fsetxattr -e inject=fsetxattr:error=ENOSPC";
            let said = pool.lovol(words).strace(&log, options).fails(1, "");
            assert!(said.contains("hint: "), "{said}");
        });
    }
}

#[test]
fn a_full_pool_refuses_and_keeps_what_it_has() {
    // The least that mkfs.xfs makes.
    let pool = TestPool::sized(300 << 20);
    pool.lovol("set reserve=none").ok("");
    let home = pool.mounted("home", "20M --fs ext4");
    pool.sh("echo precious > $TEMP/home/letter; umount $TEMP/home");
    pool.lovol("snapshot home@keep").ok_any();
    pool.lovol("create small 1M --fs none").ok_any();
    pool.sh("for size in 1M 64K 4K; do
           dd if=/dev/zero of=$POOL/fill.$size bs=$size 2>/dev/null || true
           sync --file-system $POOL
         done");

    let mut failed = 0;
    for round in 0..40 {
        let before = state(&pool);
        let command = pool.lovol("snapshot").arg(format!("home@s{round}"));
        let finished = command.finish();
        if finished.status.success() {
            continue;
        }
        failed += 1;
        assert_eq!(finished.code(), Some(1), "{finished}");
        assert!(finished.stderr.contains("No space left"), "{finished}");
        assert!(finished.stderr.contains("full"), "{finished}");
        ensure_state(&pool, &before);
    }
    assert!(failed > 0, "the pool is not full");
    pool.lovol("set reserve=").ok("");
    pool.lovol("snapshot home@none")
        .fails(1, "of it is its reserve");

    // To rename and to delete is always possible.
    pool.lovol("rename home house").ok_any();
    pool.lovol("rename house home").ok_any();
    pool.lovol("rename home@keep kept").ok_any();
    pool.lovol("hold home@kept").ok_any();
    pool.lovol("release home@kept").ok_any();
    pool.lovol("delete small").ok("");
    pool.lovol("undelete small").ok("small\n");
    pool.lovol("delete small").ok("");
    pool.lovol("purge -y small").ok_any();
    pool.lovol("prune home --named --keep-last 1").ok_any();
    pool.lovol("delete home@kept").ok("");
    pool.sh("rm $POOL/fill.*");
    pool.lovol("check").ok("");
    pool.lovol("snapshot home@after").ok("home@after\n");
    pool.lovol("mount home").arg(home).ok_any();
    assert_eq!(pool.sh("cat $TEMP/home/letter"), "precious");
}

#[test]
fn a_guest_that_lost_writes_long_ago_is_taken_with_a_warning() {
    let pool = TestPool::sized(300 << 20);
    pool.mounted("home", "200M --fs ext4");
    // The guest's own file has its blocks, the pool has none for them, and nobody has asked yet.
    pool.sh(
        "fill() { dd if=/dev/zero of=$POOL/trash/fill bs=$1 oflag=append conv=notrunc status=none || true; }
         fill 1M; fill 4K; sync --file-system $POOL
         head -c 40M /dev/zero | tr '\\0' x > $TEMP/home/new; sync
         rm $POOL/trash/fill; sync --file-system $POOL",
    );
    let finished = pool.lovol("snapshot home@a").finish();
    assert_eq!(finished.code(), Some(0), "{finished}");
    let said = "warning: writing home back has failed before";
    assert!(finished.stderr.contains(said), "{finished}");
    let again = pool.lovol("snapshot home@b").finish();
    assert_eq!(again.stderr, "", "{again}");
}

/// A pool with two volumes, three snapshots, and something in the trash.
#[track_caller]
fn filled() -> TestPool {
    let pool = TestPool::new();
    for words in [
        "create home 20M --fs ext4",
        "create var 1M --fs none",
        "create gone 1M --fs none",
        "snapshot home@a",
        "snapshot home@b",
        "snapshot gone@a",
        "delete -r gone",
    ] {
        pool.lovol(words).ok_any();
    }
    pool
}

#[track_caller]
fn listed(pool: &TestPool) -> (Value, Value) {
    let volumes = pool.lovol("list -a -J").json();
    let mut trash = pool.lovol("list --trash -J").json();
    // Its name in the trash knows the second only.
    trash["trash"][0]["deleted"].take();
    (volumes, trash)
}

#[test]
fn a_broken_index_is_rebuilt_from_the_images() {
    let pool = filled();
    let before = listed(&pool);
    for damage in [
        "truncate -s 0 $POOL/index.json",
        "truncate -s 100 $POOL/index.json",
        "head -c 1000 /dev/urandom > $POOL/index.json",
        "echo '{}' > $POOL/index.json",
        "rm $POOL/index.json",
        "sed -i s/home/h0me/g $POOL/index.json",
        "sed -i 's/\"volumes\":{/\"volumes\":{\"..\":{},/' $POOL/index.json",
        "python3 -c 'print(\"[\" * 100000)' > $POOL/index.json",
    ] {
        let _round = Round::of(damage);
        let images = pool.sh("sha256sum $POOL/volumes/* $POOL/snapshots/*/*");
        pool.sh(damage);
        ensure_unchanged(&pool, || {
            pool.lovol("check").fails(1, "wrong");
            if !damage.starts_with("sed") || damage.contains("..") {
                let said = pool.lovol("create new 1M --fs none").fails(1, "index");
                assert!(said.contains("check --repair"), "{said}");
            }
        });

        pool.lovol("check --repair").ok("");
        assert_eq!(listed(&pool), before);
        let after = pool.sh("sha256sum $POOL/volumes/* $POOL/snapshots/*/*");
        assert_eq!(after, images);
    }
}

#[test]
fn an_index_from_the_future_is_not_touched() {
    let pool = filled();
    pool.sh("sed -Ei 's/\"version\": *[0-9]+/\"version\":99/' $POOL/index.json");
    ensure_unchanged(&pool, || {
        for words in [
            "create new 1M --fs none",
            "snapshot home@c",
            "delete home@a",
            "rename var var2",
            "undelete gone",
            "check",
            "check --repair",
            "list",
        ] {
            let finished = pool.lovol(words).finish();
            assert_eq!(finished.code(), Some(1), "{finished}");
            let said = format!("{}{}", finished.stdout, finished.stderr);
            assert!(said.contains("99"), "{finished}");
        }
    });
}

#[test]
fn fields_that_a_newer_lovol_wrote_are_kept() {
    let pool = filled();
    pool.sh(r#"sed -i 's/^{/{"a-new-field":{"x":1},/' $POOL/index.json"#);
    pool.lovol("snapshot home@c").ok_any();
    let index: Value =
        serde_json::from_slice(&fs::read(pool.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["a-new-field"]["x"], 1);
}

/// `lovol check -J`: kinds and what they are about.
#[track_caller]
fn found(pool: &TestPool) -> Vec<(String, String)> {
    let finished = pool.lovol("check -J").finish();
    let checked: Value = serde_json::from_str(&finished.stdout).unwrap();
    let found = checked["findings"].as_array().unwrap();
    assert_eq!(finished.code(), Some(i32::from(!found.is_empty())));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    found
        .iter()
        .map(|finding| (text(finding, "kind"), text(finding, "what")))
        .collect()
}

#[test]
fn what_somebody_did_by_hand_is_named_and_nothing_else_suffers() {
    let pool = TestPool::new();
    for name in ["missing", "grown", "copied", "one", "other", "well"] {
        pool.lovol(&format!("create {name} 1M --fs none")).ok_any();
    }
    pool.sh("cd $POOL/volumes
         rm missing.img
         truncate -s +1M grown.img
         cp --archive --reflink=always copied.img copy.img
         mv one.img swap; mv other.img one.img; mv swap other.img");

    ensure_unchanged(&pool, || {
        let found = found(&pool);
        let has = |kind: &str, what: &str| {
            assert!(
                found.iter().any(|(k, w)| k == kind && w.contains(what)),
                "no {kind} of {what}: {found:?}"
            );
        };
        has("missing-image", "missing.img");
        has("size", "grown.img");
        has("duplicate-uuid", "copied");
        has("unindexed", "copy.img");
        has("differs", "one.img");
        has("differs", "other.img");
        assert!(!found.iter().any(|(_, what)| what.contains("well")));
    });

    pool.lovol("snapshot well@a").ok_any();
    pool.lovol("clone well@a well2").ok_any();
    pool.lovol("rename well2 well3").ok_any();
    pool.lovol("delete -r well").ok_any();
    pool.lovol("list -a").ok_any();
    ensure_unchanged(&pool, || {
        pool.lovol("snapshot missing@a").fails(1, "missing");
        pool.lovol("attach missing").fails(1, "missing");
    });
    // What cannot be mended without an image is still named then.
    pool.lovol("check --repair").fails(1, "wrong");
    let found = found(&pool);
    let kinds: Vec<&str> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["size", "duplicate-uuid"], "{found:?}");
}

#[test]
fn a_foreign_file_in_a_directory_does_not_stop_the_pool() {
    let pool = filled();
    pool.sh("touch $POOL/README $POOL/snapshots/home/README");
    pool.lovol("delete home@a%b").finish();
    pool.lovol("create new 1M --fs none").ok("new\n");

    pool.sh("for dir in $POOL/trash/gone@*; do touch $dir/README; done");
    pool.lovol("undelete gone").finish();
    pool.lovol("create newer 1M --fs none").ok("newer\n");
    let kinds = found(&pool);
    assert!(kinds.iter().all(|(kind, _)| kind == "foreign"), "{kinds:?}");
    let stray = pool.path().join("README").display().to_string();
    assert!(kinds.iter().any(|(_, what)| *what == stray), "{kinds:?}");
}

/// A file that no lovol has any business with, and a way to see that none had.
struct Secret<'p>(&'p TestPool);

impl Secret<'_> {
    const LOOK: &'static str = "stat -c '%i %s %a %u:%g %Y %Z %h' $TEMP/secret $POOL/secret; \
                                cat $TEMP/secret $POOL/secret; ls -A $TEMP/outside";

    #[track_caller]
    fn look(&self) -> String {
        self.0.sh(Self::LOOK)
    }
}

#[test]
fn what_is_planted_in_the_pool_leads_nowhere() {
    let pool = TestPool::new();
    pool.lovol("create home 20M --fs ext4").ok_any();
    pool.lovol("snapshot home@keep").ok_any();
    for name in ["symlink", "hardlink", "fifo", "device", "directory"] {
        pool.lovol(&format!("create {name} 1M --fs none")).ok_any();
        pool.sh(&format!("rm $POOL/volumes/{name}.img"));
    }
    pool.dir("outside");
    pool.sh("echo secret > $TEMP/secret; echo secret > $POOL/secret
         cd $POOL/volumes
         ln -s $TEMP/secret symlink.img
         ln $POOL/secret hardlink.img
         mkfifo fifo.img
         mknod device.img b 7 0
         mkdir directory.img
         ln -s $TEMP/secret unknown.img
         mkdir $POOL/snapshots/symlink
         ln -s $TEMP/secret $POOL/snapshots/symlink/a.img");
    let secret = Secret(&pool);
    let before = secret.look();

    ensure_unchanged(&pool, || {
        for name in ["symlink", "hardlink", "fifo", "device", "directory"] {
            for words in [
                "attach NAME",
                "mount NAME $TEMP/outside",
                "snapshot NAME@a",
                "snapshot NAME@a --crash",
                "clone NAME copy",
                "rename NAME renamed",
                "delete -r NAME",
                "delete -r NAME --now -y",
                "create NAME 1M --fs none",
            ] {
                let words = words
                    .replace("NAME", name)
                    .replace("$TEMP", pool.temp().to_str().unwrap());
                let finished = pool.lovol(&words).finish();
                assert_eq!(finished.code(), Some(1), "{finished}");
            }
        }
        pool.lovol("create unknown 1M --fs none")
            .fails(1, "unknown.img");
        pool.lovol("clone home unknown").fails(1, "unknown.img");
        let foreign = found(&pool);
        for name in ["symlink", "hardlink", "fifo", "device", "directory"] {
            let file = format!("volumes/{name}.img");
            let is_named = |(kind, what): &(String, String)| {
                (kind == "foreign" || kind == "missing-image") && what.ends_with(&file)
            };
            assert!(foreign.iter().any(is_named), "{name}: {foreign:?}");
        }
    });
    pool.lovol("list -a").ok_any();
    pool.lovol("check --repair").fails(1, "");
    assert_eq!(secret.look(), before);
    pool.lovol("snapshot home@a").ok_any();
}

#[test]
fn a_directory_of_the_pool_that_is_a_symlink_leads_nowhere() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    let outside = pool.dir("outside");
    symlink(&outside, pool.path().join("snapshots/home")).unwrap();

    ensure_unchanged(&pool, || {
        pool.lovol("snapshot home@a").fails(1, "");
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);

    for dir in ["volumes", "snapshots", "trash"] {
        pool.sh(&format!(
            "mv $POOL/{dir} $POOL/{dir}.away; ln -s $TEMP/outside $POOL/{dir}"
        ));
        for words in ["create new 1M --fs none", "snapshot home@a", "delete home"] {
            let finished = pool.lovol(words).finish();
            let is_touched = dir == "volumes" || (dir == "snapshots") == words.contains('@');
            if is_touched && !(dir == "trash" && words.contains("create")) {
                assert_ne!(finished.code(), Some(0), "{dir}: {finished}");
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{finished}");
        }
        pool.sh(&format!(
            "rm $POOL/{dir}; mv $POOL/{dir}.away $POOL/{dir}; lovol delete new || true"
        ));
    }
}

#[test]
fn a_pool_may_be_named_by_a_symlink() {
    let pool = TestPool::new();
    let link = pool.temp().join("link");
    symlink(pool.path(), &link).unwrap();
    pool.lovol("create home 1M --fs none")
        .env("LOVOL_POOL", &link)
        .ok("home\n");
    assert!(pool.image("home").exists());
}

#[track_caller]
fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_pool_that_others_may_write_to_or_replace_is_refused() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    let verbs = ["create new 1M --fs none", "snapshot home@a", "delete home"];
    let refused = |what: &str| {
        for words in verbs {
            let said = pool.lovol(words).fails(1, "cannot use the pool");
            assert!(said.contains(what) && said.contains("hint: "), "{said}");
        }
    };

    for mode in [0o777, 0o775, 0o1777] {
        set_mode(pool.path(), mode);
        refused("written to by others");
    }
    set_mode(pool.path(), 0o755);
    for mode in [0o777, 0o775] {
        set_mode(pool.temp(), mode);
        refused("written to by others");
    }
    set_mode(pool.temp(), 0o1777);
    pool.lovol("snapshot home@sticky").ok_any();
    set_mode(pool.temp(), 0o755);
    pool.sh("chown 65534 $POOL");
    refused("belong to root");
    pool.sh("chown 0 $POOL; chown 65534 $TEMP");
    refused("belong to root");
    pool.sh("chown 0 $TEMP");
    assert!(!pool.image("new").exists());
    pool.lovol("check").ok("");
}

/// Puts an intent into the index, as a lovol leaves it that is killed between two steps.
#[track_caller]
fn leave_intent(pool: &TestPool, steps: &Value) {
    let path = pool.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["intents"] = serde_json::json!([steps]);
    fs::write(&path, index.to_string()).unwrap();
}

/// The steps by which `home` goes to the trash, and more behind them.
fn deletion(id: &str, more: &[Value]) -> Value {
    let trash = format!("trash/{id}");
    let mut steps = vec![
        serde_json::json!({"step": "make-dir", "path": trash}),
        serde_json::json!({"step": "move", "from": "volumes/home.img", "to": format!("{trash}/volume.img")}),
        serde_json::json!({"step": "move", "from": "snapshots/home", "to": format!("{trash}/snapshots")}),
        serde_json::json!({"step": "trash", "volume": "home", "id": id, "deleted": "2026-01-01T00:00:00Z"}),
    ];
    steps.extend_from_slice(more);
    Value::Array(steps)
}

#[test]
fn what_is_in_use_by_now_is_not_moved_to_finish_what_was_begun() {
    let pool = filled();
    let id = "home@20260101T000000Z";
    pool.sh(&format!("mkdir -m 700 $POOL/trash/{id}"));
    leave_intent(&pool, &deletion(id, &[]));
    pool.sh("mkdir $TEMP/m; mount -o loop $POOL/volumes/home.img $TEMP/m");
    pool.lovol("create new 1M --fs none").ok("new\n");
    assert!(pool.image("home").exists());
    pool.lovol("check").ok("");
    pool.sh("umount $TEMP/m");
}

#[test]
fn what_is_in_use_by_now_is_not_deleted_for_good_either() {
    let pool = filled();
    // Killed behind the first step of a 'delete --now -r'; the next mounts it.
    let id = "home@20260101T000000Z";
    let trash = format!("trash/{id}");
    let for_good = [
        serde_json::json!({"step": "forget-trash", "id": id}),
        serde_json::json!({"step": "remove", "path": format!("{trash}/snapshots/a.img")}),
        serde_json::json!({"step": "remove-dir", "path": format!("{trash}/snapshots")}),
        serde_json::json!({"step": "remove", "path": format!("{trash}/volume.img")}),
        serde_json::json!({"step": "remove-dir", "path": trash}),
    ];
    leave_intent(&pool, &deletion(id, &for_good));
    pool.sh(&format!(
        "mkdir $POOL/{trash} $TEMP/m; mount -o loop $POOL/volumes/home.img $TEMP/m"
    ));
    pool.lovol("create new 1M --fs none").ok("new\n");
    assert!(pool.image("home").exists());
    assert!(pool.snapshot_image("home", "a").exists());
    pool.lovol("check").ok("");
    pool.sh("umount $TEMP/m");
}

#[test]
fn an_exchange_that_was_taken_back_is_not_begun_again() {
    let pool = filled();
    // Killed, or out of order, just before the index was to forget it: the new image is gone already.
    let id = "home@20260101T000000Z";
    leave_intent(
        &pool,
        &serde_json::json!([
            {"step": "make-dir", "path": format!("trash/{id}")},
            {
                "step": "exchange",
                "path": "volumes/home.img",
                "with": format!("trash/{id}/volume.img"),
                "uuid": "00000000-0000-4000-8000-000000000000",
            },
            {"step": "move", "from": "snapshots/home", "to": format!("trash/{id}/snapshots")},
            {"step": "trash", "volume": "home", "id": id, "deleted": "2026-01-01T00:00:00Z"},
        ]),
    );
    pool.lovol("create new 1M --fs none").ok("new\n");
    assert!(pool.snapshot_image("home", "a").exists());
    pool.lovol("check").ok("");
}

#[test]
fn a_rollback_goes_on_where_the_pool_is_full() {
    let pool = filled();
    // What it was gets the record of a snapshot.
    let log = pool.temp().join("strace");
    pool.lovol("rollback home@a")
        .strace(
            &log,
            "-e trace=setxattr -e inject=setxattr:error=ENOSPC:when=1",
        )
        .ok_any();
    assert_eq!(Trace::read(&log).injected(), 1);
    pool.lovol("check").ok("");
}

#[test]
fn what_a_newer_lovol_says_of_a_volume_is_kept() {
    let pool = filled();
    let path = pool.path().join("index.json");
    let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
    let mut index = read();
    index["volumes"]["home"]["future"] = "kept".into();
    fs::write(&path, index.to_string()).unwrap();
    for words in [
        "set home user:a=1",
        "snapshot home@c",
        "delete -r home",
        "undelete home",
    ] {
        pool.lovol(words).ok_any();
    }
    // What the index lacks is found again by making it anew.
    let mut index = read();
    index["volumes"].as_object_mut().unwrap().remove("var");
    fs::write(&path, index.to_string()).unwrap();
    pool.lovol("check --repair").ok("");
    let index = read();
    assert!(index["volumes"]["var"].is_object(), "{index}");
    assert_eq!(index["volumes"]["home"]["future"], "kept", "{index}");
}

#[test]
fn what_cannot_be_finished_is_not_repaired_away() {
    let pool = filled();
    // Something lies where it is to be moved to.
    pool.sh("cp --preserve=all $POOL/volumes/home.img $POOL/volumes/other.img");
    let steps = serde_json::json!([
        {"step": "move", "from": "volumes/home.img", "to": "volumes/other.img"},
        {"step": "move", "from": "snapshots/home", "to": "snapshots/other"},
        {"step": "rename-volume", "from": "home", "to": "other"},
    ]);
    leave_intent(&pool, &steps);
    let said = pool.lovol("check --repair").finish();
    assert_eq!(said.code(), Some(1), "{said}");
    assert!(said.stdout.contains("has not finished"), "{said}");
    pool.sh("rm $POOL/volumes/other.img");
    pool.lovol("check --repair").ok("");
    pool.lovol("list other --no-header -o name").ok("other\n");
}

#[test]
fn what_takes_the_place_of_a_rolled_back_volume_is_not_called_what_it_was() {
    let pool = filled();
    // Killed before the exchange; by the time it is to be finished, somebody uses the volume.
    let clone = pool.lovol("clone home@a -J new").json();
    let uuid = clone["volumes"][0]["uuid"].as_str().unwrap();
    let image = "snapshots/home/before-rollback-20260101T000000Z.img";
    pool.sh(&format!("mv $POOL/volumes/new.img $POOL/{image}"));
    let mut index: Value =
        serde_json::from_slice(&fs::read(pool.path().join("index.json")).unwrap()).unwrap();
    index["volumes"].as_object_mut().unwrap().remove("new");
    fs::write(pool.path().join("index.json"), index.to_string()).unwrap();
    leave_intent(
        &pool,
        &serde_json::json!([
            {"step": "exchange", "path": "volumes/home.img", "with": image, "uuid": uuid},
        ]),
    );
    pool.sh("mkdir $TEMP/m; mount -o loop $POOL/volumes/home.img $TEMP/m");
    pool.lovol("check --repair").ok("");
    assert!(!pool.path().join(image).exists());
    pool.sh("umount $TEMP/m");
}

#[test]
fn what_was_begun_is_finished_before_anything_is_looked_up() {
    let pool = filled();
    let id = "home@20260101T000000Z";
    leave_intent(&pool, &deletion(id, &[]));
    let said = pool
        .lovol("snapshot home@c")
        .fails(1, "no volume named home");
    assert!(said.contains("lovol undelete home"), "{said}");
    pool.lovol("undelete home").ok("home\n");
    pool.lovol("check").ok("");
}

/// As a lovol leaves it that is killed just before it moves something there.
#[test]
fn an_empty_directory_in_the_trash_is_swept() {
    let pool = filled();
    pool.sh("mkdir $POOL/trash/home@20261121T101500Z");
    pool.lovol("check --repair -n")
        .ok("would remove the directory trash/home@20261121T101500Z\n");
    pool.lovol("check --repair").ok_any();
    assert_eq!(pool.sh("ls $POOL/trash | grep home@ || true"), "");
    pool.lovol("check").ok("");
}

#[test]
fn what_cannot_be_removed_stops_nobody() {
    let pool = filled();
    pool.sh("chattr +i $POOL/snapshots/home/b.img");
    let said = pool
        .lovol("delete home@a%b")
        .fails(4, "could not be taken back");
    assert!(
        said.contains("home/b.img") && said.contains("not permitted"),
        "{said}"
    );
    pool.lovol("create new 1M --fs none").ok("new\n");
    // The index does not name it, and it is there.
    let kinds = found(&pool);
    assert_eq!(kinds[0].0, "unindexed", "{kinds:?}");
    pool.sh("chattr -i $POOL/snapshots/home/b.img");
    pool.lovol("check --repair").ok("");
    pool.lovol("list -a home --no-header -o name")
        .ok("home\nhome@b\n");
}
