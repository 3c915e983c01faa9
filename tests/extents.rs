//! How many pieces an image is in: `show` counts them, and says truly what helps.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::support::{Finished, TestPool, sh};

/// Writes every other block of the first `2 * count`.
fn scatter(file: &File, count: u64) {
    for block in 0..count {
        file.write_all_at(&[0x5A; 4096], 2 * block * 4096).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn show_counts_what_the_image_has_at_this_moment() {
    let pool = TestPool::new();
    pool.lovol("create plain 16M --fs none").ok_any();
    // Else there would be more than what is written.
    pool.sh("xfs_io -c 'extsize 0' $POOL/volumes/plain.img");
    let shown = || -> Value { pool.lovol("show plain -J").json()["volumes"][0].clone() };
    assert_eq!(shown()["extents"], 0);
    assert_eq!(shown()["extents_per_gib"], Value::Null);

    let image = File::options()
        .write(true)
        .open(pool.image("plain"))
        .unwrap();
    scatter(&image, 100);
    assert_eq!(shown()["extents"], 100);
    // Each block is an extent of its own, and what names them takes a little room too.
    let is_most = |per_gib: &Value| (250_000..=1 << 18).contains(&per_gib.as_u64().unwrap());
    assert!(is_most(&shown()["extents_per_gib"]), "{}", shown());
    drop(image);

    // A snapshot has what it had when it was taken.
    pool.lovol("snapshot plain@a").ok_any();
    let image = File::options()
        .write(true)
        .open(pool.image("plain"))
        .unwrap();
    scatter(&image, 200);
    let snapshot = pool.lovol("show plain@a -J").json()["snapshots"][0].clone();
    assert_eq!(snapshot["extents"], 100);
    assert!(is_most(&snapshot["extents_per_gib"]), "{snapshot}");
    assert_eq!(shown()["extents"], 200);
    assert!(
        pool.lovol("show plain")
            .ok_any()
            .contains("\nextents:          200\n")
    );
}

/// What XFS has been asked to allocate an image in.
fn size_hint(pool: &TestPool, volume: &str) -> String {
    pool.sh(&format!(
        "xfs_io -r -c extsize $POOL/volumes/{volume}.img | cut -d ' ' -f 1"
    ))
}

#[test]
fn a_new_volume_is_allocated_in_large_pieces() {
    let pool = TestPool::new();
    pool.lovol("create plain 16M --fs none").ok_any();
    assert_eq!(size_hint(&pool, "plain"), "[131072]");
    // Each block once, in any order, as a guest's direct writes come.
    let image = File::options()
        .write(true)
        .open(pool.image("plain"))
        .unwrap();
    for number in 0..1024 {
        let block = number * 389 % 1024;
        image.write_all_at(&[0x5A; 4096], block * 4096).unwrap();
        image.sync_data().unwrap();
    }
    drop(image);
    let shown = pool.lovol("show plain -J").json();
    let extents = shown["volumes"][0]["extents"].as_u64().unwrap();
    assert!(extents <= 32, "{extents} extents in 4 MiB");

    pool.lovol("snapshot plain@a").ok_any();
    pool.lovol("clone plain@a second").ok_any();
    assert_eq!(size_hint(&pool, "second"), "[131072]");
    let same = "cmp $POOL/volumes/plain.img $POOL/volumes/second.img";
    pool.sh(same);
}

/// `lovol show home`, where XFS says that the image has so many extents.
fn show_with(pool: &TestPool, extents: u32) -> Finished {
    // struct fsxattr of linux/fs.h: the number is its third word.
    let bytes = extents
        .to_le_bytes()
        .map(|byte| format!("{byte:02x}"))
        .concat();
    let image = pool.image("home");
    let options = format!(
        "-P {} -e trace=ioctl -e inject=ioctl:poke_exit=@arg3=0000000000000000{bytes}",
        image.display()
    );
    let shown = pool
        .lovol("show home")
        .strace(pool.temp().join("log"), &options)
        .finish();
    assert!(shown.status.success(), "{shown}");
    assert!(
        shown
            .stdout
            .contains(&format!("\nextents:          {extents}\n")),
        "{shown}"
    );
    shown
}

#[test]
fn show_warns_of_more_than_a_million_extents() {
    let pool = TestPool::new();
    pool.lovol("create home 16M --fs ext4").ok_any();
    assert_eq!(show_with(&pool, 1_000_000).stderr, "");
    let warning = show_with(&pool, 1_000_001).stderr;
    assert!(
        warning.starts_with("warning: home has 1000001 extents"),
        "{warning}"
    );
    assert_eq!(warning.lines().count(), 1, "{warning}");
}

/// What stands in quotation marks in the warning.
fn advice(pool: &TestPool) -> String {
    let warning = show_with(pool, 2_000_000).stderr;
    let advice = warning.split('\'').nth(1);
    advice
        .unwrap_or_else(|| panic!("no advice: {warning}"))
        .to_owned()
}

#[test]
fn what_the_warning_advises_makes_few_extents_and_changes_no_byte() {
    let pool = TestPool::new();
    let home = pool.mounted("home", "64M --fs ext4");
    let file = File::create(home.join("file")).unwrap();
    file.write_all_at(&vec![0x5A; 2000 * 4096], 0).unwrap();
    for number in 0..3 {
        scatter(&file, 1000);
        pool.lovol(&format!("snapshot home@s{number}")).ok_any();
    }
    scatter(&file, 500);
    drop(file);
    pool.lovol("umount home").ok("");
    let extents = || {
        pool.lovol("show home -J").json()["volumes"][0]["extents"]
            .as_u64()
            .unwrap()
    };
    assert!(extents() > 500, "{}", extents());
    let images = [pool.image("home"), pool.snapshot_image("home", "s1")];
    let sums = || {
        images
            .each_ref()
            .map(|image| sh(&format!("sha256sum < {}", image.display())))
    };
    let before = sums();

    pool.sh(&advice(&pool));
    assert!(extents() < 100, "{}", extents());
    assert_eq!(sums(), before);
    pool.lovol("check").ok("");
    pool.lovol("snapshot home@after").ok_any();
    pool.lovol("mount home").arg(&home).ok("");
}
