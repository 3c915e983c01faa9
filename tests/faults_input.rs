//! What no lovol can do: names and sizes that are none, no root, no loop devices, no mkfs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;

use crate::support::{TestPool, ensure_unchanged, lovol};

/// None of these may become a file's name or a terminal's command.
fn bad_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        ".hidden",
        "-",
        "_",
        "a b",
        "a\nb",
        "a\tb",
        "\x1b]0;title\x07",
        "\x1b[2J",
        "a\u{202e}b",
        "a\u{200b}b",
        "ä",
        "a%b",
        "a*",
        "a$b",
        "a\\b",
        "a:b",
        "a,b",
        "a@b@c",
        "a@",
        "@a",
        "a@..",
        "a@-b",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.push(b"a\xff".to_vec());
    names.push(vec![b'a'; 65]);
    names.push(vec![b'a'; 300]);
    names
}

#[test]
fn names_that_are_none_are_refused() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    ensure_unchanged(&pool, || {
        for name in bad_names() {
            let name = OsStr::from_bytes(&name);
            for words in [
                "create --fs none --",
                "snapshot --",
                "rename -- home",
                "clone -- home",
            ] {
                let command = pool.lovol(words).arg(name);
                let command = if words.starts_with("create") {
                    command.arg("1M")
                } else {
                    command
                };
                let finished = command.finish();
                assert_eq!(finished.code(), Some(2), "{name:?} {finished}");
                assert_eq!(finished.stdout, "");
                let is_obeyed =
                    |c: char| (c.is_control() && !"\n\t".contains(c)) || c == '\u{202e}';
                assert!(
                    !finished.stderr.contains(is_obeyed),
                    "{name:?} {:?}",
                    finished.stderr
                );
            }
        }
    });
}

#[test]
fn a_path_of_any_bytes_is_worked_on_and_shown_as_far_as_json_can() {
    let pool = TestPool::new();
    let odd = OsStr::from_bytes(b"od\xffd");
    let shown = "od\u{fffd}d";
    pool.mounted("home", "64M --fs ext4");
    pool.sh("touch $TEMP/home/$'od\\xffd'; lovol snapshot home@a; rm $TEMP/home/od*");
    let diff = pool.lovol("diff home@a home -J").json();
    assert_eq!(diff["changes"][0]["path"], shown);
    let source = OsStr::from_bytes(b"home@a:od\xffd");
    let steps = pool.lovol("restore -n -J").arg(source).arg(odd).json();
    assert!(
        steps["plan"][0]["text"].as_str().unwrap().contains("od"),
        "{steps}"
    );
    let restored = pool.lovol("restore -J").arg(source).arg(odd).json();
    let path = restored["restored"][0]["path"].as_str().unwrap();
    assert!(path.ends_with(shown), "{path}");
    assert!(pool.temp().join(odd).exists());
}

#[test]
fn a_terminal_is_told_nothing_that_it_would_obey() {
    let pool = TestPool::new();
    let said = pool.sh(r#"for verb in "" create snapshot "list --"; do
             script --quiet --command \
               "lovol $verb \"\$(printf 'a\033]0;title\007b')\"" /dev/null || true
           done"#);
    assert!(said.contains("error"), "{said:?}");
    assert!(!said.contains("\x1b]"), "{said:?}");
}

#[test]
fn paths_and_options_are_no_names() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    ensure_unchanged(&pool, || {
        for name in [
            "a/b",
            "/",
            "/etc/passwd",
            "../escape",
            "-rf",
            "--force",
            "-",
        ] {
            pool.lovol("create").arg(name).arg("1M").fails(2, "");
        }
        for name in ["a/b", "-rf"] {
            pool.lovol("rename home").arg(name).fails(2, "");
        }
        let long = "a".repeat(65);
        pool.lovol("snapshot")
            .arg(format!("home@{long}"))
            .fails(2, "64");
    });
    let longest = "a".repeat(64);
    pool.lovol("create --fs none")
        .arg(&longest)
        .arg("1M")
        .ok_any();
    pool.lovol("snapshot")
        .arg(format!("{longest}@{longest}"))
        .ok_any();
    pool.lovol("delete -r").arg(&longest).ok_any();
    pool.lovol("undelete").arg(&longest).ok_any();
    pool.lovol("check").ok("");
}

#[test]
fn names_that_differ_only_in_case_are_different() {
    let pool = TestPool::new();
    for name in ["home", "Home", "HOME"] {
        pool.lovol("create --fs none").arg(name).arg("1M").ok_any();
    }
    let list = pool.lovol("list -J").json();
    assert_eq!(list["volumes"].as_array().unwrap().len(), 3);
}

#[test]
fn sizes_that_are_none_are_refused() {
    let pool = TestPool::new();
    ensure_unchanged(&pool, || {
        for size in [
            "0", "-1", "1.5X", "99E", "", " ", "G", "1 G", "0x10", "nan", "50GG",
        ] {
            let finished = pool.lovol("create new --fs none --").arg(size).finish();
            assert_eq!(finished.code(), Some(2), "{size:?} {finished}");
            let finished = pool.lovol("create new").arg(size).finish();
            assert_eq!(finished.code(), Some(2), "{size:?} {finished}");
        }
        // As text, and with the least that would do.
        for (words, least) in [
            ("create new 200M", "300M"),
            ("create new 200M --fs xfs", "300M"),
            ("create new 1M --fs btrfs", "M"),
        ] {
            let said = pool.lovol(words).fails(2, "too small");
            assert!(said.contains(least), "{said}");
        }
        pool.lovol("create new 300M --fs ntfs").fails(2, "ext4");
    });
}

#[test]
fn without_root_it_lists_and_says_what_needs_root() {
    let pool = TestPool::new();
    pool.mounted("home", "20M --fs ext4");
    pool.lovol("snapshot home@a").ok_any();
    let dir = pool.dir("dir");
    let nobody = |words: &str| {
        pool.lovol(words).with(|command| {
            command.uid(65534).gid(65534);
        })
    };
    ensure_unchanged(&pool, || {
        for words in [
            "create new 1M --fs none",
            "snapshot home@b",
            "attach home",
            "detach home",
            "umount home",
            "clone home copy",
            "rename home@a b",
            "delete -r home",
            "undelete home",
            "purge --all -y",
            "check",
            "check --repair",
        ] {
            let said = nobody(words).fails(1, "root");
            assert!(said.contains("hint: "), "{words}: {said}");
        }
        nobody("mount home").arg(&dir).fails(1, "root");
        let list = nobody("list -a -J").json();
        assert_eq!(list["volumes"][0]["name"], "home");
        assert_eq!(list["volumes"][0]["snapshots"][0]["name"], "a");
        assert!(nobody("list -a").ok_any().contains("home@a"));
        nobody("show home").ok_any();
    });
}

#[test]
fn without_loop_control_it_says_so() {
    let pool = TestPool::new();
    pool.lovol("create home 20M --fs ext4").ok_any();
    let dir = pool.dir("dir");
    pool.dir("dev");
    let hidden = "mount -t tmpfs -o mode=755 tmpfs dev; \
                  cp -a /dev/null /dev/urandom /dev/loop[0-9]* dev/; mount --bind dev /dev";
    ensure_unchanged(&pool, || {
        for command in [
            pool.lovol("attach home"),
            pool.lovol("mount home").arg(&dir),
            pool.lovol("create new 20M --fs ext4"),
        ] {
            let said = command.in_namespace(hidden).fails(1, "/dev/loop-control");
            assert!(said.contains("modprobe loop"), "{said}");
        }
    });
}

#[test]
fn without_mkfs_it_names_the_package() {
    let pool = TestPool::new();
    ensure_unchanged(&pool, || {
        for (fs, size, package) in [
            ("xfs", "300M", "xfsprogs"),
            ("ext4", "20M", "e2fsprogs"),
            ("btrfs", "200M", "btrfs-progs"),
        ] {
            let said = pool
                .lovol(&format!("create new {size} --fs {fs}"))
                .in_namespace("mount -t tmpfs tmpfs /usr/sbin")
                .fails(1, &format!("mkfs.{fs} is not installed"));
            assert!(
                said.contains(&format!("install the package {package}")),
                "{said}"
            );
        }
    });
}

#[test]
fn a_mkfs_that_fails_leaves_nothing() {
    let pool = TestPool::new();
    ensure_unchanged(&pool, || {
        for fs in ["xfs", "ext4", "btrfs"] {
            let said = pool
                .lovol(&format!(
                    "create new 400M --fs {fs} --mkfs-options --no-such-option"
                ))
                .fails(1, &format!("mkfs.{fs}"));
            assert!(said.starts_with("error: "), "{said}");
        }
    });
}

#[test]
fn what_does_not_exist_is_said_to_be_missing() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    let dir = pool.dir("dir");
    ensure_unchanged(&pool, || {
        for words in [
            "attach nope",
            "detach nope",
            "umount nope",
            "snapshot nope",
            "clone nope copy",
            "rename nope nope2",
            "delete nope",
            "delete home@nope",
            "delete home nope",
            "undelete nope",
            "purge -y nope",
            "show nope",
            "list nope",
            "detach home",
            "umount home",
        ] {
            let said = pool.lovol(words).fails(1, "");
            assert!(said.starts_with("error: "), "{words}: {said}");
        }
        pool.lovol("mount nope").arg(&dir).fails(1, "nope");
        pool.lovol("mount home")
            .arg(pool.temp().join("no/dir"))
            .fails(1, "no/dir");
    });
    lovol("list")
        .env("LOVOL_POOL", pool.temp().join("nowhere"))
        .fails(1, "no pool at");
}

#[test]
fn what_is_final_asks_and_off_a_terminal_refuses() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    pool.lovol("create gone 1M --fs none").ok_any();
    pool.lovol("delete gone").ok_any();
    ensure_unchanged(&pool, || {
        for words in ["purge gone", "purge --all", "delete --now home"] {
            let said = pool.lovol(words).stdin("y\n").fails(1, "final");
            assert!(said.contains("-y"), "{said}");
        }
    });
    pool.lovol("purge gone -y").ok("");
    pool.lovol("delete --now home -y").ok("");
    pool.lovol("check").ok("");
}
