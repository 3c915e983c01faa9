//! fio in a mounted volume against fio on a plain file in the pool.

use std::path::Path;
use std::process::Command;

use crate::goals::Goals;
use crate::numbers::{median, timed};
use crate::settings::Settings;
use crate::support::TestPool;

/// How the file is read or written: fio's name for it, and the size of a block.
const PATTERNS: [(&str, &str); 4] = [
    ("read", "1M"),
    ("write", "1M"),
    ("randread", "4k"),
    ("randwrite", "4k"),
];

/// How many are under way at a time, and fio's engine for that.
const DEPTHS: [(u32, &str); 2] = [(1, "psync"), (16, "libaio")];

const MIB: f64 = 1_048_576.0;

pub(crate) fn run(settings: &Settings, goals: &mut Goals) {
    let pool = TestPool::new();
    let home = pool.dir("home");
    pool.lovol("create home 2G").ok_any();
    pool.lovol("mount home").arg(&home).ok_any();
    let plain = pool.path().join("plain");
    let in_volume = home.join("file");
    for file in [&plain, &in_volume] {
        timed(fio(file, "write", "1M", DEPTHS[1]).arg("--end_fsync=1"));
    }

    println!("\n== fio, direct I/O, 512 MiB (MiB/s)");
    println!(
        "{:<18} {:>10} {:>10} {:>8}",
        "", "plain file", "lovol", "ratio"
    );
    for (pattern, block) in PATTERNS {
        for depth in DEPTHS {
            let pairs: Vec<(f64, f64)> = settings
                .runs()
                .map(|_| {
                    (
                        throughput(&plain, pattern, block, depth),
                        throughput(&in_volume, pattern, block, depth),
                    )
                })
                .collect();
            let plain = median(pairs.iter().map(|pair| pair.0));
            let lovol = median(pairs.iter().map(|pair| pair.1));
            let percent = 100.0 * lovol / plain;
            let name = format!("{pattern} {block} x{}", depth.0);
            println!(
                "{name:<18} {:>10.1} {:>10.1} {percent:>6.0} %",
                plain / MIB,
                lovol / MIB
            );
            goals.at_least(
                format!("fio {name}: through lovol / on a plain file"),
                percent,
                90.0,
                "%",
            );
        }
    }
}

/// In bytes per second.
fn throughput(file: &Path, pattern: &str, block: &str, depth: (u32, &str)) -> f64 {
    let mut command = fio(file, pattern, block, depth);
    let (_, printed) = timed(command.args(["--runtime=2", "--time_based"]));
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let direction = pattern.trim_start_matches("rand");
    json["jobs"][0][direction]["bw_bytes"].as_f64().unwrap()
}

fn fio(file: &Path, pattern: &str, block: &str, (depth, engine): (u32, &str)) -> Command {
    let mut command = Command::new("fio");
    command
        .args(["--name=bench", "--size=512M", "--direct=1"])
        .args(["--output-format=json", "--group_reporting"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--rw={pattern}"))
        .arg(format!("--bs={block}"))
        .arg(format!("--iodepth={depth}"))
        .arg(format!("--ioengine={engine}"));
    command
}
