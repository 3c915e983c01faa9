//! `lovol snapshot`

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, volumes};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::name::Name;
use crate::pool::Pool;
use crate::report::Reporter;
use crate::snapshot::request::{Options, Request};
use crate::target::{self, Target};

/// Take a snapshot of a volume, mounted or not, and print its name
///
/// A mounted volume is frozen for as long as it takes to clone what was written in the last
/// moment: everything else is cloned before, while it is in use. Once it is frozen it is thawed
/// after --max-freeze at the latest, whatever happens.
///
/// Several volumes are taken at one instant, whatever their filesystems, under one name: all of
/// them, or none.
///
/// A snapshot is 'frozen' (taken in a freeze), 'clean' (of an unused volume whose log needs no
/// replay) or 'crash' (as after a pulled plug).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol snapshot home                   prints home@20261121T101500Z
  lovol snapshot home@before-upgrade    with a name
  lovol snapshot /home                  the volume mounted there
  lovol snapshot home var db            all three at one instant
  lovol snapshot home@pre var@pre       the same, with a name
  lovol snapshot --crash vm             unfrozen, as it has LVM on it")]
pub struct Snapshot {
    /// Volumes, VOLUME@NAME, or paths that mean volumes
    #[arg(value_name = "TARGET", required = true, value_parser = target_parser(), add = volumes(Which::Any))]
    targets: Vec<Target>,

    /// Do not freeze: take it as after a pulled plug
    #[arg(long)]
    crash: bool,

    /// Freeze for so long at most
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = parse_seconds)]
    max_freeze: Duration,

    /// What to do when freezing would take longer than that
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = IfLate::Fail)]
    if_late: IfLate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IfLate {
    /// Thaw, and take no snapshot
    Fail,
    /// Thaw, and take it unfrozen
    Crash,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected seconds, such as 10 or 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && time <= Duration::from_secs(3600) => Ok(time),
        _ => Err("expected more than 0 seconds, and an hour at most".into()),
    }
}

impl Snapshot {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        if !crate::sys::kernel::is_at_least(5, 17) {
            context
                .observer()
                .warn("before Linux 5.17 a freeze may hide that writing back failed");
        }
        let pool = context.pool_for_change()?;
        let (volumes, name) = self.volumes(&pool, &pool.index()?)?;
        let options = Options {
            crash: self.crash,
            crash_if_late: self.if_late == IfLate::Crash,
            max_freeze: self.max_freeze,
        };
        let request = Request::open(&pool, &volumes, name, options)?;
        if context.shows(|| request.plan())? {
            return Ok(());
        }
        let taken = request.carry_out(context.observer())?;
        let lines: Vec<String> = taken.iter().map(|(name, _)| name.to_string()).collect();
        let reporter = Reporter::new(&pool);
        let report = taken
            .iter()
            .map(|(name, record)| reporter.snapshot(&name.volume, &name.snapshot, record));
        context
            .output
            .result(&lines, "snapshots", &report.collect::<Vec<_>>())
    }

    /// The volumes, and the one name that all the snapshots get.
    fn volumes(&self, pool: &Pool, index: &Index) -> Result<(Vec<Name>, Option<Name>)> {
        let mut volumes = Vec::new();
        let mut names = Vec::new();
        for target in &self.targets {
            match target {
                Target::Snapshot(name) => {
                    volumes.push(name.volume.clone());
                    names.push(Some(name.snapshot.clone()));
                }
                target => {
                    volumes.push(target::find_volume(target, pool, index)?);
                    names.push(None);
                }
            }
        }
        let name = names.first().cloned().flatten();
        if names.iter().any(|other| *other != name) {
            return Err(Error::usage(
                "snapshots of one instant have one name",
                "lovol snapshot home@pre var@pre",
            ));
        }
        Ok((volumes, name))
    }
}
