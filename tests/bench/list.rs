//! `lovol list` of a pool with 10,000 snapshots, and TAB in it.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use lovol::index::Index;
use lovol::name::Name;

use crate::goals::Goals;
use crate::numbers::{median, ms, timed};
use crate::settings::Settings;
use crate::support::TestPool;

const VOLUMES: usize = 10;
const SNAPSHOTS: usize = 1000;

/// Each run is so many lists.
const LISTS: usize = 5;

/// What a shell asks at TAB.
const TAB: &str = "-- lovol delete v0@s9";

pub(crate) fn run(settings: &Settings, goals: &mut Goals) {
    let pool = TestPool::new();
    for volume in 0..VOLUMES {
        pool.lovol(&format!("create v{volume} 300M")).ok_any();
    }
    add_snapshots(&pool);

    println!("\n== list of {} snapshots (ms)", VOLUMES * SNAPSHOTS);
    for words in ["list", "list -a", "list -a -J", "list v0", TAB] {
        let times = settings.runs().flat_map(|_| 0..LISTS).map(|_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
            command.args(words.split(' '));
            if words == TAB {
                command.envs([("LOVOL_COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2")]);
            }
            timed(command.env("LOVOL_POOL", pool.path())).0
        });
        let time: Duration = median(times);
        println!("{words:<26} {:>8}", ms(time));
        goals.at_most(
            format!("lovol {words}, {} snapshots", VOLUMES * SNAPSHOTS),
            time.as_secs_f64() * 1000.0,
            50.0,
            "ms",
        );
    }
}

/// Empty images, with their records, and the index that names them.
fn add_snapshots(pool: &TestPool) {
    let path = pool.path().join("index.json");
    let mut index = Index::parse(&fs::read(&path).unwrap()).unwrap();
    for (volume, entry) in &mut index.volumes {
        fs::create_dir_all(pool.path().join(format!("snapshots/{volume}"))).unwrap();
        for number in 0..SNAPSHOTS {
            let name: Name = format!("s{number}").parse().unwrap();
            let mut record = entry.record.child();
            record.volume = Some(entry.record.uuid);
            let image = File::create(pool.snapshot_image(volume.as_str(), name.as_str())).unwrap();
            image.set_len(record.size).unwrap();
            record.write(&image).unwrap();
            entry.snapshots.insert(name, record);
        }
    }
    fs::write(&path, serde_json::to_vec(&index).unwrap()).unwrap();
}
