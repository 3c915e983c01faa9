//! What must be so of everything that parses, whatever it is given: stated once, for the proptests
//! in `parsers.rs` and for the fuzz targets in `fuzz/`.
//!
//! Each property takes bytes and panics where it does not hold.

#![allow(unreachable_pub, reason = "the fuzz targets see them as a library's")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use lovol::index::Index;
use lovol::name::{Name, SnapshotName};
use lovol::plan::Step;
use lovol::pool::settings;
use lovol::record::Record;
use lovol::restore::Source;
use lovol::size::Size;
use lovol::sys::{marker, mount, mountinfo};
use lovol::target::{Range, Target};
use lovol::{properties, time};

/// What can be read can be written, and is the same when it is read again.
pub fn index(bytes: &[u8]) {
    let Ok(index) = Index::parse(bytes) else {
        return;
    };
    assert!(index.version <= lovol::index::VERSION);
    let written = serde_json::to_vec(&index).unwrap();
    assert_eq!(Index::parse(&written).as_ref(), Ok(&index));
}

/// As read from the xattr of an image.
pub fn record(bytes: &[u8]) {
    same_when_read_again::<Record>(bytes);
}

/// Steps as they are saved in the index, to be finished after a kill.
pub fn plan(bytes: &[u8]) {
    same_when_read_again::<Vec<Step>>(bytes);
    for step in serde_json::from_slice::<Vec<Step>>(bytes).unwrap_or_default() {
        assert!(!step.to_string().contains(['\n', '\x1b']), "{step}");
    }
}

fn same_when_read_again<T>(bytes: &[u8])
where
    T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug,
{
    if let Ok(read) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&read).unwrap();
        assert_eq!(serde_json::from_slice::<T>(&written).unwrap(), read);
    }
}

/// The marker of a freeze, as a dead lovol leaves it.
pub fn marker(bytes: &[u8]) {
    let Some((note, state)) = marker::parse(bytes) else {
        return;
    };
    // Nothing is thawed for a word that is not one of ours.
    let word = bytes.first_chunk().map(|word| u32::from_ne_bytes(*word));
    assert_eq!(
        state.may_be_frozen(),
        word == Some(marker::State::Intent as u32) || word == Some(marker::State::Frozen as u32)
    );
    let written = serde_json::to_vec(&note).unwrap();
    assert_eq!(
        serde_json::from_slice::<marker::Note>(&written).unwrap(),
        note
    );
}

/// A line is one mount at most, and no path is longer than what it was read from.
pub fn mount_table(bytes: &[u8]) {
    let entries = mountinfo::parse(bytes);
    assert!(entries.len() <= bytes.split(|byte| *byte == b'\n').count());
    for entry in &entries {
        let length = entry.dir.as_os_str().len() + entry.root.as_os_str().len();
        assert!(length <= bytes.len());
        let top = mountinfo::at(&entries, &entry.dir).unwrap();
        assert_eq!(top.dir, entry.dir);
    }
}

/// Whatever else is asked for, of `ro` and `rw` the last one counts.
pub fn mount_options(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let options = mount::Options::parse(text);
    let mut more = options.clone();
    more.add("ro");
    assert!(more.is_read_only());
    more.add("rw");
    assert!(!more.is_read_only());
}

/// A line is one wish at most, and what is to be kept is read again as it is shown.
pub fn fstab(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let Ok(wishes) = lovol::provision::read("fstab", bytes) else {
        return;
    };
    assert!(wishes.len() <= lines);
    for wish in wishes {
        assert!(wish.line > 0 && wish.line <= lines);
        assert!(wish.spec.pool.is_none_or(|pool| pool.is_absolute()));
        if let Some(keep) = wish.volume.properties.get("keep") {
            assert_eq!(
                &keep.parse::<lovol::keep::Keep>().unwrap().to_string(),
                keep
            );
        }
    }
}

/// A size is more than 0, not too large, and is near to what is shown of it.
pub fn size(bytes: &[u8]) {
    let Some(Size(size)) = parse::<Size>(bytes) else {
        return;
    };
    assert!(size > 0 && size <= lovol::size::MAX);
    let shown = Size(size).to_string();
    // 512B is a number of bytes, and no unit that is taken.
    if let (Ok(Size(read)), false) = (shown.parse::<Size>(), shown.ends_with('B')) {
        assert!(
            read.abs_diff(size) <= size / 10,
            "{size} is shown as {shown}, which is {read}"
        );
    }
}

/// A name is what it was, and can be no path, no option, and no two names.
pub fn name(bytes: &[u8]) {
    if let Some(name) = parse::<Name>(bytes) {
        assert_eq!(name.as_str().as_bytes(), bytes);
        assert!(!bytes.is_empty() && bytes.len() <= 64);
        assert!(bytes[0].is_ascii_alphanumeric());
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        assert!(bytes.iter().all(is_plain));
    }
    if let Some(name) = parse::<SnapshotName>(bytes) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
}

/// A target is a path exactly if it has a `/`, and otherwise the name that it was.
pub fn target(bytes: &[u8]) {
    match Target::parse(OsStr::from_bytes(bytes)) {
        Ok(Target::Path(path)) => {
            assert!(bytes.contains(&b'/'));
            assert_eq!(path.as_os_str().as_bytes(), bytes);
        }
        Ok(Target::Volume(name)) => assert_eq!(name.as_str().as_bytes(), bytes),
        Ok(Target::Snapshot(name)) => assert_eq!(name.to_string().as_bytes(), bytes),
        Err(why) => assert!(!bytes.contains(&b'/') && !why.is_empty()),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Range::parse(text));
    }
}

/// What `set` takes it stores, and takes again as it is stored; a time to come is one.
pub fn setting(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some((key, value)) = text.split_once('=') else {
        if let Ok(until) = time::parse_until(text) {
            assert!(until >= time::now_in_seconds());
        }
        return;
    };
    for parse in [properties::parse, settings::parse] {
        if let Ok(stored) = parse(key, value) {
            assert_eq!(parse(key, &stored), Ok(stored.clone()));
        }
    }
}

/// A path in a snapshot leads nowhere else.
pub fn restored(bytes: &[u8]) {
    if let Ok(source) = Source::parse(OsStr::from_bytes(bytes)) {
        assert!(!source.path.as_os_str().is_empty() && source.path.is_relative());
        let is_plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(source.path.components().all(is_plain));
    }
}

fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
