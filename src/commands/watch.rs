//! `lovol watch`

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;

use crate::commands::{Context, require_root};
use crate::error::{Context as _, Result};
use crate::pool::{Pool, settings};
use crate::size::Size;
use crate::watch::{self, Level};

/// Watch the pool's free space, and make room before it ends
///
/// At the pool's setting warn it says so, and runs the program of the setting command. At low it
/// trims the volumes, and prunes them by their properties if that is not enough, again and again
/// until there is room. It runs until it is stopped: lovol-watch.service runs it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol watch --once
  lovol set warn=20% low=10%")]
pub struct Watch {
    /// Look once, do what is due, and end
    #[arg(long)]
    once: bool,

    /// How long to wait between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    interval: u32,
}

impl Watch {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let mut last = Level::Enough;
        let mut running: Vec<Child> = Vec::new();
        loop {
            // Those that have ended are waited for, or they would stay as zombies.
            running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            // Opened each time: its settings may change, and it may be unmounted.
            match context
                .pool()
                .and_then(|pool| look(&pool, last, &mut running, context))
            {
                Ok(level) => last = level,
                Err(error) if self.once => return Err(error),
                Err(error) => context.output.error(&error),
            }
            if self.once {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(self.interval.into()));
        }
    }
}

fn look(
    pool: &Pool,
    last: Level,
    running: &mut Vec<Child>,
    context: &Context<'_>,
) -> Result<Level> {
    let (level, free) = watch::look(pool)?;
    if level > Level::Enough && level != last {
        let text = format!(
            "the pool {} has {free} free: {level}",
            pool.path().display()
        );
        context.observer().warn(&text);
        match run_command(pool, level, free) {
            Ok(child) => running.extend(child),
            Err(error) => context.output.error(&error),
        }
    }
    if level < Level::Low || context.globals.dry_run {
        return Ok(level);
    }
    let mut lines = Vec::new();
    watch::make_room(pool, context.observer(), |line| lines.push(line))?;
    context.output.result(&lines, "done", &lines)?;
    watch::look(pool).map(|(level, _)| level)
}

/// The admin's, which may take as long as it likes.
fn run_command(pool: &Pool, level: Level, free: Size) -> Result<Option<Child>> {
    let program = settings::get(pool, settings::COMMAND);
    if program == settings::NONE {
        return Ok(None);
    }
    Command::new(&program)
        .args([level.to_string(), free.0.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .map(Some)
        .doing("run", &program)
}
