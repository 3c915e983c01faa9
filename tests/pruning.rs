//! `lovol prune`: what stays, what goes, and that nothing goes when the clock is wrong.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Numbers, TestPool, ensure_unchanged, sh};

/// `home` with snapshots of these times, newest last; their images are copies of one.
#[track_caller]
fn pool(times: &[String]) -> TestPool {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@seed");
    for time in times {
        add(&pool, "home", &name(time), time, None);
    }
    pool.sh("lovol delete home@seed");
    pool
}

/// `2026-11-21T10:15:00Z` is `20261121T101500Z`.
fn name(time: &str) -> String {
    time.replace(['-', ':'], "")
}

/// A snapshot as if it had been taken then.
#[track_caller]
fn add(pool: &TestPool, volume: &str, name: &str, time: &str, group: Option<&str>) {
    pool.sh(&format!("lovol snapshot {volume}@{name}"));
    change(pool, volume, name, |record| {
        record["created"] = json!(time);
        if let Some(group) = group {
            record["group"] = json!(group);
        }
    });
}

/// Changes what is known of a snapshot, in its record and in the index.
#[track_caller]
fn change(pool: &TestPool, volume: &str, name: &str, change: impl FnOnce(&mut Value)) {
    let file = pool.snapshot_image(volume, name);
    let mut record = record_of(&file);
    change(&mut record);
    let mut index = read_index(pool);
    index["volumes"][volume]["snapshots"][name] = record.clone();
    fs::write(pool.path().join("index.json"), index.to_string()).unwrap();
    let record = record.to_string();
    rustix::fs::setxattr(
        &file,
        "user.lovol",
        record.as_bytes(),
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
}

fn record_of(path: &Path) -> Value {
    let mut bytes = vec![0; 65536];
    let length = rustix::fs::getxattr(path, "user.lovol", &mut bytes[..]).unwrap();
    serde_json::from_slice(&bytes[..length]).unwrap()
}

/// Notes something beside the pool's settings, as if a lovol had.
fn note(pool: &TestPool, key: &str, value: Value) {
    let mut settings = record_of(pool.path());
    settings[key] = value;
    let text = settings.to_string();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(pool.path(), "user.lovol", text.as_bytes(), flags).unwrap();
}

/// The time so many hours ago.
fn ago(hours: i64) -> String {
    let now = jiff::Timestamp::now();
    let now = jiff::Timestamp::from_second(now.as_second()).unwrap();
    (now - jiff::SignedDuration::from_hours(hours)).to_string()
}

fn read_index(pool: &TestPool) -> Value {
    serde_json::from_slice(&fs::read(pool.path().join("index.json")).unwrap()).unwrap()
}

fn names(pool: &TestPool) -> Vec<String> {
    let index = read_index(pool);
    let snapshots = index["volumes"]["home"]["snapshots"].as_object();
    snapshots
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

/// Times from some hours to some years ago, seeded, newest last.
fn some_times(seed: u64, count: u64) -> Vec<String> {
    let mut numbers = Numbers(seed);
    let mut hours: Vec<u64> = (0..count)
        .map(|_| {
            let scale =
                [48, 24 * 30, 24 * 400, 24 * 1500][usize::try_from(numbers.below(4)).unwrap()];
            1 + numbers.below(scale)
        })
        .collect();
    hours.sort_unstable();
    hours.dedup();
    let times = hours.iter().rev();
    times
        .map(|hours| {
            sh(&format!(
                "date -u -d '{hours} hours ago' +%Y-%m-%dT%H:%M:%SZ"
            ))
        })
        .collect()
}

#[test]
fn the_same_are_kept_as_restic_keeps() {
    let times = some_times(3, 40);
    let pool = pool(&times);
    pool.sh("export RESTIC_REPOSITORY=$TEMP/restic RESTIC_PASSWORD=x; mkdir empty; restic init -q");
    for time in &times {
        let shown = time.replace('T', " ").replace('Z', "");
        pool.sh(&format!(
            "export RESTIC_REPOSITORY=$TEMP/restic RESTIC_PASSWORD=x TZ=UTC
             restic backup -q --time '{shown}' --host h empty"
        ));
    }
    for counts in [
        "--keep-last 3",
        "--keep-hourly 5 --keep-daily 7",
        "--keep-daily 3 --keep-weekly 4 --keep-monthly 12 --keep-yearly 2",
        "--keep-weekly 6",
        "--keep-hourly 100",
        "--keep-yearly 100",
        "--keep-within 36h",
        "--keep-within 45d --keep-last 2",
        "--keep-within 400d",
    ] {
        let forgotten = pool.sh(&format!(
            "export RESTIC_REPOSITORY=$TEMP/restic RESTIC_PASSWORD=x TZ=UTC
             restic forget --dry-run --json --group-by host {counts} |
                 jq -r '.[0].keep[].time' | cut -c 1-19 | sort"
        ));
        let kept = pool.lovol(&format!("prune home -n -J {counts}")).json();
        let mut ours: Vec<String> = kept["plan"]
            .as_array()
            .unwrap()
            .iter()
            // What lovol keeps in any case is not what the counts keep.
            .filter(|verdict| {
                verdict["keeps"]
                    .as_array()
                    .is_some_and(|keeps| !keeps.is_empty())
            })
            .map(|verdict| {
                let name = verdict["name"].as_str().unwrap().replace("home@", "");
                times.iter().find(|time| self::name(time) == name).unwrap()[..19].to_owned()
            })
            .collect();
        ours.sort();
        // restic keeps the oldest while a count has something left, but not yet restic 0.14.
        let oldest = &times[0][..19];
        if !forgotten.contains(oldest) {
            ours.retain(|time| time != oldest);
        }
        assert_eq!(ours.join("\n"), forgotten, "{counts}");
    }
    // Done, and then nothing more is to be done.
    let planned = pool
        .lovol("prune home -n --keep-daily 3 --keep-monthly 2")
        .ok_any();
    let gone = pool
        .lovol("prune home --keep-daily 3 --keep-monthly 2")
        .ok_any();
    assert_eq!(
        planned.matches("would delete").count(),
        gone.lines().count(),
        "{planned}"
    );
    pool.lovol("prune home --keep-daily 3 --keep-monthly 2")
        .ok("");
    pool.lovol("check").ok("");
}

#[test]
fn a_day_is_one_of_utc_or_of_the_machines_calendar() {
    // In Tokyo the third is of the next day.
    let times = [
        "2025-12-01T10:00:00Z",
        "2026-01-01T10:00:00Z",
        "2026-01-01T16:00:00Z",
        "2026-01-03T10:00:00Z",
    ];
    let pool = pool(&times.map(str::to_owned));
    let gone = |options: &str| {
        let words = format!("prune home -n -J --keep-daily 4 {options}");
        let plan = pool.lovol(&words).env("TZ", "Asia/Tokyo").json()["plan"].clone();
        let verdicts = plan.as_array().unwrap().clone().into_iter();
        let gone = verdicts.filter(|verdict| verdict["keeps"] == json!([]));
        gone.map(|verdict| verdict["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(gone(""), ["home@20260101T100000Z"]);
    assert_eq!(gone("--local"), [""; 0]);
}

#[test]
fn what_the_last_rollback_has_replaced_stays() {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@a; lovol rollback home@a; lovol snapshot home");
    let before = pool.sh("lovol list -a --no-header -o name | grep before-rollback");
    pool.lovol("prune home --keep-last 1").ok("");
    pool.lovol("rollback --undo home").ok_any();

    // The one before is an old one now.
    let old = before.replace("home@", "");
    let file = pool.snapshot_image("home", &old);
    pool.sh("lovol snapshot home@b");
    let shown = pool.lovol("prune home -n --keep-last 1").ok_any();
    assert!(shown.contains(&format!("would delete {before}")), "{shown}");
    pool.lovol("prune home --keep-last 1").ok_any();
    assert!(!file.exists());
    pool.lovol("check").ok("");
}

#[test]
fn what_the_last_rollback_has_replaced_stays_for_a_week() {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@a; lovol rollback home@a; lovol snapshot home");
    let before = pool.sh("lovol list -a --no-header -o name | grep before-rollback");
    let name = before.replace("home@", "");
    for (hours, goes) in [(7 * 24 - 1, false), (7 * 24 + 1, true)] {
        let time = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        change(&pool, "home", &name, |record| {
            record["created"] = json!(time.to_string());
        });
        let shown = pool.lovol("prune home -n --keep-last 1").ok_any();
        assert_eq!(shown.contains("would delete"), goes, "{hours}: {shown}");
    }
}

#[test]
fn what_is_wanted_stays_whatever_the_counts_say() {
    let times: Vec<String> = (1..=8)
        .map(|day| format!("2026-01-0{day}T12:00:00Z"))
        .collect();
    let pool = pool(&times);
    pool.sh("lovol snapshot home@before-upgrade; lovol create var 1M --fs none");
    let by_day = |day: usize| name(&times[day - 1]);
    pool.lovol("hold").arg(format!("home@{}", by_day(1))).ok("");
    pool.lovol("attach")
        .arg(format!("home@{}", by_day(2)))
        .ok_any();
    pool.lovol("rollback --next-mount")
        .arg(format!("home@{}", by_day(3)))
        .ok("");
    let group = "01234567-89ab-4cde-8f01-23456789abcd";
    pool.sh(&format!("lovol delete home@{}", by_day(4)));
    add(&pool, "home", &by_day(4), &times[3], Some(group));
    add(&pool, "var", "other", &times[3], Some(group));

    let planned = pool.lovol("prune home -n --keep-daily 2").ok_any();
    for (day, why) in [
        (1, "held by user"),
        (2, "in use"),
        (3, "rollback at the next mount"),
        (4, "taken at one instant with another that stays"),
        (7, "daily"),
        (8, "daily"),
    ] {
        let line = format!("would keep home@{}: {why}", by_day(day));
        assert!(planned.contains(&line), "{planned}");
    }
    let named = "would keep home@before-upgrade: named";
    assert!(planned.contains(named), "{planned}");
    let gone = pool.lovol("prune home --keep-daily 2").ok_any();
    assert_eq!(gone, format!("home@{}\nhome@{}\n", by_day(5), by_day(6)));
    // Only if that is said; and the newest stays.
    let named = pool.lovol("prune home -n --keep-yearly 1 --named").ok_any();
    assert!(
        named.contains("would keep home@before-upgrade: yearly"),
        "{named}"
    );
    pool.lovol("detach")
        .arg(format!("home@{}", by_day(2)))
        .ok_any();
    pool.lovol("check").ok("");
}

#[test]
fn volumes_have_policies_and_the_trash_an_age() {
    let times: Vec<String> = (1..=4)
        .map(|day| format!("2026-01-0{day}T12:00:00Z"))
        .collect();
    let pool = pool(&times);
    ensure_unchanged(&pool, || {
        pool.lovol("prune").ok("");
        pool.lovol("prune home")
            .fails(2, "nothing says which snapshots of home are kept");
        pool.lovol("prune nobody")
            .fails(1, "no volume named nobody");
        pool.lovol("prune --keep-last 1")
            .fails(2, "of which volumes?");
    });
    pool.sh("lovol set home keep=2d; lovol create old 1M --fs none; lovol delete old; lovol create new 1M --fs none");
    let gone = pool.lovol("prune").ok_any();
    assert_eq!(
        gone,
        format!("home@{}\nhome@{}\n", name(&times[0]), name(&times[1]))
    );
    assert_eq!(names(&pool), [name(&times[2]), name(&times[3])]);
    // What was deleted a moment ago stays; what was deleted before the span goes.
    pool.sh("sed -i 's/\"deleted\":\"20[0-9][0-9]/\"deleted\":\"2001/' $POOL/index.json");
    pool.lovol("set trash=never").ok("");
    pool.lovol("prune").ok("");
    pool.lovol("set trash=30d").ok("");
    let planned = pool.lovol("prune -n").ok_any();
    assert!(planned.contains("would purge old@"), "{planned}");
    let gone = pool.lovol("prune").ok_any();
    assert!(gone.starts_with("old@"), "{gone}");
    pool.lovol("list --trash --no-header").ok("");
    pool.lovol("check").ok("");
}

#[test]
fn a_clock_that_jumps_deletes_nothing() {
    let times: Vec<String> = (1..=4)
        .map(|day| format!("2026-01-0{day}T12:00:00Z"))
        .collect();
    let pool = pool(&times);
    pool.lovol("set home keep=3d").ok("");
    pool.lovol("prune").ok_any();
    pool.lovol("set home keep=2d").ok("");
    // However often it is tried.
    for last in ["2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        note(&pool, "pruned", json!(last));
        for _ in 0..2 {
            pool.lovol("prune").fails(1, "the clock may have jumped");
        }
        assert_eq!(names(&pool).len(), 3);
        assert_eq!(record_of(pool.path())["pruned"], last);
    }
    // It has gone on for a week since.
    let yesterday = ago(24);
    note(&pool, "doubted", json!({"last": yesterday, "days": 8}));
    pool.lovol("prune").ok_any();
    assert_eq!(names(&pool).len(), 2);
    assert_eq!(record_of(pool.path())["doubted"], Value::Null);
    note(&pool, "pruned", json!("2026-01-01T00:00:00Z"));
    pool.lovol("set home keep=1d").ok("");
    pool.lovol("prune -y").ok_any();
    pool.lovol("prune").ok("");
    assert_eq!(names(&pool).len(), 1);

    // A snapshot of the future: its volume is left alone, the others are not.
    add(
        &pool,
        "home",
        "29990101T000000Z",
        "2999-01-01T00:00:00Z",
        None,
    );
    pool.sh("lovol create var 1M --fs none; lovol set var keep=1d");
    for day in [1, 2] {
        let time = format!("2026-02-0{day}T12:00:00Z");
        add(&pool, "var", &name(&time), &time, None);
    }
    let finished = pool.lovol("prune").finish();
    assert_eq!(finished.code(), Some(4), "{finished}");
    assert_eq!(finished.stdout, "var@20260201T120000Z\n");
    assert!(
        finished.stderr.contains("the clock is wrong, or was"),
        "{finished}"
    );
    assert_eq!(names(&pool).len(), 2);
}

#[test]
fn what_was_deleted_before_the_clock_jumped_stays_in_the_trash() {
    let pool = TestPool::new();
    pool.sh("lovol create old 1M --fs none; lovol delete old; lovol set low=100%");
    // An hour before the clock was right last.
    let deleted = ago(40 * 24 + 1);
    let mut index = read_index(&pool);
    for (_, trashed) in index["trash"].as_object_mut().unwrap() {
        trashed["deleted"] = json!(deleted);
    }
    fs::write(pool.path().join("index.json"), index.to_string()).unwrap();
    note(&pool, "pruned", json!(ago(40 * 24)));
    let trash = || pool.sh("ls $POOL/trash | wc -l");
    for words in ["prune", "watch --once", "prune", "watch --once"] {
        let finished = pool.lovol(words).finish();
        assert_eq!(trash(), "1", "{words}");
        let says = "the clock may have jumped";
        assert!(finished.stderr.contains(says), "{words}: {finished}");
    }
    for words in ["prune", "watch --once"] {
        let finished = pool.lovol(words).finish();
        assert!(finished.stderr.contains("'lovol prune -y'"), "{finished}");
    }
    // Where there is nothing to prune, nothing is believed either.
    pool.sh("lovol set trash=never; lovol prune; lovol set trash=7d");
    pool.lovol("prune").fails(1, "the clock may have jumped");
    // The clock is right again: of that time, nothing is old.
    note(&pool, "pruned", json!(ago(1)));
    pool.lovol("prune -n").ok_any();
    note(&pool, "pruned", json!(ago(40 * 24)));
    let gone = pool.lovol("prune -y").ok_any();
    assert!(gone.starts_with("old@"), "{gone}");
    pool.lovol("check").ok("");
}

#[test]
fn what_ends_by_a_jump_of_the_clock_stays() {
    let times: Vec<String> = (1..=4)
        .map(|day| format!("2026-01-0{day}T12:00:00Z"))
        .collect();
    let pool = pool(&times);
    pool.lovol("set home keep=1d").ok("");
    pool.lovol("set low=100%").ok("");
    let by_day = |day: usize| name(&times[day - 1]);
    let held = by_day(1);
    pool.sh(&format!(
        "lovol hold home@{held} --tag backup --until 30d
         lovol rollback home@{}; lovol snapshot home",
        by_day(2)
    ));
    change(&pool, "home", &held, |record| {
        record["holds"]["backup"]["until"] = json!(ago(20 * 24));
    });
    let before = pool.sh("lovol list -a --no-header -o name | grep before-rollback");
    change(&pool, "home", &before.replace("home@", ""), |record| {
        record["created"] = json!(ago(41 * 24));
    });
    note(&pool, "pruned", json!(ago(40 * 24)));

    // What is kept by count goes, whatever the clock says.
    let gone = pool.lovol("watch --once").ok_any();
    assert!(
        gone.contains(&format!("deleted home@{}", by_day(3))),
        "{gone}"
    );
    assert!(names(&pool).contains(&held), "{gone}");
    assert!(
        pool.sh("lovol list -a").contains("before-rollback"),
        "{gone}"
    );
    // Somebody says that the clock is right.
    let gone = pool.lovol("prune -y").ok_any();
    assert!(gone.contains(&format!("home@{held}\n")), "{gone}");
    assert!(gone.contains(&before), "{gone}");
    pool.lovol("check").ok("");
}

#[test]
fn a_hold_that_has_ended_by_a_jump_of_the_clock_is_not_forgotten() {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol snapshot home@a
             lovol hold home@a --tag backup --until 30d; lovol hold home@a --tag over --until 30d");
    change(&pool, "home", "a", |record| {
        record["holds"]["backup"]["until"] = json!(ago(20 * 24));
        record["holds"]["over"]["until"] = json!(ago(50 * 24));
    });
    note(&pool, "pruned", json!(ago(40 * 24)));
    // When others hold it, and when they do not any more.
    let tags = || {
        let holds = record_of(&pool.snapshot_image("home", "a"))["holds"].clone();
        let tags = holds.as_object().into_iter().flatten();
        tags.map(|(tag, _)| tag.clone()).collect::<Vec<_>>()
    };
    pool.lovol("hold home@a").ok("");
    assert_eq!(tags(), ["backup", "user"]);
    pool.lovol("release home@a").ok("");
    assert_eq!(tags(), ["backup"]);
    let shown = pool.lovol("show home@a").ok_any();
    assert!(shown.contains("backup until"), "{shown}");
    for words in ["delete home@a", "delete -r -y --now home"] {
        let said = ensure_unchanged(&pool, || {
            pool.lovol(words).fails(1, "and the clock may have jumped)")
        });
        assert!(
            said.contains("hint: 'lovol release --tag backup home@a'"),
            "{said}"
        );
    }
    pool.lovol("release --tag backup home@a").ok("");
    pool.lovol("delete home@a").ok("");
}

#[test]
fn who_watches_sees_that_the_clock_is_right() {
    let pool = TestPool::new();
    pool.sh("lovol create home 1M --fs none; lovol set low=1% warn=1%");
    ensure_unchanged(&pool, || pool.lovol("watch -n").ok_any());
    let noted = || record_of(pool.path())["pruned"].as_str().map(str::to_owned);
    assert_eq!(noted(), None);
    for (hours, is_noted) in [(1, false), (7 * 24, true), (40 * 24, false), (-2, false)] {
        let last = ago(hours);
        note(&pool, "pruned", json!(last));
        pool.lovol("watch --once").ok("");
        assert_eq!(noted().unwrap() > last, is_noted, "{hours}");
        let is_doubted = !record_of(pool.path())["doubted"].is_null();
        assert_eq!(is_doubted, ![1, 7 * 24].contains(&hours), "{hours}");
    }
    // Of a pool that is never pruned as well.
    note(&pool, "pruned", Value::Null);
    note(&pool, "doubted", Value::Null);
    pool.lovol("watch --once").ok("");
    assert!(noted().is_some());
}

#[test]
fn one_failure_does_not_stop_the_rest() {
    let times: Vec<String> = (1..=4)
        .map(|day| format!("2026-01-0{day}T12:00:00Z"))
        .collect();
    let pool = pool(&times);
    // Somebody reads one of them, which no device tells.
    let image = pool.snapshot_image("home", &name(&times[1]));
    let held = fs::File::open(&image).unwrap();
    let finished = pool.lovol("prune home --keep-last 1").finish();
    assert_eq!(finished.code(), Some(4), "{finished}");
    assert!(finished.stderr.contains("is in use"), "{finished}");
    assert_eq!(names(&pool), [name(&times[1]), name(&times[3])]);
    drop(held);
    pool.lovol("prune home --keep-last 1").ok_any();
    assert_eq!(names(&pool).len(), 1);
}
