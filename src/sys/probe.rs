//! What lies in an image, as `blkid` sees it.

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Result;
use crate::sys::tool::Tool;

const BLKID: Tool = Tool {
    program: "blkid",
    package: "util-linux",
};

/// A filesystem's signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Its type, such as `xfs`.
    pub fstype: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// The least size of a device's sectors that it can be mounted from, in bytes.
    pub sector: Option<u32>,
    /// Whether there are several signatures, or none of a filesystem but another (a partition
    /// table, LVM): then its type means nothing to us.
    pub is_ambiguous: bool,
}

impl Signature {
    /// The sectors that its device must have, if a device of 4096-byte sectors will not do.
    pub fn small_sector(&self) -> Option<u32> {
        self.sector.filter(|bytes| (512..4096).contains(bytes))
    }
}

/// Probes a device or file by its content only (`blkid -p`, which neither reads nor writes
/// blkid's cache).
pub fn signature(path: &Path) -> Result<Signature> {
    let arguments = [
        "-p".as_ref(),
        "-o".as_ref(),
        "export".as_ref(),
        "--".as_ref(),
        path.as_os_str(),
    ];
    // 2: nothing was found (blkid(8)).
    match BLKID.run(&arguments, &[0, 2]) {
        Ok(printed) => with_whole_label(parse(&printed), path),
        // 8: several signatures, which contradict each other.
        Err(_) if BLKID.run(&arguments, &[8]).is_ok() => Ok(Signature {
            is_ambiguous: true,
            ..Signature::default()
        }),
        Err(error) => Err(error),
    }
}

/// The same, its label as it is, if `blkid` has escaped anything in it.
fn with_whole_label(signature: Signature, path: &Path) -> Result<Signature> {
    if !signature.label.as_deref().is_some_and(may_be_escaped) {
        return Ok(signature);
    }
    Ok(Signature {
        label: Some(label(path)?),
        ..signature
    })
}

/// `M-C` may be the byte 195 or three letters: what is escaped cannot be read again.
fn may_be_escaped(label: &str) -> bool {
    label.contains(['\\', '^']) || label.contains("M-")
}

/// The label alone, which `blkid` prints as it is.
fn label(path: &Path) -> Result<String> {
    let mut arguments: Vec<&OsStr> = ["-p", "-o", "value", "-s", "LABEL", "--"]
        .map(OsStr::new)
        .to_vec();
    arguments.push(path.as_os_str());
    let printed = BLKID.run(&arguments, &[0])?;
    Ok(printed.strip_suffix('\n').unwrap_or(&printed).to_owned())
}

fn parse(printed: &str) -> Signature {
    let mut signature = Signature::default();
    let mut is_filesystem = false;
    for line in printed.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        match key {
            "TYPE" => signature.fstype = Some(value.to_owned()),
            "UUID" => signature.uuid = Some(value.to_owned()),
            "LABEL" => signature.label = Some(value.to_owned()),
            "BLOCK_SIZE" => signature.sector = value.parse().ok(),
            "USAGE" => is_filesystem = line == "USAGE=filesystem",
            "PTTYPE" => signature.is_ambiguous = true,
            _ => {}
        }
    }
    if signature.fstype.is_some() && !is_filesystem {
        signature.is_ambiguous = true;
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_is_told_from_a_partition_table() {
        let signature =
            parse("DEVNAME=x\nUUID=1-2\nLABEL=home\nBLOCK_SIZE=512\nTYPE=xfs\nUSAGE=filesystem\n");
        assert_eq!(signature.fstype.as_deref(), Some("xfs"));
        assert_eq!(signature.uuid.as_deref(), Some("1-2"));
        assert_eq!(signature.sector, Some(512));
        assert!(!signature.is_ambiguous);
        assert!(parse("PTTYPE=gpt\n").is_ambiguous);
        assert!(parse("TYPE=crypto_LUKS\nUSAGE=crypto\n").is_ambiguous);
    }
}
