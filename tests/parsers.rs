//! What parses takes anything, never panics, and gives back what it was given.
//!
//! 2,000 cases of each here; `PROPTEST_CASES=1000000` for the long run.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use lovol::index::Index;
use lovol::name::{Name, SnapshotName};
use lovol::record::Record;
use lovol::size::Size;
use lovol::sys::{mount, mountinfo};
use lovol::target::{Range, Target};
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_name_is_what_it_was_or_none(text in "\\PC{0,80}") {
        if let Ok(name) = text.parse::<Name>() {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert!(!text.starts_with(['-', '.', '_']) && !text.contains(['/', '@', '%', '\0', '\n']));
        }
    }

    #[test]
    fn a_well_formed_name_is_taken(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,63}") {
        prop_assert!(text.parse::<Name>().is_ok());
        let full = format!("{text}@{text}");
        prop_assert_eq!(full.parse::<SnapshotName>().unwrap().to_string(), full);
    }

    #[test]
    fn a_size_is_never_0_nor_too_large(text in "[0-9.]{0,20}[KMGTPEkmgtpeiB]{0,3}") {
        if let Ok(Size(bytes)) = text.parse::<Size>() {
            prop_assert!(bytes > 0 && bytes <= lovol::size::MAX);
        }
    }

    #[test]
    fn a_size_that_is_shown_is_near_to_what_it_is(bytes in 1_u64..lovol::size::MAX) {
        let shown = Size(bytes).to_string();
        // 512B is a number of bytes, and no unit that is taken.
        if let Ok(Size(read)) = shown.parse::<Size>() {
            if !shown.ends_with('B') {
                let difference = read.abs_diff(bytes);
                prop_assert!(difference <= bytes / 10, "{bytes} is shown as {shown}, which is {read}");
            }
        }
    }

    #[test]
    fn a_target_is_a_path_only_with_a_slash(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let is_path = matches!(Target::parse(OsStr::from_bytes(&bytes)), Ok(Target::Path(_)));
        prop_assert_eq!(is_path, bytes.contains(&b'/'));
    }

    #[test]
    fn a_range_never_panics(text in "[a-z@%]{0,12}") {
        drop(Range::parse(&text));
    }

    #[test]
    fn an_index_of_anything_is_refused_or_kept(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(Index::parse(&bytes));
    }

    #[test]
    fn an_index_like_json_never_panics(text in r#"(\{|\}|\[|\]|"version"|"volumes"|"pool"|"record"|:|,|1|null|"a"){0,30}"#) {
        drop(Index::parse(text.as_bytes()));
        drop(serde_json::from_str::<Record>(&text));
    }

    #[test]
    fn a_mount_table_of_anything_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(mountinfo::parse(&bytes));
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

    #[test]
    fn mount_options_of_anything_never_panic(text in "\\PC{0,60}") {
        drop(mount::Options::parse(&text));
    }
}
