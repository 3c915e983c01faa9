//! Holding what lies in the pool against its index, and against the kernel.

use std::collections::BTreeMap;

use crate::check::scan::Scanned;
use crate::check::{Finding, Kind};
use crate::index::Index;
use crate::pool::lock::Lock;
use crate::pool::place::records;
use crate::pool::{Place, Pool};
use crate::properties::RESIZING;
use crate::sys::loopdev::{Attached, backing_path};
use crate::usage::Usage;

/// Images and records against the index.
pub fn with_index(pool: &Pool, scanned: &Scanned) -> Vec<Finding> {
    let mut findings = among_images(pool, scanned);
    let index = match pool.index() {
        Ok(index) => index,
        Err(error) => {
            findings.push(Finding {
                kind: Kind::Index,
                what: pool.path().display().to_string(),
                problem: error.to_string(),
                hint: None,
            });
            return findings;
        }
    };
    for steps in &index.intents {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        findings.push(Finding {
            kind: Kind::Unfinished,
            what: pool.path().display().to_string(),
            problem: format!("a killed lovol has not finished: {}", steps.join("; ")),
            hint: None,
        });
    }
    // What is under way explains any difference, and is finished before anything else.
    if index.intents.is_empty() {
        findings.extend(differences(pool, scanned, &index));
    }
    findings
}

/// What can be wrong with images by themselves.
fn among_images(pool: &Pool, scanned: &Scanned) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_uuid: BTreeMap<_, Vec<&Place>> = BTreeMap::new();
    for (place, found) in &scanned.images {
        let what = pool.full_path(place).display().to_string();
        match &found.record {
            Ok(record) => {
                by_uuid.entry(record.uuid).or_default().push(place);
                let resizing = record.properties.get(RESIZING);
                if resizing.is_some() && Lock::is_held(pool, place) {
                    // It is being resized just now.
                } else if let Some(size) = resizing {
                    findings.push(Finding {
                        kind: Kind::Resizing,
                        what: what.clone(),
                        problem: format!("a resize to {size} bytes was not finished"),
                        hint: Some(format!(
                            "'lovol resize {} {size}' finishes it",
                            place.target()
                        )),
                    });
                } else if record.size != found.size {
                    findings.push(Finding {
                        kind: Kind::Size,
                        what,
                        problem: format!(
                            "it has {} bytes, and its record says {}",
                            found.size, record.size
                        ),
                        hint: Some(
                            "it was resized by hand; a filesystem larger than its image is damaged"
                                .into(),
                        ),
                    });
                }
            }
            Err(why) => findings.push(Finding {
                kind: Kind::NoRecord,
                what: what.clone(),
                problem: why.clone(),
                hint: Some(format!(
                    "move it out of the pool, then 'lovol create NAME --from' it ({what})"
                )),
            }),
        }
    }
    for (uuid, places) in by_uuid.iter().filter(|(_, places)| places.len() > 1) {
        let names: Vec<String> = places.iter().map(ToString::to_string).collect();
        findings.push(Finding {
            kind: Kind::DuplicateUuid,
            what: names.join(", "),
            problem: format!("they carry the same UUID, {uuid}"),
            hint: Some(
                "one was copied by hand: move the copy out of the pool, and clone instead".into(),
            ),
        });
    }
    findings
}

fn differences(pool: &Pool, scanned: &Scanned, index: &Index) -> Vec<Finding> {
    let mut findings = Vec::new();
    let indexed = records(index);
    for (place, record) in &indexed {
        let what = pool.full_path(place).display().to_string();
        match scanned.images.get(place).map(|found| &found.record) {
            None if scanned.unusable.contains(place) => {}
            None => findings.push(Finding {
                kind: Kind::MissingImage,
                what,
                problem: "the index names it, and it is not there".into(),
                hint: None,
            }),
            Some(Ok(own)) if own != *record => findings.push(Finding {
                kind: Kind::Differs,
                what,
                problem: "the index and its own record differ".into(),
                hint: None,
            }),
            Some(_) => {}
        }
    }
    for (place, found) in &scanned.images {
        if found.record.is_ok() && !indexed.contains_key(place) {
            findings.push(Finding {
                kind: Kind::Unindexed,
                what: pool.full_path(place).display().to_string(),
                problem: "the index does not name it".into(),
                hint: None,
            });
        }
    }
    findings
}

/// Images against what the kernel has attached.
#[must_use]
pub fn with_kernel(pool: &Pool, scanned: &Scanned, usage: &Usage) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, found) in &scanned.images {
        let writable: Vec<&Attached> = usage
            .devices_of(found.id)
            .filter(|device| !device.read_only)
            .collect();
        let devices: Vec<String> = writable
            .iter()
            .map(|device| device.path().display().to_string())
            .collect();
        let problem = match (place.is_snapshot(), writable.len()) {
            (true, 1..) => "a snapshot, and attached read-write to",
            (false, 2..) => "attached read-write more than once:",
            _ => continue,
        };
        findings.push(Finding {
            kind: Kind::Attached,
            what: place.to_string(),
            problem: format!("{problem} {}", devices.join(", ")),
            hint: Some(
                "unmount and detach (losetup -d) all but one, then check its filesystem".into(),
            ),
        });
    }
    let known: Vec<String> = scanned
        .images
        .values()
        .filter_map(|found| Some(found.record.as_ref().ok()?.uuid.to_string()))
        .collect();
    for device in usage
        .devices
        .iter()
        .filter(|device| device.file.device == pool.device())
    {
        let is_of_image = scanned.images.values().any(|found| found.id == device.file)
            || known.contains(&device.reference);
        // Without a mount, a device that goes away by itself is on its way.
        // Others have files on that filesystem as well.
        let is_in_pool =
            backing_path(device.number).is_some_and(|path| path.starts_with(pool.path()));
        if is_in_pool && !is_of_image && !device.autoclear && usage.mounts_of(device).is_empty() {
            findings.push(Finding {
                kind: Kind::Leftover,
                what: device.path().display().to_string(),
                problem: "attached to a file in the pool that is none of its images".into(),
                hint: Some(format!(
                    "if nothing needs it: losetup -d {}",
                    device.path().display()
                )),
            });
        }
    }
    findings
}
