//! Who has something open or locked: for messages, and to see users that no flag shows.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys::loopdev::{self, FileId};

/// How long those may take that only look: udev looks at each device that was written to.
const GLANCE: Duration = Duration::from_secs(1);

/// Those whom `look` finds, and who stay.
pub fn that_stay(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let started = Instant::now();
    loop {
        let users = look();
        if users.is_empty() || started.elapsed() > GLANCE {
            return users;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same as [`of_device`], of those that stay.
pub fn of_device_for_long(number: u32) -> Vec<String> {
    that_stay(|| of_device(number))
}

/// The processes that have loop device `number` open, such as `dd, pid 12`; not this one.
pub fn of_device(number: u32) -> Vec<String> {
    processes_where(|file| is_device(file, number))
}

/// The processes that have loop device `number` open for writing; not this one.
pub fn writers_of_device(number: u32) -> Vec<String> {
    processes_where(|file| is_device(file, number) && is_open_for_writing(file))
}

fn is_device(file: &Path, number: u32) -> bool {
    let rdev = loopdev::device_number(number);
    std::fs::metadata(file)
        .is_ok_and(|metadata| metadata.file_type().is_block_device() && metadata.rdev() == rdev)
}

/// The processes that have a file open; not this one.
pub fn of_file(id: FileId) -> Vec<String> {
    processes_where(|file| {
        std::fs::metadata(file).is_ok_and(|metadata| FileId::from(&metadata) == id)
    })
}

/// The processes that may write to a file: by a descriptor, or by a mapping whose descriptor is
/// closed; not this one.
pub fn writers_of_file(id: FileId) -> Vec<String> {
    let is_writing = |file: &Path| {
        std::fs::metadata(file).is_ok_and(|metadata| FileId::from(&metadata) == id)
            && is_open_for_writing(file)
    };
    processes()
        .filter(|pid| has_open(pid, is_writing) || maps_for_writing(pid, id))
        .map(|pid| describe(&pid))
        .collect()
}

/// `/proc/PID/fdinfo/N` has the flags of open(2) in octal (proc_pid_fdinfo(5)).
fn is_open_for_writing(file: &Path) -> bool {
    let info = file.to_string_lossy().replace("/fd/", "/fdinfo/");
    let flags = std::fs::read_to_string(info).ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        i32::from_str_radix(line.trim(), 8).ok()
    });
    // Not to be seen any more: closed since.
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// `/proc/PID/maps`: `address rw-s offset dev inode path` (proc_pid_maps(5)).
fn maps_for_writing(pid: &str, id: FileId) -> bool {
    let Ok(maps) = std::fs::read(format!("/proc/{pid}/maps")) else {
        return false;
    };
    String::from_utf8_lossy(&maps).lines().any(|line| {
        let mut fields = line.split_whitespace();
        let permissions = fields.nth(1).unwrap_or_default();
        let device = fields.nth(1).unwrap_or_default();
        let inode = fields.next().and_then(|inode| inode.parse().ok());
        let is_shared = permissions.contains('w') && permissions.ends_with('s');
        is_shared && inode == Some(id.inode) && may_be_device(device, id.device)
    })
}

/// Whether `major:minor`, in hexadecimal, may be what stat(2) calls `device`.
///
/// Where that has no number of its own (btrfs, one for each subvolume) the kernel shows another one
/// there, and any counts.  Elsewhere it must be the same: shared memory and rings have small inode
/// numbers too.
fn may_be_device(shown: &str, device: u64) -> bool {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    major == 0 || shown == format!("{major:02x}:{minor:02x}")
}

/// The process that holds a `flock(2)` on a file, from `/proc/locks` (`proc_locks(5)`).
pub fn of_lock(id: FileId) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (
        nix::sys::stat::major(id.device),
        nix::sys::stat::minor(id.device),
    );
    let file = format!("{major:02x}:{minor:02x}:{}", id.inode);
    let pid = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&file.as_str());
        is_it.then(|| fields.get(4).copied()).flatten()
    })?;
    Some(describe(pid))
}

fn processes_where(is_it: impl Fn(&Path) -> bool) -> Vec<String> {
    processes()
        .filter(|pid| has_open(pid, &is_it))
        .map(|pid| describe(&pid))
        .collect()
}

fn has_open(pid: &str, is_it: impl Fn(&Path) -> bool) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
    files.is_ok_and(|files| files.flatten().any(|file| is_it(&file.path())))
}

/// The ids of all processes but this one.
fn processes() -> impl Iterator<Item = String> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(move |pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own)
}

fn describe(pid: &str) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{}, pid {pid}", name.trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}
