//! What must be so when the crowd has gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lovol::index::{Index, Volume};
use lovol::record::Record;

use super::{Bed, HOMES};
use crate::support::wait_until;

/// Index, records and files are the same; after kills, `check --repair` may be needed once.
pub(super) fn check(bed: &Bed, was_killing: bool) {
    if was_killing {
        bed.lovol("check --repair").ok("");
    }
    bed.lovol("check").ok("");
    let index = index(bed);
    assert_eq!(files(&index), found(bed));
    let uuids: BTreeSet<_> = records(&index).map(|record| record.uuid).collect();
    assert_eq!(uuids.len(), files(&index).len(), "two have one UUID");
}

fn index(bed: &Bed) -> Index {
    Index::parse(&std::fs::read(bed.pool.join("index.json")).unwrap()).unwrap()
}

/// All volumes, those in the trash last.
fn volumes(index: &Index) -> impl Iterator<Item = &Volume> {
    let trash = index.trash.values().map(|trashed| &trashed.volume);
    index.volumes.values().chain(trash)
}

fn records(index: &Index) -> impl Iterator<Item = &Record> {
    volumes(index).flat_map(|volume| volume.snapshots.values().chain([&volume.record]))
}

/// The files that the index names.
fn files(index: &Index) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for (name, volume) in &index.volumes {
        files.insert(format!("volumes/{name}.img"));
        let snapshots = volume.snapshots.keys();
        files.extend(snapshots.map(|snapshot| format!("snapshots/{name}/{snapshot}.img")));
    }
    for (id, trashed) in &index.trash {
        files.insert(format!("trash/{id}/volume.img"));
        let snapshots = trashed.volume.snapshots.keys();
        files.extend(snapshots.map(|snapshot| format!("trash/{id}/snapshots/{snapshot}.img")));
    }
    files
}

/// The files that are there.
fn found(bed: &Bed) -> BTreeSet<String> {
    let dirs = format!(
        "cd {}; find volumes snapshots trash -type f",
        bed.pool.display()
    );
    bed.outer.sh(&dirs).lines().map(str::to_owned).collect()
}

/// Unmounts and detaches all but the homes.
pub(super) fn release(bed: &Bed) {
    let dirs = bed.temp().join("mnt");
    for mount in bed.outer.mounts().iter().rev() {
        if mount.is_beneath(&dirs) {
            bed.lovol("umount").arg(&mount.dir).ok("");
        }
    }
    for device in bed.outer.loops() {
        let is_home = HOMES.iter().any(|home| device.file == image(bed, home));
        if !is_home && device.file.starts_with(&bed.pool) {
            bed.lovol("detach").arg(&device.device).ok("");
        }
    }
    wait_until(
        "only the homes are attached",
        Duration::from_secs(60),
        || bed.outer.loops().len() == HOMES.len() && bed.outer.mounts().len() == HOMES.len(),
    );
}

fn image(bed: &Bed, volume: &str) -> PathBuf {
    bed.pool.join(format!("volumes/{volume}.img"))
}

/// Every volume and every snapshot mounts, and holds what its name says.
pub(super) fn look_into_all(bed: &Bed) {
    for (name, volume) in &index(bed).volumes {
        if !HOMES.contains(&name.as_str()) {
            look_into(bed, name.as_str(), name.as_str());
        }
        for snapshot in volume.snapshots.keys() {
            look_into(bed, name.as_str(), &format!("{name}@{snapshot}"));
        }
    }
}

/// So does every deleted one, when it has been brought back.
pub(super) fn look_into_trash(bed: &Bed) {
    for (id, trashed) in &index(bed).trash {
        let name = trashed.name.as_str();
        bed.lovol(&format!("undelete {id} --as back")).ok("back\n");
        look_into(bed, name, "back");
        for snapshot in trashed.volume.snapshots.keys() {
            look_into(bed, name, &format!("back@{snapshot}"));
        }
        bed.lovol("delete -r --now -y back").ok("");
    }
    bed.lovol("check").ok("");
}

/// `name` says what is to be in it.
fn look_into(bed: &Bed, name: &str, target: &str) {
    let dir = bed.outer.dir("look");
    bed.lovol(&format!("mount {target}")).arg(&dir).ok("");
    must_hold(bed, name, &dir);
    bed.lovol("umount").arg(&dir).ok("");
}

fn must_hold(bed: &Bed, name: &str, dir: &Path) {
    let expected = match name.as_bytes()[0] {
        b'v' => "sha256sum --quiet --check manifest",
        b'h' => "test -f writer",
        _ if HOMES.contains(&name) => "true",
        _ => "test -d lost+found",
    };
    bed.outer.sh(&format!("cd {}; {expected}", dir.display()));
}
