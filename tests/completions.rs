//! TAB in bash, zsh and fish, on a terminal.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Lovol, Scratch, Shell, TestPool, lovol};

/// A pool with `home`, `homework` and `srv`, of which `srv` is mounted and has two snapshots.
fn pool() -> TestPool {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol create homework 1M --fs none");
    pool.mounted("srv", "16M --fs ext4");
    pool.sh("lovol snapshot srv@one; lovol snapshot srv@other; lovol attach homework; lovol hold srv@other; mkdir -p dir/deeper 'my dir' 'do$(touch pwned)' 'br[a]ck'");
    pool
}

fn completes(name: &'static str) {
    let pool = pool();
    let mut shell = Shell::start(name, pool.temp(), pool.path());
    for (keys, command) in [
        ("lovol sna\tsr\t", &["snapshot", "srv"][..]),
        (
            "lovol snapshot --max\t5 sr\t",
            &["snapshot", "--max-freeze", "5", "srv"],
        ),
        ("lovol delete srv@on\t", &["delete", "srv@one"]),
        ("lovol show srv@ot\t-J", &["show", "srv@other", "-J"]),
        // A range ends with what is no older than its beginning.
        ("lovol delete srv@other%\t", &["delete", "srv@other%other"]),
        // Only what fits: the others are attached or mounted.
        ("lovol attach h\t", &["attach", "home"]),
        ("lovol detach h\t", &["detach", "homework"]),
        ("lovol umount s\t", &["umount", "srv"]),
        (
            "lovol create new 5G --fs ex\t",
            &["create", "new", "5G", "--fs", "ext4"],
        ),
        (
            "lovol mount home di\tde\t",
            &["mount", "home", "dir/deeper/"],
        ),
        // The verbs that are about snapshots alone, and those that are about what is held.
        ("lovol hold s\ton\t", &["hold", "srv@one"]),
        ("lovol release s\to\t", &["release", "srv@other"]),
        ("lovol rollback srv@on\t", &["rollback", "srv@one"]),
        (
            "lovol diff srv@on\t srv@ot\t",
            &["diff", "srv@one", "srv@other"],
        ),
        ("lovol prune hom\tw\t", &["prune", "homework"]),
        ("lovol resize srv m\t", &["resize", "srv", "max"]),
        ("lovol set srv ke\t24h", &["set", "srv", "keep=24h"]),
        ("lovol set tr\t30d", &["set", "trash=30d"]),
        ("lovol get srv ke\t", &["get", "srv", "keep"]),
        // Names that a shell would not take for names.
        ("lovol mount home my\t", &["mount", "home", "my dir/"]),
        (
            "lovol mount home do\t",
            &["mount", "home", "do$(touch pwned)/"],
        ),
        ("lovol mount home br\t", &["mount", "home", "br[a]ck/"]),
        (
            "lovol mount srv dir -o snap=on\t",
            &["mount", "srv", "dir", "-o", "snap=one"],
        ),
        (
            "lovol mount -o ro,noat\thome dir",
            &["mount", "-o", "ro,noatime", "home", "dir"],
        ),
    ] {
        shell.completes(keys, command);
    }
    // The second TAB lists them.
    let listed = shell.lists("lovol delete srv@o\t\t", &["one", "other"]);
    assert!(!listed.contains("localhost"), "{listed:?}");
    shell.lists("lovol show home\t\t", &["home", "homework"]);
    let listed = shell.lists("lovol mount home d\t\t", &["dir", "do"]);
    assert!(!listed.contains("//"), "{listed:?}");
    // Options where somebody asks for them; fish asks lovol without a word of ours.
    let listed = shell.lists("lovol show \t\t", &["home", "srv"]);
    assert!(name == "fish" || !listed.contains("--pool"), "{listed:?}");
    shell.lists("lovol create new 50\t\t", &["50M", "50G", "50T"]);
}

#[test]
fn bash_completes() {
    completes("bash");
}

#[test]
fn zsh_completes() {
    completes("zsh");
}

#[test]
fn fish_completes() {
    completes("fish");
}

#[test]
fn without_a_pool_nothing_is_said() {
    let scratch = Scratch::new();
    for words in [
        &["lovol", "show", ""][..],
        &["lovol", "show", "home@"],
        &["lovol", "undelete", ""],
        &["lovol", "umount", ""],
    ] {
        let mut ask = lovol("--")
            .env("LOVOL_COMPLETE", "zsh")
            .env("LOVOL_POOL", scratch.path());
        ask = ask.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let answer = words.iter().fold(ask, Lovol::arg).finish();
        assert_eq!(
            (answer.code(), answer.stderr.as_str()),
            (Some(0), ""),
            "{answer}"
        );
    }
}

/// A person does not notice 50 ms, and the optimised build takes half of that; here it is the other one,
/// beside other tests, and perhaps in a slow kernel: but it does not look at ten thousand images.
#[test]
fn ten_thousand_snapshots_are_no_reason_to_wait() {
    let pool = TestPool::new();
    pool.lovol("create home 1M --fs none").ok_any();
    pool.lovol("snapshot home@first").ok_any();
    let file = pool.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let snapshots = index["volumes"]["home"]["snapshots"]
        .as_object_mut()
        .unwrap();
    let record = snapshots["first"].clone();
    for number in 0..10_000 {
        snapshots.insert(format!("s{number}"), record.clone());
    }
    fs::write(&file, json!(index).to_string()).unwrap();
    let quickest = (0..5).map(|_| {
        let started = Instant::now();
        let answer = pool.lovol("--").arg("lovol").arg("show").arg("home@s99");
        let answer = answer
            .env("LOVOL_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "2");
        assert_eq!(answer.ok_any().lines().count(), 111);
        started.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_secs(5), "{quickest:?}");
}
