//! What must be so after each case.

use std::path::PathBuf;

use super::bed::{Bed, Before, Guest};
use super::verbs::{Done, Opens, Spoil, Verb};
use crate::support::{Finished, kernel_tells_twins_apart, restore_btrfs};

impl Bed {
    /// The verb was killed, or a call of it has failed: nothing is frozen or left, what was there
    /// before is whole, and the verb's work is whole, or not there.
    #[track_caller]
    pub(super) fn judge(&mut self, verb: &Verb, finished: &Finished, before: &Before) {
        let is_killed = finished.signal() == Some(9);
        match finished.code() {
            Some(0) => assert!(self.is_done(verb, before), "success, and nothing done"),
            // A shot that went wide has hit what comes after the work: saying that it is done.
            Some(1) if finished.stderr.contains("cannot write to stdout") => {}
            Some(code) if verb.fails_with(code) && !matches!(verb.done, Done::Sound) => {
                assert!(!self.is_done(verb, before), "failed, and something done");
                self.must_have_the_same_files(before);
                self.must_use_the_same(before);
            }
            // The standard library panics where its pipes to a tool fail: of what has several steps,
            // some may be done then, as after a kill.
            Some(101) if matches!(verb.done, Done::Made(_) | Done::Gone(_) | Done::Replaced(_)) => {
                assert!(!self.is_done(verb, before), "panicked, and something done");
                self.must_have_the_same_files(before);
            }
            // Begun and not to be taken back; the check finishes it.  Some of a repair is done.
            Some(1 | 3 | 4 | 101) => {}
            _ => assert!(is_killed, "neither success nor failure"),
        }
        self.must_use_nothing_but(verb);
        if verb.spoil != Spoil::HomeIsFrozen {
            // Now, as a repair would thaw.
            self.must_be_written_to();
        }
        self.must_recover(verb, before, finished.code() == Some(0));
    }

    /// After one `check --repair` at most, all is well again.
    #[track_caller]
    pub(super) fn must_recover(&mut self, verb: &Verb, before: &Before, is_success: bool) {
        self.lovol("check --repair").ok("");
        self.must_have_no_marker();
        self.must_be_written_to();
        self.lovol("check").ok("");
        if verb.is_repeatable && !is_success {
            // It is there by now, or there already.
            self.lovol(verb.words).finish();
            let left = self.find("../yard/.*");
            assert!(left.is_empty(), "repeated, and not swept: {left:?}");
        }
        self.must_have_one_of(verb.states);
        self.must_have_all_or_none(verb.together);
        if verb.is_repeatable || self.is_done(verb, before) {
            self.must_open(verb.opens);
        }
        self.tidy();
    }

    pub(super) fn is_done(&mut self, verb: &Verb, before: &Before) -> bool {
        match verb.done {
            Done::Made(pattern) => !self.find(pattern).is_empty(),
            Done::Gone(pattern) => self.find(pattern).is_empty(),
            Done::Replaced(path) => {
                let now = self.files_now();
                self.find(path)
                    .iter()
                    .any(|path| now.get(path) != before.files.get(path))
            }
            Done::Resized(path) => self.length(path) != before.length,
            Done::Mounted(is_wanted) => self.is_used("/spare") == is_wanted,
            Done::ReadOnly => self.is_read_only("$TEMP/spare"),
            Done::Attached(is_wanted) => self.is_used("/spare.img") == is_wanted,
            Done::Says(words, text) => self.says(words, text),
            Done::SaysNot(words, text) => !self.says(words, text),
            Done::Sound => {
                self.must_be_written_to();
                self.lovol("check").finish().code() == Some(0)
            }
        }
    }

    fn is_read_only(&self, dir: &str) -> bool {
        let options = self.sh(&format!("findmnt -no OPTIONS {dir}"));
        options.split(',').any(|word| word == "ro")
    }

    fn says(&self, words: &str, text: &str) -> bool {
        let printed = self.lovol(words).ok_any();
        printed.contains(&self.filled_in(text))
    }

    #[track_caller]
    fn must_have_the_same_files(&self, before: &Before) {
        let now = self.files_now();
        let come = now
            .iter()
            .filter(|(path, _)| !before.files.contains_key(*path));
        let gone = before
            .files
            .iter()
            .filter(|(path, inode)| now.get(*path) != Some(inode));
        let (come, gone): (Vec<_>, Vec<_>) = (come.collect(), gone.collect());
        assert!(
            come.is_empty() && gone.is_empty(),
            "failed, and changed files: + {come:?} - {gone:?}"
        );
    }

    #[track_caller]
    fn must_have_one_of(&self, patterns: &[&str]) {
        let found = self.find_all(patterns);
        assert!(
            patterns.is_empty() || found.len() == 1,
            "{found:?} of {patterns:?}"
        );
    }

    #[track_caller]
    fn must_have_all_or_none(&self, patterns: &[&str]) {
        let found = self.find_all(patterns);
        assert!(
            found.is_empty() || found.len() == patterns.len(),
            "{found:?} of {patterns:?}"
        );
    }

    fn find_all(&self, patterns: &[&str]) -> Vec<PathBuf> {
        let found = patterns.iter().flat_map(|pattern| self.find(pattern));
        found.collect()
    }

    /// Nothing is left of a freeze.
    #[track_caller]
    fn must_have_no_marker(&self) {
        let left = self.sh("ls /run/lovol | grep '^freeze-' || true");
        assert_eq!(left, "", "a marker that nobody has swept");
    }

    /// What it has made can be used, and holds what it should.
    #[track_caller]
    fn must_open(&self, opens: Opens) {
        match opens {
            Opens::Nothing => {}
            Opens::New(volume) => self.must_mount(volume, ""),
            Opens::Copies(names) => names
                .iter()
                .for_each(|name| self.must_mount(name, "precious")),
            Opens::Pool(dir) => drop(self.lovol(&format!("--pool {dir} check")).ok_any()),
        }
    }

    #[track_caller]
    fn must_mount(&self, name: &str, letter: &str) {
        let read = "cat $TEMP/view/letter 2> /dev/null || true";
        let is_path = name.starts_with('.');
        let has_twin = self.fs() == Guest::Btrfs && (is_path || name.contains('@'));
        let found = if has_twin && !kernel_tells_twins_apart() {
            // What is in a crash snapshot can then not be told from its origin, and lovol refuses.
            restore_btrfs(&self.image(name), &self.outer.dir("view"));
            self.sh(&format!("{read}; rm -r $TEMP/view/*"))
        } else if is_path {
            // No volume: as a crash leaves it, perhaps, and beside its origin.
            let options = if self.fs() == Guest::Xfs {
                "loop,nouuid"
            } else {
                "loop"
            };
            let image = self.image(name);
            self.sh(&format!(
                "mount -o {options} {} $TEMP/view; {read}; umount $TEMP/view",
                image.display()
            ))
        } else {
            self.lovol(&format!("mount {name} $TEMP/view")).ok("");
            self.sh(&format!("{read}; umount $TEMP/view"))
        };
        assert_eq!(found, letter, "{name}");
    }

    /// Of a path, or of a snapshot.
    #[track_caller]
    fn image(&self, name: &str) -> PathBuf {
        let pattern = match name.split_once('@') {
            None => format!("../yard/{}", name.trim_start_matches("./")),
            Some((volume, snapshot)) => format!("snapshots/{volume}/{snapshot}.img"),
        };
        let found = self.find(&pattern);
        assert_eq!(found.len(), 1, "{pattern}: {found:?}");
        found[0].clone()
    }
}
