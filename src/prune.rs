//! Pruning: which snapshots go by the rules of [`retention`](crate::retention), and what stays
//! whatever they say.
//!
//! A snapshot stays that is held, viewed or attached, that a rollback waits for or has replaced in the
//! last seven days, that is the newest of its volume, and one of a group of which another stays.  What time it
//! is, the [`clock`] says.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::holds;
use crate::index::{Index, Volume};
use crate::keep::Keep;
use crate::name::{Name, SnapshotName};
use crate::plan::Observer;
use crate::pool::settings::{self, NEVER, TRASH};
use crate::pool::{Place, Pool, clock};
use crate::properties::KEEP;
use crate::record::Record;
use crate::report;
use crate::retention::{self, Policy};
use crate::rollback;
use crate::time::{parse_span, shifted};
use crate::trash::{self, Deletion};
use crate::usage::Usage;

/// What to prune.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// These volumes; none is all that have a policy.
    pub volumes: Vec<Name>,
    /// In the place of the volumes' own.
    pub policy: Option<Policy>,
    /// Snapshots with names that a person gave them as well.
    pub named: bool,
    /// By the calendar of this machine, not of UTC.
    pub local: bool,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// The snapshot.
    #[serde(serialize_with = "as_text")]
    pub name: SnapshotName,
    /// Why it stays; nothing where it goes.
    pub keeps: Vec<String>,
    /// What was taken at the same instant.
    #[serde(skip)]
    pub group: Option<Uuid>,
}

fn as_text<S: serde::Serializer>(name: &SnapshotName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

impl Verdict {
    /// Whether it goes.
    pub fn goes(&self) -> bool {
        self.keeps.is_empty()
    }
}

/// Finds out what becomes of each snapshot that the policies are about, and which volumes cannot be
/// pruned; changes nothing.
///
/// # Errors
/// Where a volume that was named has no policy, or is not there.
pub fn judge(pool: &Pool, index: &Index, request: &Request) -> Result<(Vec<Verdict>, Vec<Error>)> {
    judge_all(pool, index, std::slice::from_ref(request))
}

/// The same by several requests, each about volumes of its own.
pub fn judge_all(
    pool: &Pool,
    index: &Index,
    requests: &[Request],
) -> Result<(Vec<Verdict>, Vec<Error>)> {
    let usage = Usage::look()?;
    let now = clock::certain(pool);
    let mut cases = Vec::new();
    for request in requests {
        let wanted = wanted(index, request)?.into_iter();
        cases.extend(wanted.map(|(name, volume)| (request, name, volume)));
    }
    let (mut verdicts, mut failures) = (Vec::new(), Vec::new());
    for (request, name, volume) in cases {
        let policy = match &request.policy {
            Some(policy) => Ok(policy.clone()),
            None => policy_of(name, volume),
        };
        let policy = match policy {
            Ok(policy) => policy,
            Err(error @ Error::Usage { .. }) => return Err(error),
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let own = Judge {
            pool,
            index,
            usage: &usage,
            now,
            name,
            volume,
        };
        let judged =
            must_not_be_of_the_future(name, volume).and_then(|()| own.judge(&policy, request));
        match judged {
            Ok(own) => verdicts.extend(own),
            Err(error) => failures.push(error),
        }
    }
    keep_groups_whole(index, &mut verdicts);
    Ok((verdicts, failures))
}

fn wanted<'i>(index: &'i Index, request: &Request) -> Result<Vec<(&'i Name, &'i Volume)>> {
    if request.volumes.is_empty() && request.policy.is_some() {
        return Err(Error::usage(
            "of which volumes?",
            "lovol prune NAME --keep-...; without options, each volume has its own policy",
        ));
    }
    if request.volumes.is_empty() {
        let all = index.volumes.iter();
        let with_policy = all.filter(|(_, volume)| volume.record.properties.contains_key(KEEP));
        return Ok(with_policy.collect());
    }
    let once: BTreeSet<Name> = request.volumes.iter().cloned().collect();
    report::wanted(index, &Vec::from_iter(once))
}

fn policy_of(name: &Name, volume: &Volume) -> Result<Policy> {
    let Some(keep) = volume.record.properties.get(KEEP) else {
        return Err(Error::usage(
            format!("nothing says which snapshots of {name} are kept"),
            format!(
                "--keep-daily 7, for example, or once and for all: lovol set {name} keep=24h7d4w"
            ),
        ));
    };
    let keep: Keep = keep
        .parse()
        .map_err(|why: String| Error::refused(format!("cannot prune {name}"), why))?;
    Ok(keep.into())
}

/// A clock that went back would make old ones of new snapshots.
fn must_not_be_of_the_future(name: &Name, volume: &Volume) -> Result<()> {
    let now = crate::time::now();
    match volume.by_age().last() {
        Some((snapshot, record)) if record.created > now => Err(Error::refused(
            format!("cannot prune {name}"),
            format!(
                "{name}@{snapshot} was taken at {}, and now it is {}: the clock is wrong, or was",
                crate::time::show(record.created),
                crate::time::show(now)
            ),
        )
        .with_hint("nothing is deleted until the clock is past that, or that snapshot is deleted")),
        _ => Ok(()),
    }
}

struct Judge<'a> {
    pool: &'a Pool,
    index: &'a Index,
    usage: &'a Usage,
    now: Timestamp,
    name: &'a Name,
    volume: &'a Volume,
}

impl Judge<'_> {
    /// Newest first.
    fn judge(&self, policy: &Policy, request: &Request) -> Result<Vec<Verdict>> {
        let zone = if request.local {
            TimeZone::system()
        } else {
            TimeZone::UTC
        };
        let mut by_age = self.volume.by_age();
        by_age.reverse();
        let newest = by_age.first().map(|(name, _)| *name);
        // 'rollback --undo' goes back to it.
        let last_undo = self.volume.last_undo();
        let last_undo = last_undo
            .filter(|(_, record)| is_recent(record, self.now))
            .map(|(name, _)| name);
        let is_about = |name: &Name| request.named || name.is_automatic();
        let named = by_age.iter().filter(|(name, _)| !is_about(name));
        let mut verdicts: Vec<Verdict> = named
            .map(|(name, record)| self.verdict(name, record, vec!["named".into()]))
            .collect();
        by_age.retain(|(name, _)| is_about(name));
        let times: Vec<_> = by_age
            .iter()
            .map(|(_, record)| record.created.to_zoned(zone.clone()))
            .collect();
        for ((name, record), reasons) in by_age.iter().zip(retention::reasons(policy, &times)) {
            let mut keeps: Vec<String> = reasons.into_iter().map(str::to_owned).collect();
            if keeps.is_empty() {
                let own = self.keeps_whatever_comes(name, record)?;
                let is_undo = Some(*name) == last_undo;
                let own = own.or_else(|| is_undo.then(|| "what the last rollback replaced".into()));
                keeps.extend(own.or_else(|| (Some(*name) == newest).then(|| "newest".into())));
            }
            verdicts.push(self.verdict(name, record, keeps));
        }
        Ok(verdicts)
    }

    fn verdict(&self, name: &Name, record: &Record, keeps: Vec<String>) -> Verdict {
        Verdict {
            name: SnapshotName {
                volume: self.name.clone(),
                snapshot: name.clone(),
            },
            keeps,
            group: record.group,
        }
    }

    fn keeps_whatever_comes(&self, name: &Name, record: &Record) -> Result<Option<String>> {
        let full = SnapshotName {
            volume: self.name.clone(),
            snapshot: name.clone(),
        };
        if let Some((tag, _)) = holds::active(record, self.now).next() {
            return Ok(Some(format!("held by {tag}")));
        }
        if rollback::must_not_wait_for("prune", self.index, &full).is_err() {
            return Ok(Some("rollback at the next mount".into()));
        }
        let place = Place::Snapshot(full);
        match trash::image_must_be_unused(self.pool, self.usage, &place, record) {
            Ok(()) => Ok(None),
            Err(Error::InUse { .. }) => Ok(Some("in use".into())),
            Err(error) => Err(error),
        }
    }
}

/// Not yet seven days old.
fn is_recent(record: &Record, now: Timestamp) -> bool {
    let week = SignedDuration::from_hours(7 * 24);
    now.duration_since(record.created) < week
}

/// All of a group go, or none of it.
fn keep_groups_whole(index: &Index, verdicts: &mut [Verdict]) {
    let going: BTreeSet<SnapshotName> = verdicts
        .iter()
        .filter(|verdict| verdict.goes())
        .map(|verdict| verdict.name.clone())
        .collect();
    let mut staying: BTreeSet<Uuid> = BTreeSet::new();
    for (name, volume) in &index.volumes {
        for (snapshot, record) in &volume.snapshots {
            let full = SnapshotName {
                volume: name.clone(),
                snapshot: snapshot.clone(),
            };
            staying.extend(record.group.filter(|_| !going.contains(&full)));
        }
    }
    for verdict in verdicts.iter_mut().filter(|verdict| verdict.goes()) {
        if verdict.group.is_some_and(|group| staying.contains(&group)) {
            verdict
                .keeps
                .push("taken at one instant with another that stays".into());
        }
    }
}

/// What was pruned, and what could not be.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The snapshots that are gone.
    pub snapshots: Vec<SnapshotName>,
    /// The deleted volumes that are gone.
    pub trash: Vec<String>,
    /// Each with what it is about in its words.
    pub failures: Vec<Error>,
}

/// Deletes what goes, and purges these deleted volumes: one that fails does not stop the rest.
pub fn carry_out(
    pool: &Pool,
    verdicts: &[Verdict],
    trash: &[String],
    observer: &dyn Observer,
) -> Pruned {
    let mut pruned = Pruned::default();
    // Oldest first.
    let going = verdicts.iter().rev().filter(|verdict| verdict.goes());
    let going: Vec<&Verdict> = going.collect();
    let delete = |some: &[&Verdict]| {
        Deletion {
            snapshots: some.iter().map(|verdict| verdict.name.clone()).collect(),
            ..Deletion::default()
        }
        .carry_out(pool, observer)
        .map(drop)
    };
    let names = |some: &[&Verdict]| {
        some.iter()
            .map(|verdict| verdict.name.clone())
            .collect::<Vec<_>>()
    };
    let whole = if going.is_empty() {
        Ok(())
    } else {
        delete(&going)
    };
    match whole {
        Ok(()) => pruned.snapshots = names(&going),
        // The next lovol finishes it.
        Err(error @ Error::Unfinished { .. }) => pruned.failures.push(error),
        Err(_) => {
            for some in by_group(&going) {
                match delete(&some) {
                    Ok(()) => pruned.snapshots.extend(names(&some)),
                    // Somebody was quicker.
                    Err(Error::NotFound { .. }) => {}
                    Err(error) => pruned.failures.push(error),
                }
            }
        }
    }
    for id in trash {
        match trash::purge(pool, std::slice::from_ref(id), observer) {
            Ok(()) => pruned.trash.push(id.clone()),
            Err(error) => pruned.failures.push(error),
        }
    }
    pruned
}

fn by_group<'v>(going: &[&'v Verdict]) -> Vec<Vec<&'v Verdict>> {
    let mut groups: Vec<Vec<&Verdict>> = Vec::new();
    for verdict in going {
        let same = groups.iter_mut().find(|group| {
            verdict.group.is_some() && group.first().is_some_and(|one| one.group == verdict.group)
        });
        match same {
            Some(group) => group.push(verdict),
            None => groups.push(vec![verdict]),
        }
    }
    groups
}

/// The deleted volumes that were kept as long as the pool's setting says.
pub fn old_trash(pool: &Pool, index: &Index) -> Vec<String> {
    let now = clock::certain(pool);
    let setting = settings::get(pool, TRASH);
    let is_over =
        |deleted: Timestamp, span: Span| shifted(deleted, span).is_some_and(|end| end <= now);
    match parse_span(&setting) {
        Ok(span) if setting != NEVER => {
            let trash = index.trash.iter();
            let old = trash.filter(|(_, trashed)| is_over(trashed.deleted, span));
            old.map(|(id, _)| id.clone()).collect()
        }
        _ => Vec::new(),
    }
}
