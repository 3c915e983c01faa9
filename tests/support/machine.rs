//! What the machine has: root, loop devices, mounts.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::finish;

/// Fails, and says how to run the tests, where they cannot work.
#[track_caller]
pub(crate) fn require_root() {
    const HOW: &str =
        "run them as root on a machine with loop devices: sudo -E env PATH=\"$PATH\" make check";
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root; {HOW}"
    );
    if let Err(error) = File::open("/dev/loop-control") {
        panic!("these tests need loop devices, but /dev/loop-control: {error}; {HOW}");
    }
}

/// A loop device that has a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LoopDevice {
    /// `/dev/loop3`
    pub(crate) device: String,
    /// As the kernel shows it, with ` (deleted)` if it is.
    pub(crate) file: PathBuf,
    /// `7:1`, the device of the filesystem that the file lies on.
    pub(crate) lies_on: String,
    pub(crate) read_only: bool,
}

impl LoopDevice {
    /// `7:3`
    pub(crate) fn number(&self) -> String {
        format!("7:{}", self.device.trim_start_matches("/dev/loop"))
    }
}

/// All loop devices that have a file.
#[track_caller]
pub(crate) fn loop_devices() -> Vec<LoopDevice> {
    let printed = finish(Command::new("losetup").args([
        "--list",
        "--json",
        "--output=NAME,BACK-FILE,BACK-MAJ:MIN,RO",
    ]))
    .expect_success();
    if printed.is_empty() {
        return Vec::new();
    }
    let parsed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let text = |device: &serde_json::Value, key: &str| {
        device[key].as_str().unwrap_or_default().trim().to_owned()
    };
    parsed["loopdevices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| LoopDevice {
            device: text(device, "name"),
            file: text(device, "back-file").into(),
            lies_on: text(device, "back-maj:min"),
            read_only: device["ro"] == true,
        })
        .collect()
}

/// A line of `/proc/thread-self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mount {
    pub(crate) dir: PathBuf,
    pub(crate) source: String,
    pub(crate) filesystem: String,
    pub(crate) options: String,
    /// `7:3`, or a number of its own on btrfs.
    device: String,
}

impl Mount {
    /// Whether it shows what is on that loop device.
    pub(crate) fn shows(&self, device: &LoopDevice) -> bool {
        self.source == device.device || self.device == device.number()
    }

    pub(crate) fn is_beneath(&self, dir: &Path) -> bool {
        self.dir.starts_with(dir)
    }
}

/// All mounts of this thread's namespace, in the order of mounting.
pub(crate) fn mounts() -> Vec<Mount> {
    let table = fs::read("/proc/thread-self/mountinfo").unwrap();
    String::from_utf8_lossy(&table)
        .lines()
        .map(parse_mount)
        .collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_mount(line: &str) -> Mount {
    let (place, what) = line.split_once(" - ").unwrap();
    let place: Vec<_> = place.split(' ').collect();
    let what: Vec<_> = what.split(' ').collect();
    Mount {
        dir: unescape(place[4]).into(),
        source: what[1].to_owned(),
        filesystem: what[0].to_owned(),
        options: format!("{},{}", place[5], what[2]),
        device: place[2].to_owned(),
    }
}

/// `\040` is a space.
fn unescape(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}
