//! `lovol show`

use clap::Args;
use serde_json::Value;

use crate::commands::{Context, target_parser};
use crate::error::{Context as _, Error, Result};
use crate::pool::{Place, Pool};
use crate::report::Reporter;
use crate::size::Size;
use crate::target::{self, Target};

/// Show all that is known of a volume or snapshot
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol show home
  lovol show home@before-upgrade -J
  lovol show /home")]
pub struct Show {
    /// A volume, a snapshot, or a path that means one
    #[arg(value_name = "TARGET", value_parser = target_parser())]
    target: Target,
}

impl Show {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        let pool = context.pool()?;
        let (key, value) = self.describe(&pool)?;
        if context.output.is_json() {
            return context.output.json(key, &[value]);
        }
        let lines: Vec<String> = value
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(line)
            .collect();
        context.output.lines(&lines)
    }

    fn describe(&self, pool: &Pool) -> Result<(&'static str, Value)> {
        let index = pool.index()?;
        let reporter = Reporter::new(pool);
        let described = match target::find_image(&self.target, pool, &index)? {
            Place::Volume(name) => {
                let report = reporter.volume(&name, index.volume(&name)?, false);
                serde_json::to_value(report).map(|value| ("volumes", value))
            }
            Place::Snapshot(name) => {
                let report =
                    reporter.snapshot(&name.volume, &name.snapshot, index.snapshot(&name)?);
                serde_json::to_value(report).map(|value| ("snapshots", value))
            }
            place => return Err(Error::refused(place.to_string(), "it is in the trash")),
        };
        described
            .map_err(std::io::Error::from)
            .doing("describe", "the volume")
    }
}

/// `key:  value`, sizes also for people; what is null is left out.
fn line((key, value): (&String, &Value)) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => return None,
        Value::Array(values) => values
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        value => value.to_string(),
    };
    let is_size = matches!(key.as_str(), "size" | "allocated");
    let text = match value.as_u64() {
        Some(bytes) if is_size => format!("{} ({bytes} bytes)", Size(bytes)),
        _ => text,
    };
    Some(format!(
        "{:<16}{text}",
        format!("{}:", key.replace('_', " "))
    ))
}
