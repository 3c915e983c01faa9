//! `lovol snapshot`

use clap::Args;

use crate::commands::{Context, require_root, target_parser};
use crate::error::Result;
use crate::name::Name;
use crate::report::Reporter;
use crate::take::Request;
use crate::target::{self, Target};

/// Take a snapshot of a volume, mounted or not, and print its name
///
/// A mounted volume is frozen for as long as it takes to clone what was written in the last
/// moment: everything else is cloned before, while it is in use. Whatever happens, it is thawed
/// after 10 seconds at the latest.
///
/// A snapshot is 'frozen' (taken in a freeze), 'clean' (of an unused volume whose log needs no
/// replay) or 'crash' (as after a pulled plug).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol snapshot home                   prints home@20261121T101500Z
  lovol snapshot home@before-upgrade    with a name
  lovol snapshot /home                  the volume mounted there
  lovol snapshot --crash vm             unfrozen, such as one with LVM on it")]
pub struct Snapshot {
    /// A volume, VOLUME@NAME, or a path that means a volume
    #[arg(value_name = "TARGET", value_parser = target_parser())]
    target: Target,

    /// Do not freeze: take it as after a pulled plug
    #[arg(long)]
    crash: bool,
}

impl Snapshot {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        if !crate::sys::kernel::is_at_least(5, 17) {
            context
                .observer()
                .warn("before Linux 5.17 a freeze may hide that writing back failed");
        }
        let pool = context.pool()?;
        let (volume, name): (Name, Option<Name>) = match &self.target {
            Target::Snapshot(name) => (name.volume.clone(), Some(name.snapshot.clone())),
            target => (target::find_volume(target, &pool, &pool.index()?)?, None),
        };
        let request = Request::open(&pool, volume, name, self.crash)?;
        if context.shows(|| request.plan())? {
            return Ok(());
        }
        let (name, record) = request.carry_out(context.observer())?;
        let report = Reporter::new(&pool).snapshot(&name.volume, &name.snapshot, &record);
        context
            .output
            .result(&[name.to_string()], "snapshots", &[report])
    }
}
