//! Who has something open or locked: for messages, and to see users that no flag shows.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::sys::loopdev::{FileId, MAJOR};

/// The processes that have loop device `number` open, such as `dd, pid 12`; not this one.
pub fn of_device(number: u32) -> Vec<String> {
    let rdev = nix::sys::stat::makedev(u64::from(MAJOR), u64::from(number));
    processes_where(|file| {
        std::fs::metadata(file)
            .is_ok_and(|metadata| metadata.file_type().is_block_device() && metadata.rdev() == rdev)
    })
}

/// The processes that have a file open; not this one.
pub fn of_file(id: FileId) -> Vec<String> {
    processes_where(|file| {
        std::fs::metadata(file).is_ok_and(|metadata| FileId::from(&metadata) == id)
    })
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
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let own = std::process::id().to_string();
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let pids = pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own);
    pids.filter(|pid| {
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files.flatten().any(|file| is_it(&file.path()))
    })
    .map(|pid| describe(&pid))
    .collect()
}

fn describe(pid: &str) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("{}, pid {pid}", name.trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}
