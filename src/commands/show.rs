//! `lovol show`

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::commands::{Context, target_parser};
use crate::complete::{Which, images};
use crate::error::{Context as _, Error, Result};
use crate::fragments::{Extents, per_gib};
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
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Any))]
    target: Target,
}

impl Show {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        let pool = context.pool()?;
        let (key, value) = self.describe(&pool, context)?;
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

    fn describe(&self, pool: &Pool, context: &Context<'_>) -> Result<(&'static str, Value)> {
        let index = pool.index()?;
        let reporter = Reporter::new(pool);
        let place = target::find_image(&self.target, pool, &index)?;
        match &place {
            Place::Volume(name) => {
                let report = reporter.volume(name, index.volume(name)?, false);
                // Only root may open it.
                let extents = Extents::of_image(pool, &place).ok();
                let warning = extents.and_then(|all| all.warning(name.as_str(), &report.image));
                if let Some(warning) = warning {
                    context.observer().warn(&warning);
                }
                let count = extents.map(|extents| extents.count);
                with_extents(report, count, extents.map(|extents| extents.allocated))
                    .map(|value| ("volumes", value))
            }
            Place::Snapshot(name) => {
                let record = index.snapshot(name)?;
                let report = reporter.snapshot(&name.volume, &name.snapshot, record);
                with_extents(report, record.extents, record.allocated)
                    .map(|value| ("snapshots", value))
            }
            place => Err(Error::refused(place.to_string(), "it is in the trash")),
        }
    }
}

/// A report, and what is only looked at where one image is shown.
fn with_extents(
    report: impl Serialize,
    count: Option<u64>,
    allocated: Option<u64>,
) -> Result<Value> {
    let mut value = serde_json::to_value(report)
        .map_err(std::io::Error::from)
        .doing("describe", "the volume")?;
    let per_gib = count
        .zip(allocated)
        .and_then(|(count, bytes)| per_gib(count, bytes));
    value["extents"] = count.into();
    value["extents_per_gib"] = per_gib.into();
    Ok(value)
}

/// `key:  value`, sizes also for people; what is null is left out.
fn line((key, value): (&String, &Value)) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => return None,
        Value::Object(values) if values.is_empty() => return None,
        Value::Object(values) => {
            let shown = values.iter().map(|(inner, value)| match value.as_str() {
                Some(value) if key == "holds" => format!("{inner} until {value}"),
                Some(value) => format!("{inner}={value}"),
                None => inner.clone(),
            });
            shown.collect::<Vec<_>>().join(", ")
        }
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
        "{:<18}{text}",
        format!("{}:", key.replace('_', " "))
    ))
}
