//! The kernel's tracepoints, as tracefs describes them (Documentation/trace/events.rst).
//!
//! tracefs is mounted for ourselves, detached from the tree: many machines have it nowhere, and
//! nothing changes for the others.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use crate::error::Result;
use crate::sys::beneath;
use crate::sys::mount::Detached;

/// A mount of tracefs that nobody else sees.
#[derive(Debug)]
pub struct Tracefs(OwnedFd);

impl Tracefs {
    /// Mounts it.
    ///
    /// # Errors
    /// When the kernel has none, or we may not.
    pub fn mount() -> Result<Self> {
        use crate::error::Context;
        let mount = Detached::virtual_of("tracefs")?;
        mount.open_root().doing("open", "tracefs").map(Self)
    }

    /// The number by which perf knows a tracepoint, such as `block/block_rq_complete`.
    pub fn id(&self, event: &str) -> io::Result<u64> {
        let text = self.read(&format!("events/{event}/id"))?;
        text.trim().parse().map_err(io::Error::other)
    }

    /// Where the fields of a tracepoint's raw record are.
    pub fn format(&self, event: &str) -> io::Result<Format> {
        self.read(&format!("events/{event}/format")).map(Format)
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        File::from(beneath::open(&self.0, path, OFlags::RDONLY)?).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// What a tracepoint's `format` file says.
#[derive(Debug)]
pub struct Format(String);

/// Where a field is in a raw record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// In bytes from the record's start.
    pub offset: usize,
    /// In bytes.
    pub size: usize,
}

impl Format {
    /// The field of this name: `field:sector_t sector; offset:16; size:8; signed:0;`.
    pub fn field(&self, name: &str) -> Option<Field> {
        self.0.lines().find_map(|line| {
            let mut parts = line.trim().split(';').map(str::trim);
            let declared = parts
                .next()?
                .strip_prefix("field:")?
                .split(' ')
                .next_back()?;
            // An array's name has its length behind it.
            if declared.split('[').next() != Some(name) {
                return None;
            }
            let mut number = |key: &str| parts.next()?.strip_prefix(key)?.parse().ok();
            Some(Field {
                offset: number("offset:")?,
                size: number("size:")?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let format = Format(
            "name: block_rq_complete\nformat:\n\
             \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
             \tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;\n\
             \tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;\n"
                .to_owned(),
        );
        let field = |offset, size| Some(Field { offset, size });
        assert_eq!(format.field("sector"), field(16, 8));
        assert_eq!(format.field("rwbs"), field(34, 10));
        assert_eq!(format.field("nr_sector"), None);
    }
}
