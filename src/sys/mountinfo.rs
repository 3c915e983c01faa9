//! The mount table of this process: `/proc/self/mountinfo`, as `proc_pid_mountinfo(5)` gives it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's ID, unique while it is mounted.
    pub id: u64,
    /// `st_dev` of the files in it (for btrfs an anonymous number, not the device's).
    pub device: (u32, u32),
    /// Which directory of the filesystem is the root of this mount.
    pub root: PathBuf,
    /// Where it is mounted, relative to this process's root.
    pub dir: PathBuf,
    /// This mount's own options, comma-separated.
    pub options: String,
    /// The filesystem's type.
    pub fstype: String,
    /// What was mounted: for a guest, its loop device.
    pub source: PathBuf,
    /// The superblock's options, comma-separated.
    pub super_options: String,
}

impl MountEntry {
    /// Whether this mount or its filesystem refuses writes.
    pub fn is_read_only(&self) -> bool {
        let starts_ro = |options: &str| options.split(',').next() == Some("ro");
        starts_ro(&self.options) || starts_ro(&self.super_options)
    }

    /// Whether the filesystem itself, and so each of its mounts, refuses writes.
    pub fn is_filesystem_read_only(&self) -> bool {
        self.super_options.split(',').next() == Some("ro")
    }

    /// Another device that a part of the filesystem is on, as the option that names it (xfs(5)).
    pub fn on_another_device(&self) -> Option<&str> {
        let names_device =
            |option: &&str| option.starts_with("logdev=") || option.starts_with("rtdev=");
        self.super_options.split(',').find(names_device)
    }
}

/// The mount table as this process sees it.
pub fn read() -> Result<Vec<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo").doing("read", "/proc/self/mountinfo")?;
    Ok(parse(&table))
}

/// Parses a mount table; a line that is not understood is passed over.
pub fn parse(table: &[u8]) -> Vec<MountEntry> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next().map(unescape);
    let id = text(next()?).parse().ok()?;
    let _parent = next()?;
    let device = text(next()?);
    let (major, minor) = device.split_once(':')?;
    let root = path(next()?);
    let dir = path(next()?);
    let options = text(next()?);
    // Any number of optional fields, ended by a single hyphen.
    while next()? != b"-" {}
    Some(MountEntry {
        id,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        dir,
        options,
        fstype: text(next()?),
        source: path(next()?),
        super_options: text(next().unwrap_or_default()),
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash (`fs/seq_file.c`, `mangle_path`).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (
            b'\\',
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ],
        ) = (byte, tail)
        {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    bytes
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// The entry that is mounted at `dir` and visible there: the last one, if several lie on another.
pub fn at<'a>(table: &'a [MountEntry], dir: &Path) -> Option<&'a MountEntry> {
    table.iter().rev().find(|entry| entry.dir == dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_understood() {
        let table =
            b"36 35 7:3 / /mnt/a\\040b rw,noatime shared:7 master:1 - xfs /dev/loop3 rw,attr2\n";
        let entries = parse(table);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].device, (7, 3));
        assert_eq!(entries[0].dir, Path::new("/mnt/a b"));
        assert_eq!(entries[0].fstype, "xfs");
        assert!(!entries[0].is_read_only());
    }

    #[test]
    fn nonsense_is_passed_over() {
        for line in [
            "",
            "36",
            "36 35 7 / /x rw - xfs",
            "a b c d e f g h",
            "36 35 7:3 / /x rw xfs",
        ] {
            assert_eq!(parse(line.as_bytes()), [], "{line}");
        }
    }
}
