//! What a member of the crowd does next.
//!
//! The first letter of a volume's name says what is in it, and stays with it whatever becomes of
//! it: `v` was made of a seed, `e` is an ext4 without files, `h` is a clone of a home.

use super::{Bed, HOMES, SEEDS};
use crate::support::{Lovol, Numbers};

/// How many directories there are to mount on.
pub(super) const DIRS: u64 = 8;

/// Verbs, each as often as it is to be chosen.
///
/// `V` stands for a volume that may be there or not, `U` for one of the same kind, `W` for one that is
/// made of a seed and `E` for one that is not, `H` for a home,
/// `S` and `T` for a snapshot's name, `D` for a directory, `F` for a seed, `P` for an fstab.
const VERBS: &[(u64, &str)] = &[
    (6, "create W --from F"),
    (2, "create E 16M --fs ext4"),
    (3, "snapshot V@S"),
    (1, "snapshot V"),
    (3, "snapshot H@S"),
    (1, "snapshot --crash H@S"),
    (2, "snapshot btrfs@S ext4@S xfs@S"),
    (2, "snapshot V@S H@S"),
    (2, "clone V U"),
    (2, "clone V@S U"),
    (2, "clone -f V@S U"),
    (1, "clone H@S h0"),
    (1, "clone -f H h1"),
    (3, "rename V U"),
    (1, "rename V@S T"),
    (1, "rename H@S T"),
    (1, "delete V"),
    (2, "delete -r V"),
    (1, "delete -r --now -y V"),
    (1, "delete -r H"),
    (2, "delete V@S"),
    (2, "delete H@S"),
    (1, "delete V@S%T H@S"),
    (3, "undelete V"),
    (1, "undelete V --as U"),
    (1, "purge -y V"),
    (1, "purge -y --all"),
    (4, "mount V D"),
    (2, "mount V@S D"),
    (1, "mount H@S D"),
    (3, "umount V"),
    (2, "umount D"),
    (1, "umount V@S"),
    (2, "attach V"),
    (1, "attach V@S"),
    (2, "detach V"),
    (1, "detach V@S"),
    (3, "rollback V@S"),
    (1, "rollback --undo V"),
    (1, "rollback --remount V@S"),
    // Not every root may grow a mounted ext4.
    (2, "resize xfs +16M"),
    (2, "trim V"),
    (1, "hold V@S"),
    (2, "release V@S"),
    (1, "set V user:who=me"),
    (1, "prune V --keep-last 2 --named"),
    (1, "protect V"),
    (2, "protect --off V"),
    (1, "provision P"),
    (1, "watch --once"),
    (1, "restore V@S:manifest D"),
    (1, "diff V@S V@T"),
    (1, "du -a"),
    (1, "df"),
    (1, "list -a"),
    (1, "list -J --trash"),
    (2, "show V"),
    (1, "show -J H@S"),
    (1, "check"),
    (1, "check --repair"),
];

pub(super) struct Chooser<'a> {
    bed: &'a Bed,
    pub(super) numbers: Numbers,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(bed: &'a Bed, numbers: Numbers) -> Self {
        Self { bed, numbers }
    }

    /// A lovol with a random verb, on things that may be there or not.
    pub(super) fn choose(&mut self) -> Lovol {
        let kind = *self.numbers.pick(&['v', 'v', 'v', 'e']);
        let template = self.template();
        let mut words: Vec<String> = template.split(' ').map(str::to_owned).collect();
        let [snapshot, other] = [self.numbers.below(4), self.numbers.below(4)];
        for word in &mut words {
            *word = self.fill(word, kind, snapshot, other);
        }
        // A few only say what they would do.
        if self.numbers.below(20) == 0 && words[0] != "list" {
            words.push("-n".to_owned());
        }
        self.bed.lovol(&words.join(" "))
    }

    fn template(&mut self) -> &'static str {
        let all = VERBS.iter().map(|(weight, _)| weight).sum();
        let mut left = self.numbers.below(all);
        for (weight, template) in VERBS {
            if left < *weight {
                return template;
            }
            left -= weight;
        }
        unreachable!("the weights sum up to their sum")
    }

    /// One word with its capital letters filled in.
    fn fill(&mut self, word: &str, kind: char, snapshot: u64, other: u64) -> String {
        if word.starts_with('-') {
            return word.to_owned();
        }
        let stands_for = |letter| match letter {
            'V' | 'U' => format!("{kind}{}", self.numbers.below(6)),
            'W' => format!("v{}", self.numbers.below(6)),
            'E' => format!("e{}", self.numbers.below(6)),
            'H' => (*self.numbers.pick(&HOMES)).to_owned(),
            'S' => format!("s{snapshot}"),
            'T' => format!("s{other}"),
            'D' => {
                let dir = format!("mnt/d{}", self.numbers.below(DIRS));
                self.bed.temp().join(dir).display().to_string()
            }
            'P' => self.bed.temp().join("fstab").display().to_string(),
            'F' => {
                let (fs, ..) = self.numbers.pick(&SEEDS);
                self.bed.seed(fs).display().to_string()
            }
            other => other.to_string(),
        };
        word.chars().map(stands_for).collect()
    }
}
