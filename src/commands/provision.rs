//! `lovol provision`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::commands::{Context, failed, require_root};
use crate::error::{Context as _, Result};
use crate::provision::{self, Plan, Task};

/// Make the volumes that /etc/fstab describes
///
/// Every line of type lovol, or with an x-lovol. option, is read; what is missing is made, and what
/// is not as described is set. Where all is right, nothing is done or said. A volume is never made
/// smaller, never formatted over, and never made again while it is in the trash; pools are not made.
///
/// All lines are read first: where one has a word or value that means nothing, nothing is done at
/// all. What a line cannot have, as its pool is not there or its volume is in the trash, is told
/// when the others are done.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol provision                 what /etc/fstab says
  lovol provision -n              show what would be done
  lovol provision --mount         and mount it
  lovol provision - <volumes")]
pub struct Provision {
    /// A file in the form of fstab; '-' is stdin
    #[arg(value_name = "FILE", default_value = "/etc/fstab")]
    file: PathBuf,

    /// Mount what is not noauto
    #[arg(long)]
    mount: bool,
}

impl Provision {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let shown = self.file.display().to_string();
        let wishes = provision::read(&shown, &self.text()?)?;
        let pool = &context.globals.pool;
        if !context.globals.dry_run {
            provision::settle(&wishes, pool, context.wait())?;
        }
        let plan = provision::plan(&shown, &wishes, pool, context.wait(), self.mount)?;
        for (line, warning) in &plan.warnings {
            context
                .observer()
                .warn(&format!("{shown}:{line}: {warning}"));
        }
        let steps = || {
            let observer = context.observer();
            let steps = |task: &Task| task.action.steps(&plan.pools[task.pool], observer);
            let steps: Result<Vec<_>> = plan.tasks.iter().map(steps).collect();
            steps.map(|steps| steps.concat())
        };
        if context.shows(steps)? {
            return failed(plan.failures, false, context);
        }
        carry_out(plan, &shown, context)
    }

    fn text(&self) -> Result<Vec<u8>> {
        if self.file.as_os_str() != "-" {
            return std::fs::read(&self.file).doing("read", &self.file);
        }
        let mut text = Vec::new();
        std::io::stdin()
            .read_to_end(&mut text)
            .doing("read", "stdin")?;
        Ok(text)
    }
}

/// Does all that can be done: what one line wants is no reason to leave another's volume out.
fn carry_out(plan: Plan, file: &str, context: &Context<'_>) -> Result<()> {
    let (mut done, mut values, mut errors) = (Vec::new(), Vec::<Value>::new(), plan.failures);
    for Task { line, pool, action } in &plan.tasks {
        match action.carry_out(&plan.pools[*pool], context.observer()) {
            Ok(None) => {}
            Ok(Some(text)) => {
                values.push(json!({ "line": line, "done": text }));
                done.push(text);
            }
            Err(why) => errors.push(why.at(file, *line)),
        }
    }
    context.output.result(&done, "actions", &values)?;
    failed(errors, !done.is_empty(), context)
}
