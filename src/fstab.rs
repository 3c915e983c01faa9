//! The form of `/etc/fstab` (fstab(5), getmntent(3)): six fields, separated by blanks, in which
//! blanks are written as `\040`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::sys::mount::split_words;
use crate::sys::mountinfo::unescape;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the file, from 1.
    pub line: usize,
    /// What is mounted.
    pub spec: OsString,
    /// Where.
    pub dir: PathBuf,
    /// As which type.
    pub fstype: String,
    /// How: words separated by commas.
    pub options: String,
}

impl Entry {
    /// The option words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        split_words(&self.options)
    }
}

/// Parses a file; comments, and lines without a type, are passed over.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    lines
        .filter_map(|(line, number)| parse_line(line, number))
        .collect()
}

fn parse_line(text: &[u8], line: usize) -> Option<Entry> {
    let is_blank = |byte: &u8| b" \t\r".contains(byte);
    let mut fields = text
        .split(is_blank)
        .filter(|field| !field.is_empty())
        .map(unescape);
    let spec = fields.next().filter(|spec| !spec.starts_with(b"#"))?;
    let text = |field: Vec<u8>| String::from_utf8_lossy(&field).into_owned();
    Some(Entry {
        line,
        spec: OsString::from_vec(spec),
        dir: OsString::from_vec(fields.next()?).into(),
        fstype: text(fields.next()?),
        options: fields.next().map(text).unwrap_or_default(),
    })
}

/// A path as a field has it.
pub fn escape_path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// A text as a field has it.
pub fn escape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut escaped = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            // getmntent(3) names these, and knows no others.
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(byte),
        }
    }
    String::from_utf8_lossy(&escaped).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_broken_lines_are_passed_over() {
        let text = b"# /a /b xfs\n\n  /dev/sda1\t/  ext4  defaults 0 1\r\n/a /b\n/p\\040q /m xfs\n";
        let entries = parse(text);
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[0].line, entries[0].options.as_str()),
            (3, "defaults")
        );
        assert_eq!(
            (entries[1].line, entries[1].spec.to_str()),
            (5, Some("/p q"))
        );
    }

    #[test]
    fn what_is_escaped_is_read_again() {
        let path = Path::new("/a b/c\\d\te#");
        let entries = parse(format!("{} /m xfs", escape_path(path)).as_bytes());
        assert_eq!(Path::new(&entries[0].spec), path);
    }
}
