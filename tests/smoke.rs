//! Is it alive? The first minutes with lovol.

use crate::support::{TestPool, ensure_unchanged, lovol};

#[test]
fn it_tells_its_version() {
    lovol("--version").ok(concat!("lovol ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn a_snapshot_keeps_what_the_volume_loses() {
    let pool = TestPool::new();
    let home = pool.dir("home");
    let old = pool.dir("old");

    pool.lovol("create home 300M").ok_any();
    pool.lovol("mount home").arg(&home).ok_any();
    pool.sh("echo precious > $TEMP/home/letter");

    pool.lovol("snapshot home@monday").ok("home@monday\n");
    pool.sh("rm $TEMP/home/letter");

    pool.lovol("mount home@monday").arg(&old).ok_any();
    assert_eq!(pool.sh("cat $TEMP/old/letter"), "precious");

    let list = pool.lovol("list -a -J").json();
    assert_eq!(list["volumes"][0]["name"], "home");
    assert_eq!(list["volumes"][0]["snapshots"][0]["name"], "monday");
}

#[test]
fn a_volume_is_never_created_over_another() {
    let pool = TestPool::new();
    pool.lovol("create home 300M").ok_any();

    ensure_unchanged(&pool, || {
        pool.lovol("create home 400M").fails(1, "home");
    });
}
