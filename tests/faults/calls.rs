//! Which system call is hit, how, and how strace is told to aim at it.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::support::Trace;

/// What becomes of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails with this error, and does nothing.
    Fails(&'static str),
    /// lovol is killed before it.
    Killed,
    /// lovol and its guardian are killed after it.
    KilledWithGuardian,
}

impl Fault {
    /// In the words of strace.
    fn injection(self) -> String {
        match self {
            Self::Fails(error) => format!("error={error}"),
            Self::Killed => "signal=KILL".into(),
            Self::KilledWithGuardian => "signal=STOP".into(),
        }
    }

    /// In the words of the table.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Fails(_) => "an error at a system call",
            Self::Killed => "killed at a system call",
            Self::KilledWithGuardian => "killed with its guardian at a system call",
        }
    }
}

/// One system call of a run.
///
/// How many calls of its name come before it depends on what else the machine has attached just
/// now; so it is known by what it does, and by how many have done the same before it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    name: String,
    /// Its first arguments, without what differs from run to run.
    what: String,
    nth_alike: usize,
    nth: usize,
    /// Among those on a guest's root only; 0 if it is none of them.
    nth_on_root: usize,
    errors: &'static [&'static str],
    /// It comes after the first that knows the pool; before that there is only the loader.
    is_ours: bool,
}

impl Call {
    /// All calls of a run, in their order.
    pub(super) fn all(trace: &Trace) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        let (mut names, mut alike, mut on_root) = Default::default();
        let mut is_ours = false;
        for line in trace.lines() {
            let (name, arguments) = line.split_once('(').unwrap_or((line, ""));
            is_ours |= name != "execve" && arguments.contains("/lovol-test.");
            let what = first_arguments(name, arguments);
            let is_on_root = name == "ioctl" && is_of_root(&what);
            calls.push(Self {
                nth_on_root: if is_on_root {
                    count(&mut on_root, ())
                } else {
                    0
                },
                nth: count(&mut names, name.to_owned()),
                nth_alike: count(&mut alike, (name.to_owned(), what.clone())),
                name: name.to_owned(),
                errors: errors(name, arguments),
                what,
                is_ours,
            });
        }
        calls
    }

    pub(super) fn is_alike(&self, other: &Self) -> bool {
        (&self.name, &self.what, self.nth_alike) == (&other.name, &other.what, other.nth_alike)
    }

    /// What can become of it: the kernel may give any of these errors there, and a kill can come
    /// at any time.
    pub(super) fn faults(&self) -> Vec<Fault> {
        // Said to people is not done; and at its end it is over, killed or not.
        let is_said = self.name == "write" && ["1", "2"].contains(&self.what.as_str());
        if !self.is_ours || is_said || self.name == "exit_group" {
            return Vec::new();
        }
        let errors = self.errors.iter().map(|error| Fault::Fails(error));
        errors.chain([Fault::Killed]).collect()
    }

    /// strace's options: to look at the calls of its name only, and to do that to this one.
    ///
    /// On the roots of the guests, which are `roots`, nobody else's device is in the way.
    pub(super) fn options(&self, fault: Fault, roots: &[PathBuf]) -> String {
        let Self { name, nth, .. } = self;
        let injection = fault.injection();
        if self.nth_on_root == 0 {
            return format!("-e trace={name} -e inject={name}:{injection}:when={nth}");
        }
        let roots: Vec<_> = roots
            .iter()
            .map(|root| format!("-P {}", root.display()))
            .collect();
        let roots = roots.join(" ");
        let nth = self.nth_on_root;
        format!("{roots} -e trace={name} -e inject={name}:{injection}:when={nth}")
    }

    /// Which of `calls` strace has hit that was to hit this one.
    pub(super) fn hit_among(&self, calls: &[Self]) -> Option<Self> {
        let nth = if self.nth_on_root == 0 {
            self.nth
        } else {
            self.nth_on_root
        };
        let mut same_name = calls.iter().filter(|call| call.name == self.name);
        same_name.nth(nth - 1).cloned()
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn does(&self, what: &str) -> bool {
        self.what.contains(what)
    }
}

/// Freezing, thawing, and what proves that a root is the guest's.
fn is_of_root(what: &str) -> bool {
    let is_clone = what.contains("CLONE");
    ["FIFREEZE", "FITHAW", "BTRFS_IOC"]
        .iter()
        .any(|name| what.contains(name))
        && !is_clone
}

fn count<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) -> usize {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count
}

/// The first two arguments as far as they are the same in each run: no numbers, none of what the
/// kernel has filled in.  Descriptors stay where they tell stdout from a file.
fn first_arguments(name: &str, arguments: &str) -> String {
    // What is read differs; a path that is looked up comes first.
    let kept = match name {
        "getrandom" | "pipe2" => 0,
        "read" | "readlink" | "pread64" | "write" | "pwrite64" => 1,
        _ => 2,
    };
    let arguments = arguments.split(" <").next().unwrap_or_default();
    let arguments: Vec<&str> = arguments.split(", ").take(kept).collect();
    if name == "write" {
        return arguments[0].to_owned();
    }
    let constant = |text: &&str| text.starts_with(|c: char| c == '"' || c.is_ascii_uppercase());
    let texts = arguments
        .into_iter()
        .map(|text| text.split(')').next().unwrap_or_default());
    let letters = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    texts
        .filter(constant)
        .map(letters)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The errors that the kernel may give at a call, of those that a disk, a full disk and a signal
/// give; where there are none of these, what it says when something else is short.
fn errors(name: &str, arguments: &str) -> &'static [&'static str] {
    const ANY: &[&str] = &["EIO", "ENOSPC", "EINTR"];
    match name {
        "open" | "openat" | "openat2" | "write" | "pwrite64" | "ftruncate" | "fallocate"
        | "ioctl" | "fsync" => ANY,
        "mkdir" | "mkdirat" | "linkat" | "renameat" | "renameat2" | "fsetxattr" | "setxattr" => {
            &ANY[..2]
        }
        "read" | "pread64" => &["EIO", "EINTR"],
        "lseek" | "unlink" | "unlinkat" | "fremovexattr" | "fchmod" | "fchown" | "fgetxattr"
        | "getxattr" | "syncfs" | "statx" | "newfstatat" | "fstat" | "fstatfs" | "getdents64"
        | "readlink" | "mount" | "umount2" | "fsopen" | "fsconfig" | "fsmount" => &ANY[..1],
        "flock" | "poll" | "wait4" => &["EINTR"],
        "clone" | "clone3" | "vfork" => &["EAGAIN"],
        "pipe2" => &["EMFILE"],
        // The marker's word; all others are memory, of which Linux says no to nobody.
        "mmap" if arguments.contains("MAP_SHARED") => &["ENOMEM"],
        _ => &[],
    }
}

/// The calls during which the guardian lives: from its fork to the end of waiting for it.
pub(super) fn with_guardian(calls: &[Call]) -> Vec<Call> {
    let at = |what: &str| {
        calls
            .iter()
            .position(|call| call.has_name("ioctl") && call.does(what))
    };
    let (Some(freeze), Some(thaw)) = (at("FIFREEZE"), at("FITHAW")) else {
        return Vec::new();
    };
    let is_fork = |call: &Call| call.has_name("clone");
    let fork = calls[..freeze].iter().rposition(is_fork).unwrap();
    let is_wait = |call: &Call| call.has_name("wait4");
    let wait = thaw + calls[thaw..].iter().position(is_wait).unwrap();
    calls[fork..=wait].to_vec()
}
