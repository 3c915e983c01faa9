//! `make install`: what it puts where, and that it can be taken away again.

use crate::support::{Scratch, sh};

/// Installed below a directory of its own, with paths that are real.
fn installed() -> Scratch {
    let scratch = Scratch::new();
    make("install", &scratch);
    scratch
}

fn make(goal: &str, scratch: &Scratch) {
    let dir = scratch.path().display();
    sh(&format!(
        "make {goal} BIN=$(command -v lovol) PREFIX={dir}/usr HELPERDIR={dir}/sbin"
    ));
}

#[test]
fn the_helper_and_the_pages_are_found() {
    let scratch = installed();
    let dir = scratch.path().display();
    let version = sh(&format!("{dir}/sbin/mount.lovol --version"));
    assert!(version.starts_with("mount.lovol "), "{version}");
    for page in ["8 lovol", "8 lovol-snapshot", "8 mount.lovol", "5 lovol"] {
        sh(&format!("man -M {dir}/usr/share/man -w {page}"));
    }
}

#[test]
fn systemd_takes_the_units() {
    let scratch = installed();
    let dir = scratch.path().display();
    let said = sh(&format!(
        "cd {dir}/usr/lib/systemd/system
        export MANPATH={dir}/usr/share/man: SYSTEMD_UNIT_PATH=$PWD:
        units=$(ls | sed 's/@/@home/')
        systemd-analyze verify $units 2>&1"
    ));
    assert_eq!(said, "");
    let exposed = sh(&format!(
        "cd {dir}/usr/lib/systemd/system; grep -L '^NoNewPrivileges=yes' *.service || true"
    ));
    // This one runs the admin's own command.
    assert_eq!(
        exposed, "lovol-watch.service",
        "hardened as far as it can be"
    );
    // What freezes is never killed together with its guardian.
    for unit in ["lovol-snapshot@.service", "lovol-provision.service"] {
        sh(&format!(
            "grep -x KillMode=process {dir}/usr/lib/systemd/system/{unit}"
        ));
    }
    // Nothing is started or enabled by installing it.
    assert_eq!(
        sh(&format!("find {dir} -name '*.wants' -o -name '*.requires'")),
        ""
    );
}

#[test]
fn what_is_installed_is_uninstalled() {
    let scratch = installed();
    make("uninstall", &scratch);
    let left = sh(&format!("find {} ! -type d", scratch.path().display()));
    assert_eq!(left, "");
}
