//! `lovol check`

use clap::Args;

use crate::check::{self, Finding};
use crate::commands::{Context, require_root};
use crate::error::{Error, Result};
use crate::sys::marker;
use crate::watch::{self, Level};

/// Check the pool: index, images, their records and the kernel's state against each other
///
/// Each difference is named, and the exit code is 1 if there is one. --repair thaws what a killed
/// lovol has left frozen, finishes what it has begun, and rebuilds the index from the images. It
/// never deletes an image, and changes one only to finish its resize.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol check
  lovol check --repair")]
pub struct Check {
    /// Mend what can be mended
    #[arg(long)]
    repair: bool,
}

impl Check {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        if self.repair && !context.globals.dry_run {
            // First of all, and whatever the pool is like: somebody may be waiting for it.
            // What cannot be thawed is named below, and no reason to leave the rest.
            let thawed = check::thaw::thaw(&marker::abandoned()?, context.observer());
            thawed.unwrap_or_else(|error| context.output.error(&error));
        }
        let pool = context.pool()?;
        if self.repair && context.shows(|| check::repair::plan(&pool))? {
            return Ok(());
        }
        let findings = if self.repair {
            check::repair::repair(&pool, context.observer())?
        } else {
            check::check(&pool)?
        };
        if let Ok((Level::Low, free)) = watch::look(&pool) {
            let dir = pool.path().display();
            context.observer().warn(&format!(
                "the pool {dir} has {free} free: volumes get I/O errors when it is full ('lovol df --plan-free 5G' names snapshots to delete)"
            ));
        }
        let lines: Vec<String> = findings.iter().flat_map(lines).collect();
        context.output.result(&lines, "findings", &findings)?;
        if !findings.is_empty() {
            let is_mendable =
                !self.repair && findings.iter().any(|finding| finding.kind.is_mendable());
            return Err(Error::Wrong {
                findings: findings.len(),
                is_mendable,
            });
        }
        context.output.remark("everything agrees");
        Ok(())
    }
}

fn lines(finding: &Finding) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", finding.what, finding.problem)];
    lines.extend(finding.hint.as_ref().map(|hint| format!("  hint: {hint}")));
    lines
}
