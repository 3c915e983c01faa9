//! The plan that `-n` shows is what is then done.

use crate::support::{TestPool, ensure_unchanged};

/// `gone@20261121T101500Z` is `gone@TIME`, and so is `gone@20261121T101500Z_1`, of the same second as
/// another: the only thing that differs between two runs.
fn without_times(line: &str) -> String {
    let is_like = |text: &str, shape: &str| {
        text.len() >= shape.len()
            && shape
                .bytes()
                .zip(text.bytes())
                .all(|(wanted, found)| match wanted {
                    b'0' => found.is_ascii_digit(),
                    _ => found == wanted,
                })
    };
    let (shape, mut result, mut rest) = ("00000000T000000Z", String::new(), line);
    while let Some(first) = rest.chars().next() {
        if is_like(rest, shape) {
            result.push_str("TIME");
            rest = &rest[shape.len()..];
            rest = rest.strip_prefix("_1").unwrap_or(rest);
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    result
}

/// Runs a command with `-n -J`, which changes nothing, then with `-v`: both tell the same steps.
#[track_caller]
fn as_planned(pool: &TestPool, words: &str) {
    let temp = pool.temp().to_str().unwrap();
    let words = words.replace("$TEMP", temp);
    let planned = ensure_unchanged(pool, || pool.lovol(&format!("-n -J {words}")).json());
    assert!(planned["plan"].is_array(), "{words}: {planned}");
    let planned: Vec<String> = planned["plan"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| without_times(step["text"].as_str().unwrap()))
        .collect();
    let shown = ensure_unchanged(pool, || pool.lovol(&format!("-n {words}")).ok_any());
    let shown: Vec<String> = shown
        .lines()
        .map(|line| without_times(line.strip_prefix("would ").unwrap()))
        .collect();

    let done = pool.lovol(&format!("-q -v -y {words}")).finish();
    assert!(done.status.success(), "{done}");
    let steps: Vec<String> = done
        .stderr
        .lines()
        // What is told of a step is none.
        .filter(|line| !line.starts_with("warning: ") && !line.starts_with("  "))
        .map(without_times)
        .collect();
    assert_eq!(planned, steps, "{words}");
    assert_eq!(shown, steps, "{words}");
    assert!(!steps.is_empty(), "{words}: it does nothing");
}

#[test]
fn every_verb_does_what_it_has_planned() {
    let pool = TestPool::new();
    for dir in ["home", "view", "again"] {
        pool.dir(dir);
    }
    for words in [
        "create home 300M",
        "create small 20M --fs ext4 --label small",
        "create b 200M --fs btrfs",
        "create raw 1M --fs none",
        "attach raw",
        "detach raw",
        "mount home $TEMP/home",
        "mount home $TEMP/again -o noatime",
        "umount $TEMP/again",
        "snapshot home@a",
        "snapshot small@a",
        "snapshot home@b --crash",
        "mount home@a $TEMP/view",
        "umount home@a",
        "mount home@b $TEMP/view",
        "umount home@b",
        "attach home@a",
        "detach home@a",
        "clone home@a trial",
        "clone home copy",
        "clone home@a trial --force",
        "umount home",
        "clone small small2 --keep-uuid",
        "rename home@a home@z",
        "rename home house",
        "rename small2 small3",
        "delete house@z",
        "snapshot house@c",
        "snapshot house@d",
        "hold house@c house@d --tag t",
        "release house@c house@d --tag t",
        "set house user:a=b user:c=d",
        "set house user:a=",
        "set trash=3d",
        "protect house",
        "protect --off house",
        "rollback house@c",
        "rollback --undo house",
        "rollback --next-mount house@c",
        "set house rollback-to=",
        "resize house +256M",
        "trim house",
        "delete house@c%d small3",
        "delete -r house",
        "undelete house",
        "undelete small3 --as back",
        "delete back",
        "purge back",
        "delete --now copy",
        "purge --all",
    ] {
        as_planned(&pool, words);
    }
    pool.lovol("check").ok("");
}

#[test]
fn adopting_and_cloning_outside_do_what_they_have_planned() {
    // The pool is only a part of its filesystem, so that there is room beside it.
    let pool = TestPool::raw();
    pool.sh(
        "lovol init $POOL/pool
         truncate -s 20M $POOL/one.img; mkfs.ext4 -q $POOL/one.img; cp $POOL/one.img $POOL/two.img",
    );
    let root = pool.path().to_str().unwrap();
    for words in [
        "create adopted --from ROOT/one.img",
        "create moved --from ROOT/two.img --move",
        "clone ROOT/one.img ROOT/three.img",
        "clone ROOT/one.img ROOT/three.img --force --new-uuid",
        "clone adopted ROOT/four.img",
    ] {
        let words = words.replace("ROOT", root);
        as_planned(&pool, &format!("--pool {root}/pool {words}"));
    }
}

#[test]
fn init_does_what_it_has_planned() {
    let pool = TestPool::raw();
    let dir = pool.path().to_str().unwrap().to_owned();
    as_planned(&pool, &format!("init {dir}"));
    as_planned(&pool, "init --loop 512M --sparse $TEMP/own");
    as_planned(&pool, "init --loop +100M $TEMP/own");
    pool.sh("umount $TEMP/own; chattr -R -i $TEMP/own; rm -rf $TEMP/own $TEMP/own.img");
}

#[test]
fn check_repairs_what_it_has_planned() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    pool.lovol("snapshot home@a").ok_any();
    pool.sh("rm $POOL/index.json");
    as_planned(&pool, "check --repair");
    pool.lovol("check").ok("");
}
