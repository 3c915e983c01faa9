//! `lovol watch`

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use crate::check::thaw::thaw;
use crate::commands::{Context, require_root};
use crate::error::{Context as _, Result};
use crate::pool::{Pool, clock, settings};
use crate::size::Size;
use crate::sys::marker;
use crate::watch::{self, Level};

/// Watch the pool's free space, and make room before it ends
///
/// At the pool's setting warn it says so, and runs the program of the setting command. At low it
/// trims the volumes, and prunes them by their properties if that is not enough, again and again
/// until there is room. What a lovol has left frozen that was killed together with its guardian it
/// thaws. It runs until it is stopped: lovol-watch.service runs it.
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
        let mut state = State::default();
        let is_once = self.once || context.globals.dry_run;
        loop {
            // Those that have ended are waited for, or they would stay as zombies.
            state
                .running
                .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            // One kill may have taken a lovol and its guardian, as that of a whole cgroup does.
            if !context.globals.dry_run {
                let thawed = marker::abandoned().and_then(|left| thaw(&left, context.observer()));
                thawed.unwrap_or_else(|error| context.output.error(&error));
            }
            // Opened each time: its settings may change, and it may be unmounted.
            let looked = context
                .pool()
                .and_then(|pool| look(pool, &mut state, context));
            match looked {
                Ok(()) => {}
                Err(error) if is_once => return Err(error),
                Err(error) => context.output.error(&error),
            }
            if is_once {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(self.interval.into()));
        }
    }
}

/// How long not to trim again when that has freed nothing: it takes its time, and writes.
const PAUSE: Duration = Duration::from_secs(3600);

/// How long to wait for a volume that is locked: the others are to be trimmed as well.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    last: Option<Level>,
    running: Vec<Child>,
    /// When trimming freed nothing.
    in_vain: Option<Instant>,
}

fn look(mut pool: Pool, state: &mut State, context: &Context<'_>) -> Result<()> {
    pool.wait = pool.wait.min(PATIENCE);
    let (level, free) = watch::look(&pool)?;
    if context.globals.dry_run {
        return show(&pool, level, free, context);
    }
    if clock::is_to_be_noted(&pool) {
        // Where it cannot be, the next look does it.
        drop::<Result<()>>(clock::note(&pool));
    }
    if level > Level::Enough && Some(level) != state.last {
        let text = format!(
            "the pool {} has {free} free: {level}",
            pool.path().display()
        );
        context.observer().warn(&text);
        match run_command(&pool, level, free) {
            Ok(child) => state.running.extend(child),
            Err(error) => context.output.error(&error),
        }
    }
    // Noted at once: whatever fails below, it has been said.
    let before = state.last.replace(level);
    if level < Level::Low {
        return Ok(());
    }
    let trims = state.in_vain.is_none_or(|at| at.elapsed() > PAUSE);
    let mut lines = Vec::new();
    let freed = watch::make_room(&pool, trims, context.observer(), |line| lines.push(line))?;
    if trims {
        state.in_vain = (freed == 0).then(Instant::now);
    }
    let (level, free) = watch::look(&pool)?;
    if level == Level::Low && Some(level) != before {
        context.observer().warn(&format!(
            "that was not enough, {free} are free: 'lovol purge --all' and 'lovol df --plan-free 5G' may help"
        ));
        if let Some(why) = clock::doubt(&pool) {
            context.observer().warn(&format!(
                "what has ended only by this clock stays: {why}; if it is right, 'lovol prune -y' says so and prunes"
            ));
        }
    }
    state.last = Some(level);
    context.output.result(&lines, "done", &lines)
}

/// What would be done now.
fn show(pool: &Pool, level: Level, free: Size, context: &Context<'_>) -> Result<()> {
    let mut lines = vec![format!("{free} are free: {level}")];
    let program = settings::get(pool, settings::COMMAND);
    if level > Level::Enough && program != settings::NONE {
        lines.push(format!("would run {program} {level} {}", free.0));
    }
    if level == Level::Low {
        let (first, then) = watch::plan(pool)?;
        lines.extend(first.iter().map(|what| format!("would {what}")));
        let then = then.iter();
        lines.extend(then.map(|what| format!("would {what} if there is not enough then")));
    }
    let value = json!({"free": free, "level": level.to_string(), "steps": lines[1..]});
    context.output.result(&lines, "plan", &[value])
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
