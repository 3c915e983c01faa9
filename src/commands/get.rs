//! `lovol get`

use std::collections::BTreeMap;

use clap::Args;
use serde_json::json;

use crate::commands::{Context, target_parser};
use crate::complete::{images_and_settings, properties};
use crate::error::{Error, Result};
use crate::pool::settings;
use crate::target::{self, Target};

/// Show properties of a volume or snapshot, or settings of the pool
///
/// With a KEY, its value alone. Settings are shown with their defaults.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol get home
  lovol get home keep
  lovol get                              the pool's settings
  lovol get trash                        one of them")]
pub struct Get {
    /// A volume or snapshot, or nothing for the pool
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images_and_settings())]
    target: Option<Target>,

    /// Only this one
    #[arg(value_name = "KEY", add = properties())]
    key: Option<String>,
}

impl Get {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        let pool = context.pool()?;
        let Some(target) = &self.target else {
            let settings = settings::all(&pool);
            let lines = lines(&settings);
            return context.output.result(&lines, "settings", &[settings]);
        };
        let index = pool.index()?;
        if let (Target::Volume(name), None) = (target, &self.key) {
            // A setting, as it was set without a target.
            if settings::is_known(name.as_str()) && !index.volumes.contains_key(name) {
                let value = settings::get(&pool, name.as_str());
                let json = json!({name.as_str(): value});
                return context.output.result(&[value], "settings", &[json]);
            }
        }
        let place = target::find_image(target, &pool, &index)?;
        let mut properties = place.record_in(&index)?.properties.clone();
        let lines = match &self.key {
            None => lines(&properties),
            Some(key) => {
                properties.retain(|own, _| own == key);
                let value = properties.get(key).ok_or_else(|| Error::NotFound {
                    kind: "property",
                    name: format!("{key} of {}", place.target()),
                    hint: Some(format!("'lovol get {}' shows what it has", place.target())),
                })?;
                vec![value.clone()]
            }
        };
        let value = json!({"name": place.target(), "properties": properties});
        context.output.result(&lines, "properties", &[value])
    }
}

fn lines(values: &BTreeMap<String, String>) -> Vec<String> {
    let pairs = values.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect()
}
