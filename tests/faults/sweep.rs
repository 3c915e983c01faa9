//! After each case all is as it was before: the next one finds as many files, and so as many calls.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;

use super::bed::{Bed, SOON};
use crate::support::wait_until;

/// After so many rounds the snapshots from before are read once more.
const READ_AFTER: usize = 64;

impl Bed {
    /// Takes away what the round has left.
    #[track_caller]
    pub(super) fn tidy(&mut self) {
        if self.in_use() != self.used {
            self.free();
        }
        if !self.new_files().is_empty() {
            self.sweep();
        }
        if self.round % READ_AFTER == 0 {
            self.must_have_kept_all();
        }
    }

    #[track_caller]
    fn free(&self) {
        for dir in self.mount_dirs().iter().rev() {
            if !self.used.contains(dir) {
                self.sh(&format!("umount {}", dir.display()));
            }
        }
        self.sh("losetup -n -O NAME -j $POOL/pool/volumes/spare.img | xargs -r losetup -d");
        let is_free = || self.in_use() == self.used;
        wait_until("what was in use is free", SOON, is_free);
    }

    /// Deletes all that the round has made, and looks whether that is all.
    #[track_caller]
    fn sweep(&mut self) {
        self.postpone_thaw();
        let volumes = self.new_names("volumes");
        if !volumes.is_empty() {
            let words = format!("delete -r -y --now {}", volumes.join(" "));
            self.lovol(&words).ok_any();
        }
        let snapshots = self.new_names("snapshots");
        if !snapshots.is_empty() {
            let words = format!("delete {}", snapshots.join(" "));
            self.lovol(&words).ok_any();
        }
        let is_left_in = |dir: &str| {
            let dir = self.pool().join(dir);
            self.new_files().iter().any(|path| path.starts_with(&dir))
        };
        if is_left_in("trash") {
            self.lovol("purge --all -y").ok_any();
        }
        if !self.new_files().is_empty() {
            // Beneath the mount point of a pool there is what cannot be removed.
            self.sh("cd $POOL/yard; chattr -R -f -i . || true; find . -mindepth 1 ! -name image -delete");
        }
        let left = self.new_files();
        assert!(left.is_empty(), "nobody has swept {left:?}");
    }

    /// The volumes or snapshots that were not there before.
    fn new_names(&self, dir: &str) -> Vec<String> {
        let dir = self.pool().join(dir);
        let name = |path: &PathBuf| {
            let file = path.strip_prefix(&dir).ok()?.to_str()?;
            Some(file.strip_suffix(".img")?.replace('/', "@"))
        };
        self.new_files().iter().filter_map(name).collect()
    }

    fn new_files(&self) -> Vec<PathBuf> {
        let mut files = self.files_now();
        files.retain(|path, inode| self.files.get(path) != Some(inode));
        files.into_keys().collect()
    }

    /// The snapshots from before are what they were, byte by byte.
    #[track_caller]
    pub(super) fn must_have_kept_all(&self) {
        assert_eq!(self.hash_of_kept(), self.kept);
    }

    pub(super) fn hash_of_kept(&self) -> Vec<u64> {
        let mut files = self.find("snapshots/*/keep.img");
        files.extend(self.find("../yard/image"));
        files.iter().map(|file| hash_of_data(file)).collect()
    }
}

/// Of what is in a sparse file, and where.
fn hash_of_data(file: &Path) -> u64 {
    let file = File::open(file).unwrap();
    let mut hasher = DefaultHasher::new();
    let mut end = 0;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) {
        end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        let mut data = vec![0; usize::try_from(end - start).unwrap()];
        file.read_exact_at(&mut data, start).unwrap();
        (start, data).hash(&mut hasher);
    }
    hasher.finish()
}
