//! `lovol du`

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::commands::{Context, Item, item_parser, require_root};
use crate::complete::{Which, images};
use crate::error::Result;
use crate::index::Index;
use crate::output::{TableFormat, table};
use crate::pool::place::records;
use crate::pool::{Place, Pool};
use crate::shares::{Shares, Taken};
use crate::size::Size;
use crate::target;

/// Show what volumes and snapshots take, and what deleting them would free
///
/// A row says what deleting just that would free: EXCLUSIVE. What it shares with other images of
/// the pool is SHARED; FOREIGN is what files have as well that lovol does not know. Several targets
/// get a row for each, and one for all of them together.
///
/// Without a target there is a row for each volume with all its snapshots, and for the trash.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol du
  lovol du home                     the volume without its snapshots
  lovol du home@monday%friday       what deleting all of these would free
  lovol du -a                       each image by itself")]
pub struct Du {
    /// Volumes, snapshots, or ranges of snapshots (VOLUME@FIRST%LAST)
    #[arg(value_name = "TARGET", value_parser = item_parser(), add = images(Which::Any))]
    targets: Vec<Item>,

    /// Each volume and snapshot by itself
    #[arg(short, long, conflicts_with = "targets")]
    all: bool,

    /// Sizes in bytes
    #[arg(short, long)]
    bytes: bool,

    /// Columns separated by one blank
    #[arg(long)]
    raw: bool,

    /// No line with the columns' names
    #[arg(long)]
    no_header: bool,
}

/// What a row is about.
struct Row {
    name: String,
    places: BTreeSet<Place>,
}

impl Du {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool()?;
        let index = pool.index()?;
        let rows = self.rows(&pool, &index)?;
        let shares = Shares::read(&pool, &index)?;
        let each = shares.each();
        let taken = |row: &Row| match row.places.first() {
            Some(place) if row.places.len() == 1 => each.get(place).copied().unwrap_or_default(),
            _ => shares.taken(&row.places),
        };
        let taken: Vec<(Row, Taken)> = rows
            .into_iter()
            .map(|row| {
                let taken = taken(&row);
                (row, taken)
            })
            .collect();
        self.print(&index, &taken, context)
    }

    fn rows(&self, pool: &Pool, index: &Index) -> Result<Vec<Row>> {
        if self.all {
            let one = |place: Place| Row {
                name: shown(&place),
                places: [place].into(),
            };
            return Ok(records(index).into_keys().map(one).collect());
        }
        if self.targets.is_empty() {
            return Ok(by_volume(index));
        }
        let mut rows = self
            .targets
            .iter()
            .map(|item| row_of(item, pool, index))
            .collect::<Result<Vec<_>>>()?;
        if rows.len() > 1 {
            let together = rows.iter().flat_map(|row| row.places.iter().cloned());
            rows.push(Row {
                places: together.collect(),
                name: "(together)".into(),
            });
        }
        Ok(rows)
    }

    fn print(&self, index: &Index, rows: &[(Row, Taken)], context: &Context<'_>) -> Result<()> {
        let sizes = records(index);
        let size = |row: &Row| -> u64 {
            let own = row.places.iter().filter_map(|place| sizes.get(place));
            own.map(|record| record.size).sum()
        };
        if context.output.is_json() {
            let values = rows.iter().map(|(row, taken)| {
                json!({
                    "name": row.name,
                    "size": size(row),
                    "allocated": taken.allocated,
                    "exclusive": taken.exclusive,
                    "shared": taken.shared,
                    "foreign": taken.foreign,
                })
            });
            return context.output.json("usage", &values.collect::<Vec<_>>());
        }
        let number = |bytes: u64| {
            if self.bytes {
                bytes.to_string()
            } else {
                Size(bytes).to_string()
            }
        };
        let cells = rows.iter().map(|(row, taken)| {
            let Taken {
                allocated,
                exclusive,
                shared,
                foreign,
            } = *taken;
            let numbers = [size(row), allocated, exclusive, shared, foreign].map(number);
            std::iter::once(row.name.clone()).chain(numbers).collect()
        });
        table(
            &[
                "NAME",
                "SIZE",
                "ALLOCATED",
                "EXCLUSIVE",
                "SHARED",
                "FOREIGN",
            ],
            &[false, true, true, true, true, true],
            cells.collect(),
            TableFormat {
                raw: self.raw,
                no_header: self.no_header,
            },
        )
    }
}

/// Each volume with its snapshots, and the trash.
fn by_volume(index: &Index) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for name in index.volumes.keys() {
        rows.push(Row {
            name: name.to_string(),
            places: BTreeSet::new(),
        });
    }
    rows.push(Row {
        name: "(trash)".into(),
        places: BTreeSet::new(),
    });
    for place in records(index).into_keys() {
        let volume = match &place {
            Place::Volume(name) => name.to_string(),
            Place::Snapshot(name) => name.volume.to_string(),
            Place::TrashedVolume(_) | Place::TrashedSnapshot(..) => "(trash)".into(),
        };
        if let Some(row) = rows.iter_mut().find(|row| row.name == volume) {
            row.places.insert(place);
        }
    }
    rows.retain(|row| !row.places.is_empty());
    rows
}

fn row_of(item: &Item, pool: &Pool, index: &Index) -> Result<Row> {
    match item {
        Item::Range(range) => Ok(Row {
            name: format!("{}@{}%{}", range.volume, range.first, range.last),
            places: range
                .expand(index)?
                .into_iter()
                .map(Place::Snapshot)
                .collect(),
        }),
        Item::Target(target) => {
            let place = target::find_image(target, pool, index)?;
            place.record_in(index)?;
            Ok(Row {
                name: shown(&place),
                places: [place].into(),
            })
        }
    }
}

fn shown(place: &Place) -> String {
    match place {
        Place::TrashedSnapshot(id, name) => format!("{id}@{name}"),
        place => place.target(),
    }
}
