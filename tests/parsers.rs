//! What parses takes anything, never panics, and gives back what it was given.
//!
//! The properties are those of the fuzz targets (`make fuzz`), tried here on their seeds, on edits of
//! these, and on anything; 2,000 cases of each, `PROPTEST_CASES=1000000` for the long run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lovol::name::{Name, SnapshotName};
use lovol::sys::mountinfo;
use proptest::prelude::*;

use crate::properties;

fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    // The environment beats what stands here.
    let is_asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if is_asked { default.cases } else { 2000 };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..default
    }
}

/// The inputs that fuzzing begins with.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let entries = std::fs::read_dir(dir.join(target)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path| std::fs::read(path).unwrap();
    paths.into_iter().map(read).collect()
}

/// One of the seeds with some of its bytes replaced, left out, or doubled.
fn edited(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..3);
    let edits = prop::collection::vec(edit, 0..6);
    (prop::sample::select(seeds(target)), edits).prop_map(|(mut bytes, edits)| {
        for (place, byte, how) in edits {
            let at = place.index(bytes.len() + 1);
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn anything() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

/// Two tests for each property: its seeds and edits of them, and anything.
macro_rules! hold {
    ($($property:ident)*) => {
        mod edits {
            use super::*;
            proptest! {
                #![proptest_config(cases())]
                $(#[test] fn $property(bytes in edited(stringify!($property))) { properties::$property(&bytes); })*
            }
        }
        mod of_anything {
            use super::*;
            proptest! {
                #![proptest_config(cases())]
                $(#[test] fn $property(bytes in anything()) { properties::$property(&bytes); })*
            }
        }
    };
}

hold! { index record plan marker mount_table mount_options fstab size name target setting restored }

/// A seed that is refused would be no seed.
#[test]
fn the_seeds_are_what_they_are_called() {
    for seed in seeds("plan") {
        serde_json::from_slice::<Vec<lovol::plan::Step>>(&seed).unwrap();
    }
    for seed in seeds("fstab") {
        assert!(!lovol::provision::read("fstab", &seed).unwrap().is_empty());
    }
    for seed in seeds("record") {
        serde_json::from_slice::<lovol::record::Record>(&seed).unwrap();
    }
    for seed in seeds("restored") {
        lovol::restore::Source::parse(OsStr::from_bytes(&seed)).unwrap();
    }
    for seed in seeds("marker") {
        assert!(lovol::sys::marker::parse(&seed).is_some());
    }
    for seed in seeds("mount_table") {
        let lines = seed.split_inclusive(|byte| *byte == b'\n').count();
        assert_eq!(mountinfo::parse(&seed).len(), lines);
    }
    let indexes = seeds("index");
    let good = indexes
        .iter()
        .filter(|seed| lovol::index::Index::parse(seed).is_ok());
    assert_eq!(good.count(), indexes.len() - 1, "one is of a newer version");
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_well_formed_name_is_taken(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
        prop_assert!(text.parse::<Name>().is_ok());
        let full = format!("{text}@{text}");
        prop_assert_eq!(full.parse::<SnapshotName>().unwrap().to_string(), full);
    }

    #[test]
    fn a_size_like_one_that_is_typed(text in "[0-9.]{0,20}[KMGTPEkmgtpeiB]{0,3}") {
        properties::size(text.as_bytes());
    }

    #[test]
    fn a_target_like_one_that_is_typed(text in "[a-z@%/.]{0,12}") {
        properties::target(text.as_bytes());
    }

    #[test]
    fn an_index_like_json(text in r#"(\{|\}|\[|\]|"version"|"volumes"|"pool"|"record"|:|,|1|null|"a"){0,30}"#) {
        properties::index(text.as_bytes());
        properties::record(text.as_bytes());
        properties::plan(text.as_bytes());
    }

    #[test]
    fn a_mount_point_comes_through_the_kernels_escapes(dir in "/[a-z \\\\\t\n]{0,20}") {
        let escaped: String = dir.chars().map(|character| match character {
            ' ' => "\\040".to_owned(),
            '\t' => "\\011".to_owned(),
            '\n' => "\\012".to_owned(),
            '\\' => "\\134".to_owned(),
            other => other.to_string(),
        }).collect();
        let line = format!("36 35 7:3 / {escaped} rw shared:1 - xfs /dev/loop3 rw\n");
        let entries = mountinfo::parse(line.as_bytes());
        prop_assert_eq!(entries[0].dir.to_str(), Some(dir.as_str()));
    }
}
