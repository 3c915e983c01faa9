//! `lovol prune`

use clap::Args;
use jiff::Span;
use serde_json::json;

use crate::commands::{Context, failed, require_root};
use crate::complete::{Which, volumes};
use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::name::Name;
use crate::pool::clock;
use crate::prune::{self, Request, Verdict};
use crate::retention::Policy;

/// Delete snapshots that need not be kept any more
///
/// So many of the newest are kept for each hour, day, week, month and year that has one, as 'restic
/// forget' counts them: by the options, or by each volume's property keep. Without a NAME all
/// volumes with that property are pruned, and deleted volumes go for good that were in the trash as
/// long as the pool's setting says.
///
/// Only snapshots that lovol named itself are pruned, by the time, unless --named. What is held or
/// in use stays, so does the newest, and a group of which one stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol set home keep=24h7d4w12m
  lovol prune -n                      what stays and why, and what goes
  lovol prune
  lovol prune home --keep-last 3 --keep-within 36h --named")]
pub struct Prune {
    /// Volumes
    #[arg(value_name = "NAME", add = volumes(Which::Any))]
    names: Vec<Name>,

    /// Keep so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_last: u32,

    /// Keep so many hourly ones
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_hourly: u32,

    /// Keep so many daily ones
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_daily: u32,

    /// Keep so many weekly ones
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_weekly: u32,

    /// Keep so many monthly ones
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_monthly: u32,

    /// Keep so many yearly ones
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    keep_yearly: u32,

    /// Keep all that are no older than the newest by this: 36h, 30d, 4w, 6m, 1y
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    keep_within: Option<SpanArgument>,

    /// Snapshots with names of your own as well
    #[arg(long)]
    named: bool,

    /// By this machine's calendar, in the place of UTC's
    #[arg(long)]
    local: bool,
}

/// clap compares values, which a span cannot be without a calendar.
#[derive(Clone, Copy, Debug)]
struct SpanArgument(Span);

fn parse_span(text: &str) -> Result<SpanArgument, String> {
    crate::time::parse_span(text).map(SpanArgument)
}

impl Prune {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let mut pool = context.pool_for_change()?;
        let doubt = clock::doubt(&pool).filter(|_| !context.globals.yes);
        // Judged is what this clock would have pruned.  While it is doubted nothing of it goes, and the
        // error is for those who would have had it go.
        clock::believe(&mut pool);
        let index = pool.index()?;
        let (verdicts, mut failures) = prune::judge(&pool, &index, &self.request())?;
        let trash = if self.names.is_empty() {
            prune::old_trash(&pool, &index)
        } else {
            Vec::new()
        };
        let is_any = verdicts.iter().any(Verdict::goes) || !trash.is_empty();
        let doubt = doubt.filter(|_| is_any).map(|why| {
            Error::refused("nothing is pruned", why)
                .with_hint("if the clock is right, 'lovol prune -y' says so and prunes")
        });
        if context.globals.dry_run {
            show(&verdicts, &trash, context)?;
            failures.extend(doubt);
            return failed(failures, false, context);
        }
        if context.globals.yes {
            clock::note_right(&pool)?;
        } else {
            clock::note(&pool)?;
        }
        if let Some(doubt) = doubt {
            return Err(doubt);
        }
        let pruned = prune::carry_out(&pool, &verdicts, &trash, context.observer());
        let mut lines: Vec<String> = pruned.snapshots.iter().map(ToString::to_string).collect();
        lines.extend(pruned.trash.iter().cloned());
        let values: Vec<_> = lines.iter().map(|name| json!({"name": name})).collect();
        context.output.result(&lines, "pruned", &values)?;
        failures.extend(pruned.failures);
        failed(failures, !lines.is_empty(), context)
    }

    fn request(&self) -> Request {
        let policy = Policy {
            last: self.keep_last,
            spans: Keep {
                hourly: self.keep_hourly,
                daily: self.keep_daily,
                weekly: self.keep_weekly,
                monthly: self.keep_monthly,
                yearly: self.keep_yearly,
            },
            within: self.keep_within.map(|SpanArgument(span)| span),
        };
        Request {
            volumes: self.names.clone(),
            policy: (!policy.is_empty()).then_some(policy),
            named: self.named,
            local: self.local,
        }
    }
}

/// A line for each, with why.
fn show(verdicts: &[Verdict], trash: &[String], context: &Context<'_>) -> Result<()> {
    if context.output.is_json() {
        let gone = trash.iter().map(|id| json!({"name": id, "keeps": []}));
        let all = verdicts.iter().map(|verdict| json!(verdict));
        return context
            .output
            .json("plan", &all.chain(gone).collect::<Vec<_>>());
    }
    let line = |verdict: &Verdict| {
        if verdict.goes() {
            format!("would delete {}: no rule keeps it", verdict.name)
        } else {
            format!("would keep {}: {}", verdict.name, verdict.keeps.join(", "))
        }
    };
    let mut lines: Vec<String> = verdicts.iter().map(line).collect();
    lines.extend(
        trash
            .iter()
            .map(|id| format!("would purge {id}: it has been in the trash for long enough")),
    );
    context.output.lines(&lines)
}
