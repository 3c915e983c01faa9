//! Proof that a failed command changes nothing.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::pool::TestPool;

/// Runs `action` and fails if the pool, its loop devices or its mounts are not as they were.
#[track_caller]
pub(crate) fn ensure_unchanged<T>(pool: &TestPool, action: impl FnOnce() -> T) -> T {
    let before = state(pool);
    let result = action();
    ensure_state(pool, &before);
    result
}

/// Fails if the pool, its loop devices or its mounts are not as they were.
#[track_caller]
pub(crate) fn ensure_state(pool: &TestPool, before: &BTreeSet<String>) {
    let after = state(pool);
    let gone = before.difference(&after).map(|line| format!("- {line}\n"));
    let come = after.difference(before).map(|line| format!("+ {line}\n"));
    let changes: String = gone.chain(come).collect();
    assert!(changes.is_empty(), "it was to change nothing:\n{changes}");
}

/// One line for each file, loop device and mount.
pub(crate) fn state(pool: &TestPool) -> BTreeSet<String> {
    let attached: Vec<_> = pool.loops().into_iter().map(|device| device.file).collect();
    let files = everything_in(pool.path());
    let files = files.iter().filter(|path| {
        !["lock", "ballast", "shares"]
            .map(|name| pool.path().join(name))
            .contains(path)
    });

    let mut state: BTreeSet<_> = files
        .map(|path| describe(path, attached.contains(path)))
        .collect();
    state.extend(pool.loops().iter().map(|device| format!("{device:?}")));
    state.extend(pool.mounts().iter().map(|mount| format!("{mount:?}")));
    state
}

fn everything_in(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(everything_in(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// A guest may write to its attached image at any time, so there the times say nothing.
fn describe(path: &Path, attached: bool) -> String {
    let meta = path.symlink_metadata().unwrap();
    let what = if meta.is_dir() {
        String::new()
    } else if path.ends_with("index.json") {
        format!("content {:x}", hash(&fs::read(path).unwrap()))
    } else if attached {
        format!("inode {} size {}", meta.ino(), meta.len())
    } else {
        format!("inode {} size {} {}", meta.ino(), meta.len(), times(&meta))
    };
    format!(
        "{} {:o} {}:{} {what}",
        path.display(),
        meta.mode(),
        meta.uid(),
        meta.gid()
    )
}

/// A change of bytes moves the first, a change of anything else the second.
fn times(meta: &Metadata) -> String {
    format!(
        "mtime {}.{:09} ctime {}.{:09}",
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec()
    )
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
