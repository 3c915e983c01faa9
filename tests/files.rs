//! `lovol diff` and `lovol restore`: single files of snapshots.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    Running, TestPool, children, ensure_unchanged, kernel_tells_twins_apart, wait_until,
};

#[track_caller]
fn pool(fs: &str) -> TestPool {
    let pool = TestPool::new();
    pool.mounted("home", fs);
    pool.sh(
        "cd home; mkdir -p a/deep b whole/sub; echo x > whole/sub/x; echo old > replaced; echo one > a/one; echo two > a/deep/two; echo three > b/three
         echo same > same; ln -s same link; lovol snapshot home@a
         mv a/one b/uno; echo more >> a/deep/two; rm b/three; echo new > new; chmod 700 b; mkdir c
         mv same renamed; mv whole moved; mv moved/sub/x moved/sub/y; touch whose; mv whose replaced
         lovol snapshot home@b; rm new",
    );
    pool
}

#[track_caller]
fn differs(fs: &str) {
    let pool = pool(fs);
    let differences = "M\t/a/deep/two\n\
                       R\t/a/one -> /b/uno\n\
                       M\t/b\n\
                       -\t/b/three\n\
                       +\t/c\n\
                       +\t/new\n\
                       -\t/replaced\n\
                       +\t/replaced\n\
                       R\t/same -> /renamed\n\
                       R\t/whole -> /moved\n\
                       R\t/whole/sub/x -> /moved/sub/y\n";
    ensure_unchanged(&pool, || {
        pool.lovol("diff home@a home@b").ok(differences);
        pool.lovol("diff home@a home@a").ok("");
        // To the volume that is mounted.
        pool.lovol("diff home@b").ok("-\t/new\n");
    });
    let json = pool.lovol("diff home@a home@b -J").json();
    assert_eq!(json["changes"][1]["change"], "renamed");
    assert_eq!(json["changes"][1]["to"], "b/uno");
    pool.sh("umount home");
    pool.lovol("diff home@b home").ok("-\t/new\n");
    pool.lovol("diff home").fails(2, "volume home with what?");
    assert_eq!(pool.loops(), []);
}

#[test]
fn xfs_differs() {
    differs("300M");
}

#[test]
fn ext4_differs() {
    differs("20M --fs ext4");
}

#[test]
fn btrfs_differs() {
    differs("256M --fs btrfs");
}

#[test]
fn a_file_comes_back_as_it_was_xfs() {
    a_file_comes_back_as_it_was("xfs");
}

#[test]
fn a_file_comes_back_as_it_was_ext4() {
    a_file_comes_back_as_it_was("ext4");
}

#[test]
fn a_file_comes_back_as_it_was_btrfs() {
    a_file_comes_back_as_it_was("btrfs");
}

/// rw for its owner, and r for user 1000 (linux/posix_acl_xattr.h).
#[rustfmt::skip]
const ACL: [u8; 44] = [
    2, 0, 0, 0,
    1, 0, 6, 0, 255, 255, 255, 255,
    2, 0, 4, 0, 232, 3, 0, 0,
    4, 0, 4, 0, 255, 255, 255, 255,
    16, 0, 4, 0, 255, 255, 255, 255,
    32, 0, 0, 0, 255, 255, 255, 255,
];

#[track_caller]
fn a_file_comes_back_as_it_was(fs: &str) {
    const XATTRS: [(&str, &[u8]); 2] = [("user.mine", b"yes"), ("system.posix_acl_access", &ACL)];
    let pool = TestPool::new();
    pool.mounted("home", &format!("300M --fs {fs}"));
    pool.sh(
        "cd home; mkdir -p dir/sub; echo precious > dir/letter; chmod 640 dir/letter; chown 1:2 dir/letter
         touch -d 2001-02-03 dir/letter; ln -s letter dir/link; ln dir/letter dir/hard
         truncate -s 64M dir/sparse; echo x >> dir/sparse; mknod dir/node c 1 3
         cp /bin/true dir/suid; chmod 4755 dir/suid; ln -s /etc dir/outside",
    );
    let letter = pool.dir("home").join("dir/letter");
    for (name, value) in XATTRS {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&letter, name, value, flags).unwrap();
    }
    let look = |dir: &str| {
        pool.sh(&format!(
            "cd {dir}; find . ! -type d -printf '%P %y %m %U:%G %T@ %s %l %n\\n' | sort; cat letter
             stat -c %b sparse | awk '{{ print $1 < 100 }}'"
        ))
    };
    let before = look("home/dir");
    pool.sh("lovol snapshot home@a; lovol snapshot --crash home@crash");
    ensure_unchanged(&pool, || {
        pool.lovol("restore home@a:dir/letter")
            .fails(1, "it is not replaced");
        pool.lovol("restore home@a:dir/none")
            .fails(1, "cannot find home@a:dir/none");
        pool.lovol("restore home@a:dir/outside/passwd out")
            .fails(1, "cannot find");
        pool.lovol("restore home@a:dir/../../x out")
            .fails(2, "expected VOLUME@SNAPSHOT:PATH");
        pool.lovol("restore home@none:dir")
            .fails(1, "no snapshot named home@none");
    });
    // Through no symlink of who works in the volume, nor onto one.
    pool.sh("mkdir outside; mv home/dir home/was; ln -s $TEMP/outside home/dir");
    pool.lovol("restore home@a:dir/letter")
        .fails(1, "cannot open");
    assert_eq!(pool.sh("ls -A outside"), "");
    pool.sh("rm home/dir; ln -s $TEMP/outside/new home/dir");
    pool.lovol("restore home@a:dir")
        .fails(1, "it is not replaced");
    pool.sh("rm home/dir; rm -r home/was outside");
    let to = pool.dir("home").join("dir");
    pool.lovol("restore home@a:/dir")
        .ok(&format!("{}\n", to.display()));
    assert_eq!(look("home/dir"), before);
    for (name, value) in XATTRS {
        let mut found = [0; 64];
        let length = rustix::fs::getxattr(&letter, name, &mut found[..]).unwrap();
        assert_eq!(&found[..length], value, "{name}");
    }
    // Elsewhere, into a directory, and of a crash snapshot.
    pool.sh("umount home; mkdir into");
    let crash = pool.lovol("restore home@crash:dir other");
    if fs == "btrfs" && !kernel_tells_twins_apart() {
        crash.fails(1, "before Linux 6.7");
        pool.lovol("restore home@a:dir other").ok_any();
    } else {
        crash.ok_any();
    }
    assert_eq!(look("other"), before);
    pool.lovol("restore home@a:dir/letter into").ok_any();
    assert_eq!(pool.sh("cat into/letter; ls -A into"), "precious\nletter");
    pool.lovol("restore home@a:dir/letter")
        .fails(1, "home is not mounted");
    assert_eq!(pool.loops(), []);
    assert_eq!(pool.mounts(), []);
}

/// Longer than a copy takes to begin, however busy the machine is.
const SOON: Duration = Duration::from_secs(30);

/// Stops the `cp` of a restore, so that it is not done before a signal comes to lovol.
#[track_caller]
fn signal_while_copying(restore: &mut Running, signal: Signal) {
    let mut copying = None;
    wait_until("it copies", SOON, || {
        let is_cp = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "cp\n")
        };
        copying = children(restore.pid().as_raw()).into_iter().find(is_cp);
        copying.is_some()
    });
    let copying = Pid::from_raw(copying.unwrap());
    kill(copying, Signal::SIGSTOP).unwrap();
    restore.signal(signal);
    // It may be dead by now.
    kill(copying, Signal::SIGCONT).ok();
}

#[test]
fn a_restore_that_is_ended_leaves_nothing() {
    let pool = TestPool::new();
    pool.mounted("home", "1G --fs ext4");
    pool.sh("head -c 400M /dev/urandom > home/big; lovol snapshot home@a; mkdir out");

    let mut restore = pool.lovol("restore home@a:big out/big").start();
    signal_while_copying(&mut restore, Signal::SIGTERM);
    let finished = restore.finish();
    assert_eq!(finished.signal(), Some(15), "{finished}");
    assert_eq!(pool.sh("ls -A out"), "");

    // As under nohup.
    let mut restore = pool.start("trap '' HUP; exec lovol restore home@a:big out/big");
    signal_while_copying(&mut restore, Signal::SIGHUP);
    restore.finish().expect_success();
    pool.sh("cmp home/big out/big");
}
