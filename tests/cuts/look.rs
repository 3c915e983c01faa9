//! Looking into the images of a pool after a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lovol::index::Index;

use super::state::{Guest, State, bytes, snapshot_of};
use crate::support::{
    Numbers, Round, TestPool, kernel_tells_twins_apart, lovol, restore_btrfs, sh, wait_until,
};

/// Each guest mounts, replays its log, holds its files, and passes its fsck; and lovol's view of one
/// snapshot shows the same.
pub(super) fn into_all(outer: &TestPool, pool: &Path, state: &State, numbers: &mut Numbers) {
    let paths = paths(pool);
    for (name, guest) in &state.0 {
        let _round = Round::of(format!("{name}: {guest:?}"));
        // The log is replayed in a copy: a snapshot's own bytes never change.
        let copy = pool.join("copy");
        sh(&format!(
            "cp --reflink=always {} {}",
            pool.join(&paths[name]).display(),
            copy.display()
        ));
        into(outer, guest, &copy);
    }
    let is_snapshot =
        |name: &str| name.contains('@') && !name.starts_with("trash/") && !name.ends_with("@auto");
    let snapshots = state.select(is_snapshot);
    if !snapshots.is_empty() {
        let name = numbers.pick(&snapshots);
        let dir = outer.dir("view");
        let at = |words: &str| lovol(words).env("LOVOL_POOL", pool);
        at(&format!("mount {name}")).arg(&dir).ok("");
        must_hold(&dir, &state.0[name]);
        // Whoever looks at what others have open may keep it for a moment.
        wait_until("the view is unmounted", Duration::from_secs(60), || {
            at("umount").arg(&dir).finish().code() == Some(0)
        });
    }
}

/// Where the images are.
fn paths(pool: &Path) -> BTreeMap<String, PathBuf> {
    let index = Index::parse(&std::fs::read(pool.join("index.json")).unwrap()).unwrap();
    let mut paths = BTreeMap::new();
    for (name, volume) in &index.volumes {
        paths.insert(name.to_string(), format!("volumes/{name}.img").into());
        for snapshot in volume.snapshots.keys() {
            let path = format!("snapshots/{name}/{snapshot}.img").into();
            paths.insert(snapshot_of(name.as_str(), snapshot), path);
        }
    }
    for (id, trashed) in &index.trash {
        let name = format!("trash/{}", trashed.name);
        for snapshot in trashed.volume.snapshots.keys() {
            let path = format!("trash/{id}/snapshots/{snapshot}.img").into();
            paths.insert(snapshot_of(&name, snapshot), path);
        }
        paths.insert(name, format!("trash/{id}/volume.img").into());
    }
    paths
}

fn into(outer: &TestPool, guest: &Guest, copy: &Path) {
    let dir = outer.dir("copy");
    if guest.fs == "btrfs" && !kernel_tells_twins_apart() {
        // That leaves its log alone; images whose files are known have an empty one.
        restore_btrfs(copy, &dir);
        must_hold(&dir, guest);
        sh(&format!("rm -rf {} {}", dir.display(), copy.display()));
        return;
    }
    let (copy, shown) = (copy.display(), dir.display());
    let (option, check) = match guest.fs {
        "xfs" => ("loop,nouuid", "xfs_repair -n -f"),
        "ext4" => ("loop", "e2fsck -fn"),
        _ => ("loop", "btrfs check --readonly"),
    };
    sh(&format!("mount -o {option} {copy} {shown}"));
    must_hold(&dir, guest);
    // Whoever looks at all mounts, or has a copy of their table, may keep it for a moment.
    wait_until("the copy is free", Duration::from_secs(60), || {
        sh(&format!("umount {shown} 2> /dev/null || true"));
        sh(&format!("losetup --noheadings -j {copy}")).is_empty()
    });
    sh(&format!("{check} {copy} 2>&1; rm {copy}"));
}

/// The files are exactly these, byte for byte.
fn must_hold(dir: &Path, guest: &Guest) {
    let Some(files) = &guest.files else { return };
    let expected = files
        .iter()
        .map(|(name, seed)| (name.clone(), bytes(*seed)));
    let expected: BTreeMap<_, _> = expected.collect();
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name != "lost+found");
    let read = |name: String| {
        let content = std::fs::read(dir.join(&name)).unwrap();
        (name, content)
    };
    let found: BTreeMap<_, _> = names.map(read).collect();
    assert_eq!(lengths(&found), lengths(&expected));
    assert!(found == expected, "the bytes are others");
}

fn lengths(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&String, usize> {
    files
        .iter()
        .map(|(name, bytes)| (name, bytes.len()))
        .collect()
}
