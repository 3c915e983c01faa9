//! `lovol set`

use std::collections::BTreeMap;
use std::ffi::OsStr;

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::changes;
use crate::error::{Error, Result};
use crate::plan::Step;
use crate::pool::{Place, settings};
use crate::properties;
use crate::target::{self, Target};

/// Set properties of a volume or snapshot, or settings of the pool
///
/// KEY= without a value takes a property away, and gives a setting its default again. 'lovol get'
/// shows what there is; without a TARGET both mean the pool.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol set home keep=24h7d4w       which snapshots are kept by prune
  lovol set home user:owner=alice   anything of your own
  lovol set home user:owner=        take it away
  lovol set trash=30d               of the pool: how long it keeps trash")]
pub struct Set {
    /// A volume or snapshot, or nothing for the pool; then KEY=VALUE, one or several
    #[arg(value_name = "[TARGET] KEY=VALUE", required = true, add = changes())]
    words: Vec<String>,
}

/// What is to be set; what has no value is to be taken away.
type Changes = BTreeMap<String, Option<String>>;

impl Set {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let (target, pairs) = match self.words.split_first() {
            Some((first, rest)) if !first.contains('=') || first.starts_with(['/', '.']) => {
                (Some(first), rest)
            }
            _ => (None, &self.words[..]),
        };
        if pairs.is_empty() {
            return Err(Error::usage(
                "what is to be set?",
                "lovol set TARGET KEY=VALUE",
            ));
        }
        let pool = context.pool_for_change()?;
        let Some(target) = target else {
            let changes = parse(pairs, settings::is_known, settings::parse)?;
            if context.shows_or_begins(&steps("the pool", &changes))? {
                return Ok(());
            }
            let settings = settings::set(&pool, &changes)?;
            return context.output.result(&[], "settings", &[settings]);
        };
        let target = Target::parse(OsStr::new(target)).map_err(|why| Error::usage(why, TYPE))?;
        let index = pool.index()?;
        let place = target::find_image(&target, &pool, &index)?;
        place.record_in(&index)?;
        let changes = parse(pairs, is_property, |key, value| {
            parse_for(&place, key, value)
        })?;
        if context.shows_or_begins(&steps(&place.target(), &changes))? {
            return Ok(());
        }
        let record = properties::set(&pool, &place, &changes)?;
        let value = json!({"name": place.target(), "properties": record.properties});
        context.output.result(&[], "properties", &[value])
    }
}

const TYPE: &str = "lovol set TARGET KEY=VALUE";

fn parse(
    pairs: &[String],
    is_known: impl Fn(&str) -> bool,
    parse_value: impl Fn(&str, &str) -> Result<String, String>,
) -> Result<Changes> {
    let mut changes = Changes::new();
    for pair in pairs {
        let wrong = |why: String| Error::usage(format!("{pair}: {why}"), TYPE);
        let Some((key, value)) = pair.split_once('=') else {
            return Err(wrong("it is not KEY=VALUE".into()));
        };
        let value = match value {
            "" if !is_known(key) => {
                return Err(wrong(
                    "it is not to be taken away, or there is no such property".into(),
                ));
            }
            "" => None,
            value => Some(parse_value(key, value).map_err(wrong)?),
        };
        if changes.insert(key.to_owned(), value).is_some() {
            return Err(wrong("it stands there twice".into()));
        }
    }
    Ok(changes)
}

/// A property that a person can set, or what `rollback --next-mount` has noted.
fn is_property(key: &str) -> bool {
    key.starts_with(properties::USER)
        || properties::NAMES.contains(&key)
        || key == properties::ROLLBACK_TO
}

/// What lovol itself acts on belongs to volumes.
fn parse_for(place: &Place, key: &str, value: &str) -> Result<String, String> {
    if place.is_snapshot() && !key.starts_with(properties::USER) {
        return Err("a snapshot has only properties of your own, user:KEY".into());
    }
    properties::parse(key, value)
}

fn steps(of: &str, changes: &Changes) -> Vec<Step> {
    let step = |(key, value): (&String, &Option<String>)| Step::Set {
        of: of.to_owned(),
        key: key.clone(),
        value: value.clone(),
    };
    changes.iter().map(step).collect()
}
