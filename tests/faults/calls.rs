//! Which system call is hit, how, and how strace is told to aim at it.

use std::collections::{HashMap, HashSet};
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
    /// It changes nothing that outlives the process.
    only_looks: bool,
    /// It comes after the first that knows the pool; before that there is only the loader.
    is_ours: bool,
}

impl Call {
    /// All calls of a run, in their order.
    pub(super) fn all(trace: &Trace) -> Vec<Self> {
        let mut calls: Vec<Self> = Vec::new();
        let (mut names, mut alike, mut on_root) = Default::default();
        let mut rows = HashMap::<String, HashSet<&str>>::new();
        let mut opened = None;
        let mut is_ours = false;
        for line in trace.lines() {
            let (name, arguments) = line.split_once('(').unwrap_or((line, ""));
            is_ours |= name != "execve" && arguments.contains("/lovol-test.");
            let what = first_arguments(name, arguments);
            // Asked for its status, a device is the one that was opened last.
            let device = device_in(arguments).or(opened.filter(|_| what == "LOOP_GET_STATUS"));
            opened = device.or(opened);
            // Of all devices one after the other: the same until one comes for the second time.
            let row = rows.entry(what.clone()).or_default();
            let is_in_row = device.is_some_and(|device| !row.is_empty() && row.insert(device));
            if !is_in_row {
                *row = device.into_iter().collect();
            }
            let is_on_root = name == "ioctl" && is_of_root(&what);
            calls.push(Self {
                nth_on_root: if is_on_root {
                    count(&mut on_root, (), true)
                } else {
                    0
                },
                nth: count(&mut names, name.to_owned(), true),
                nth_alike: count(&mut alike, (name.to_owned(), what.clone()), !is_in_row),
                name: name.to_owned(),
                errors: errors(name, arguments),
                only_looks: only_looks(name, arguments),
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
    /// at any time.  A kill before a call that only looks leaves what the kill before the next call
    /// that does something leaves: so that one stands for both.
    pub(super) fn faults(&self) -> Vec<Fault> {
        // Said to people is not done; and at its end it is over, killed or not.
        let is_said = self.name == "write" && ["1", "2"].contains(&self.what.as_str());
        if !self.is_ours || is_said || self.name == "exit_group" || self.is_in_wait() {
            return Vec::new();
        }
        let errors = self.errors.iter().map(|error| Fault::Fails(error));
        let kill = (!self.only_looks).then_some(Fault::Killed);
        errors.chain(kill).collect()
    }

    /// Whoever waits for a device looks at it again and again.
    fn is_in_wait(&self) -> bool {
        self.only_looks && self.nth_alike > 100
    }

    /// strace's options: to look at the calls of its name only, and to do that to this one.
    ///
    /// On the roots of the guests, which are `roots`, nobody else's device is in the way.
    pub(super) fn options(&self, fault: Fault, roots: &[PathBuf]) -> String {
        let Self { name, nth, .. } = self;
        let injection = fault.injection();
        if self.nth_on_root == 0 {
            // With the opens, which tell the devices.
            return format!("-e trace={name},open -e inject={name}:{injection}:when={nth}");
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

fn count<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K, is_next: bool) -> usize {
    let count = counts.entry(key).or_default();
    *count += usize::from(is_next);
    *count
}

/// The loop device that a call is about, if it looks at all of them.
fn device_in(arguments: &str) -> Option<&str> {
    let start = ["\"/dev/loop", "\"/sys/block/loop", "lo_number="]
        .iter()
        .find_map(|start| arguments.split_once(start))?
        .1;
    let end = start.find(|c: char| !c.is_ascii_digit())?;
    Some(&start[..end])
}

/// The first two arguments as far as they are the same in each run: no numbers, none of what the
/// kernel has filled in.  Descriptors stay where they tell stdout from a file.
fn first_arguments(name: &str, arguments: &str) -> String {
    // What is read differs; a path that is looked up comes first.
    let kept = match name {
        "getcwd" | "getrandom" | "pipe2" => 0,
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
        | "readlink" | "mount" | "umount2" | "fsopen" | "fsconfig" | "fsmount" | "move_mount"
        | "chmod" | "fchmodat" => &ANY[..1],
        "flock" | "poll" | "wait4" => &["EINTR"],
        "clone" | "clone3" | "vfork" => &["EAGAIN"],
        "pipe2" | "inotify_init1" | "pidfd_open" | "signalfd4" => &["EMFILE"],
        "inotify_add_watch" => &["ENOSPC"],
        // Somebody has it open.
        "fcntl" if arguments.contains("F_SETLEASE") => &["EAGAIN"],
        "perf_event_open" => &["EACCES"],
        // The marker's word, the kernel's records; all others are memory, of which Linux says no to nobody.
        "mmap" if arguments.contains("MAP_SHARED") => &["ENOMEM"],
        _ => &[],
    }
}

/// Whether a call changes nothing but this process, and what goes with it when it is killed.
fn only_looks(name: &str, arguments: &str) -> bool {
    match name {
        "open" | "openat" | "openat2" => !["O_CREAT", "O_TMPFILE", "O_TRUNC"]
            .iter()
            .any(|flag| arguments.contains(flag)),
        "ioctl" => ["GET", "PERF"].iter().any(|word| arguments.contains(word)),
        "access" | "brk" | "clock_nanosleep" | "close" | "fcntl" | "fgetxattr" | "fstat"
        | "fstatfs" | "getcwd" | "getdents64" | "geteuid" | "getpid" | "getrandom" | "gettid"
        | "getxattr" | "lseek" | "madvise" | "mlockall" | "mmap" | "mprotect" | "munlockall"
        | "munmap" | "newfstatat" | "perf_event_open" | "poll" | "pread64" | "prlimit64"
        | "read" | "readlink" | "rt_sigaction" | "rt_sigprocmask" | "sched_getaffinity"
        | "sigaltstack" | "statfs" | "statx" | "sysinfo" | "uname" => true,
        _ => false,
    }
}

/// The calls behind which the guardian is there: from the first after its fork to its dismissal.
///
/// The fork itself is none: a stop interrupts it, and it begins anew.
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
    let does_something = calls[fork + 2..wait].iter().filter(|call| !call.only_looks);
    calls[fork + 1..fork + 2]
        .iter()
        .chain(does_something)
        .cloned()
        .collect()
}
