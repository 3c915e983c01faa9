//! What keeps volumes and snapshots: holds, protection, properties, and the pool's settings.

use crate::support::{TestPool, ensure_unchanged};

fn pool() -> TestPool {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@a; lovol snapshot home@b");
    pool
}

#[test]
fn a_held_snapshot_stays() {
    let pool = pool();
    pool.lovol("hold home@a home@b").ok("");
    let held = pool.lovol("hold home@a --tag backup --until 30d -J").json();
    let shown = pool.lovol("list -a -J").json();
    assert_eq!(
        held["holds"][0]["holds"],
        shown["volumes"][0]["snapshots"][0]["holds"]
    );
    assert!(held["holds"][0]["holds"]["user"].is_null(), "{held}");
    let shown = pool.lovol("show home@a").ok_any();
    assert!(shown.contains("backup until 20"), "{shown}");
    assert!(shown.contains(", user"), "{shown}");
    for words in [
        "delete home@a",
        "delete home@a%b",
        "delete -r home",
        "delete -r -y --now home",
    ] {
        let said = ensure_unchanged(&pool, || {
            pool.lovol(words).fails(1, "it is held: backup (until")
        });
        assert!(
            said.contains("hint: 'lovol release --tag backup home@a' and 'lovol release home@a'"),
            "{said}"
        );
    }
    pool.lovol("create other 1M --fs none").ok_any();
    pool.lovol("clone --force other home")
        .fails(1, "it is held");
    // The record has it, too.
    pool.sh("rm $POOL/index.json; lovol check --repair");
    ensure_unchanged(&pool, || {
        pool.lovol("release home@a --tag other")
            .fails(1, "no hold named other on home@a")
    });
    pool.lovol("release home@a").ok("");
    pool.lovol("delete home@a").fails(1, "it is held: backup");
    pool.lovol("release home@a --tag backup").ok("");
    pool.lovol("delete home@a").ok("");
    pool.lovol("delete home@b").fails(1, "it is held: user");
    pool.lovol("hold home")
        .fails(2, "volume home is no snapshot");
    pool.lovol("hold home@b --until 2001-01-01")
        .fails(2, "is over");
    pool.lovol("hold home@b --until whenever")
        .fails(2, "is not like 30d");
    pool.lovol("check").ok("");
}

#[test]
fn only_what_can_be_there_is_taken_away() {
    let pool = pool();
    ensure_unchanged(&pool, || {
        for words in [
            "set rollback-to=",
            "set keep=",
            "set user:a=",
            "set home reserve=",
            "set home nothing=",
        ] {
            pool.lovol(words).fails(2, "there is no such property");
        }
    });
    pool.lovol("set reserve= ").ok("");
    pool.lovol("set home keep= rollback-to= user:a=").ok("");
}

#[test]
fn a_protected_volume_stays() {
    let pool = pool();
    pool.lovol("create other 1M --fs none").ok_any();
    pool.lovol("protect home").ok("");
    for words in [
        "delete -r home",
        "delete -r -y --now home",
        "clone --force other home",
    ] {
        let said = ensure_unchanged(&pool, || pool.lovol(words).fails(1, "it is protected"));
        assert!(said.contains("hint: 'lovol protect --off home'"), "{said}");
    }
    // Its snapshots are not.
    pool.lovol("delete home@a").ok("");
    pool.lovol("protect --off home").ok("");
    pool.lovol("get home").ok("");
    pool.lovol("delete -r home").ok("");
}

#[test]
fn properties_are_set_and_taken_away() {
    let pool = pool();
    ensure_unchanged(&pool, || {
        pool.lovol("set home keep=7d24h user:a=b -n")
            .ok("would set keep=24h7d of home\nwould set user:a=b of home\n");
        for (words, says) in [
            ("set home keep=some", "keep=some: 'some' is not like"),
            ("set home nonsense=1", "there is no property 'nonsense'"),
            ("set home keep", "it is not KEY=VALUE"),
            ("set home", "what is to be set?"),
            ("set home user:a=1 user:a=2", "it stands there twice"),
            (
                "set home@a keep=1d",
                "a snapshot has only properties of your own",
            ),
            ("set colour=red", "there is no setting 'colour'"),
            ("set trash=soon", "'soon' is not like"),
            ("set home kep=", "there is no such property"),
        ] {
            pool.lovol(words).fails(2, says);
        }
        pool.lovol("set nobody user:a=1")
            .fails(1, "no volume named nobody");
    });
    pool.lovol("set home keep=7d24h user:a=b").ok("");
    pool.lovol("set home@a user:why=upgrade").ok("");
    pool.lovol("get home").ok("keep=24h7d\nuser:a=b\n");
    pool.lovol("get home keep").ok("24h7d\n");
    pool.lovol("get home@a user:why").ok("upgrade\n");
    pool.lovol("get home trim")
        .fails(1, "no property trim of home");
    pool.lovol("set home keep=").ok("");
    pool.sh("rm $POOL/index.json; lovol check --repair");
    pool.lovol("get home").ok("user:a=b\n");
    let json = pool.lovol("get home -J").json();
    assert_eq!(json["properties"][0]["properties"]["user:a"], "b");
}

#[test]
fn settings_of_the_pool_have_defaults() {
    let pool = pool();
    let defaults = "command=none\nlow=5%\novercommit=any\nreserve=1%\ntrash=7d\nwarn=15%\n";
    pool.lovol("get").ok(defaults);
    pool.lovol("set trash=30d overcommit=1.5").ok("");
    let set = pool.lovol("get").ok_any();
    assert!(
        set.contains("trash=30d\n") && set.contains("overcommit=1.5\n"),
        "{set}"
    );
    pool.lovol("get overcommit").ok("1.5\n");
    pool.lovol("set trash= overcommit=").ok("");
    pool.lovol("get").ok(defaults);
    for wrong in [
        "overcommit=many",
        "reserve=110%",
        "warn=20",
        "low=many",
        "low=-1",
        "command=sh",
        "warn=0x1",
    ] {
        pool.lovol(&format!("set {wrong}")).fails(2, "error: ");
    }
    pool.lovol("check").ok("");
}
