//! `lovol list`

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};

use crate::commands::{Context, require_root};
use crate::complete::{Which, volumes};
use crate::error::Result;
use crate::name::Name;
use crate::output::{TableFormat, table};
use crate::properties::{ON, PROTECT, RESIZING, ROLLBACK_TO};
use crate::report::{Costs, Reporter, SnapshotReport, TrashReport, VolumeReport, wanted};
use crate::shares::Shares;
use crate::size::Size;

/// List volumes, and with -a their snapshots
///
/// Without root it shows what the index knows, and what anyone may see of the rest.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol list
  lovol list -a home                    with its snapshots
  lovol list --tree
  lovol list -o name,size,fs --raw --no-header
  lovol list -a -o name,used,excl,written
  lovol list -a -o name,notes           what is held or protected
  lovol list -J | jq '.volumes[].name'")]
pub struct List {
    /// Only these volumes
    #[arg(value_name = "NAME", value_parser = parse_volume, add = volumes(Which::Any))]
    names: Vec<Name>,

    /// Snapshots as well
    #[arg(short, long)]
    all: bool,

    /// Snapshots as well, as a tree
    #[arg(long, conflicts_with = "trash")]
    tree: bool,

    /// Deleted volumes instead
    #[arg(long, conflicts_with_all = ["all", "names"])]
    trash: bool,

    /// Sizes in bytes
    #[arg(short, long)]
    bytes: bool,

    /// These columns
    #[arg(
        short = 'o',
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        value_enum
    )]
    columns: Vec<Column>,

    /// Columns separated by one blank, empty ones as -
    #[arg(long)]
    raw: bool,

    /// No line with the columns' names
    #[arg(long)]
    no_header: bool,
}

fn parse_volume(text: &str) -> Result<Name, String> {
    match text.split_once('@') {
        Some((volume, _)) => Err(format!(
            "this lists volumes: 'lovol list -a {volume}', or 'lovol show {text}'"
        )),
        None => text.parse(),
    }
}

/// What can be shown of a volume or snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Column {
    Name,
    Size,
    Used,
    Excl,
    Written,
    Refer,
    Snaps,
    Fs,
    MountedOn,
    Created,
    Consistency,
    Device,
    State,
    Label,
    Uuid,
    FsUuid,
    Extents,
    FrozenMs,
    Notes,
    Image,
    Deleted,
}

impl Column {
    fn header(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Size => "SIZE",
            Self::Used => "USED",
            Self::Excl => "EXCL",
            Self::Written => "WRITTEN",
            Self::Refer => "REFER",
            Self::Snaps => "SNAPS",
            Self::Fs => "FS",
            Self::MountedOn => "MOUNTED-ON",
            Self::Created => "CREATED",
            Self::Consistency => "CONSISTENCY",
            Self::Device => "DEVICE",
            Self::State => "STATE",
            Self::Label => "LABEL",
            Self::Uuid => "UUID",
            Self::FsUuid => "FS-UUID",
            Self::Extents => "EXTENTS",
            Self::FrozenMs => "FROZEN-MS",
            Self::Notes => "NOTES",
            Self::Image => "IMAGE",
            Self::Deleted => "DELETED",
        }
    }

    fn is_number(self) -> bool {
        matches!(
            self,
            Self::Size
                | Self::Used
                | Self::Excl
                | Self::Written
                | Self::Refer
                | Self::Snaps
                | Self::Extents
                | Self::FrozenMs
        )
    }
}

const VOLUMES: [Column; 6] = [
    Column::Name,
    Column::Size,
    Column::Used,
    Column::Snaps,
    Column::Fs,
    Column::MountedOn,
];
const WITH_SNAPSHOTS: [Column; 8] = [
    Column::Name,
    Column::Size,
    Column::Used,
    Column::Snaps,
    Column::Fs,
    Column::Created,
    Column::Consistency,
    Column::MountedOn,
];
const TRASH: [Column; 6] = [
    Column::Name,
    Column::Size,
    Column::Used,
    Column::Snaps,
    Column::Fs,
    Column::Deleted,
];

impl List {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        let pool = context.pool()?;
        let index = pool.index()?;
        let reporter = Reporter::new(&pool);
        if self.trash {
            let reports: Vec<_> = index
                .trash
                .iter()
                .map(|(id, trashed)| reporter.trashed(id, trashed))
                .collect();
            return self.print_trash(&reports, context);
        }
        let with_snapshots = self.all || self.tree;
        let volumes = wanted(&index, &self.names)?;
        let mut reports: Vec<_> = volumes
            .iter()
            .map(|(name, volume)| reporter.volume(name, volume, with_snapshots))
            .collect();
        if self.asks_for_costs() {
            require_root()?;
            let shares = Shares::read(&pool, &index)?;
            let costs = Costs::new(&shares);
            for (report, (_, volume)) in reports.iter_mut().zip(&volumes) {
                costs.fill_in(report, volume);
            }
        }
        self.print(&reports, context)
    }

    /// What takes a look at all images' extents.
    fn asks_for_costs(&self) -> bool {
        let is_cost = |column: &Column| matches!(column, Column::Excl | Column::Written);
        self.columns.iter().any(is_cost)
    }

    fn print(&self, reports: &[VolumeReport], context: &Context<'_>) -> Result<()> {
        if context.output.is_json() {
            return context.output.json("volumes", reports);
        }
        let default: &[Column] = if self.all || self.tree {
            &WITH_SNAPSHOTS
        } else {
            &VOLUMES
        };
        let columns = if self.columns.is_empty() {
            default
        } else {
            &self.columns
        };
        let mut rows = Vec::new();
        for report in reports {
            rows.push(
                columns
                    .iter()
                    .map(|column| self.volume_cell(*column, report))
                    .collect(),
            );
            let snapshots = report.snapshots.as_deref().unwrap_or_default();
            for (number, snapshot) in snapshots.iter().enumerate() {
                let branch = match (self.tree, number + 1 == snapshots.len()) {
                    (false, _) => "",
                    (true, false) => "├─ ",
                    (true, true) => "└─ ",
                };
                rows.push(
                    columns
                        .iter()
                        .map(|column| self.snapshot_cell(*column, snapshot, branch))
                        .collect(),
                );
            }
        }
        self.print_table(columns, rows)
    }

    fn print_trash(&self, reports: &[TrashReport], context: &Context<'_>) -> Result<()> {
        if context.output.is_json() {
            return context.output.json("trash", reports);
        }
        let columns: &[Column] = if self.columns.is_empty() {
            &TRASH
        } else {
            &self.columns
        };
        let row = |report| {
            columns
                .iter()
                .map(|column| self.trash_cell(*column, report))
                .collect()
        };
        self.print_table(columns, reports.iter().map(row).collect())
    }

    fn print_table(&self, columns: &[Column], rows: Vec<Vec<String>>) -> Result<()> {
        let header: Vec<&str> = columns.iter().map(|column| column.header()).collect();
        let right: Vec<bool> = columns.iter().map(|column| column.is_number()).collect();
        table(
            &header,
            &right,
            rows,
            TableFormat {
                raw: self.raw,
                no_header: self.no_header,
            },
        )
    }

    fn size(&self, bytes: Option<u64>) -> String {
        match bytes {
            Some(bytes) if self.bytes => bytes.to_string(),
            Some(bytes) => Size(bytes).to_string(),
            None => "-".into(),
        }
    }

    fn volume_cell(&self, column: Column, volume: &VolumeReport) -> String {
        match column {
            Column::Name => volume.name.to_string(),
            Column::Size => self.size(Some(volume.size)),
            Column::Used | Column::Refer => self.size(volume.allocated),
            Column::Excl => self.size(volume.exclusive),
            Column::Written => self.size(volume.written),
            Column::Snaps => volume.snapshot_count.to_string(),
            Column::Fs => volume.fstype.clone(),
            Column::MountedOn => volume.mountpoints.join(","),
            Column::Created => crate::time::show(volume.created),
            Column::Device => volume
                .device
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            Column::State => volume.state.unwrap_or("-").to_owned(),
            Column::Label => volume.label.clone().unwrap_or_default(),
            Column::Uuid => volume.uuid.to_string(),
            Column::FsUuid => volume.fs_uuid.clone().unwrap_or_default(),
            Column::Notes => notes_of(&volume.properties),
            Column::Image => volume.image.display().to_string(),
            Column::Consistency | Column::Extents | Column::FrozenMs | Column::Deleted => {
                String::new()
            }
        }
    }

    fn snapshot_cell(&self, column: Column, snapshot: &SnapshotReport, branch: &str) -> String {
        match column {
            Column::Name if !branch.is_empty() => format!("{branch}{}", snapshot.name),
            Column::Name => snapshot.full_name.clone(),
            Column::Size => self.size(Some(snapshot.size)),
            Column::Used | Column::Refer => self.size(snapshot.allocated),
            Column::Excl => self.size(snapshot.exclusive),
            Column::Written => self.size(snapshot.written),
            Column::Fs => snapshot.fstype.clone(),
            Column::MountedOn => snapshot.mountpoints.join(","),
            Column::Created => crate::time::show(snapshot.created),
            Column::Consistency => snapshot
                .consistency
                .map(|c| c.to_string())
                .unwrap_or_default(),
            Column::Device => snapshot
                .device
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            Column::Uuid => snapshot.uuid.to_string(),
            Column::Extents => snapshot
                .extents
                .map(|extents| extents.to_string())
                .unwrap_or_default(),
            Column::FrozenMs => snapshot.frozen_us.map(milliseconds).unwrap_or_default(),
            Column::Notes => holds_of(snapshot),
            Column::Image => snapshot.image.display().to_string(),
            Column::Snaps | Column::State | Column::Label | Column::FsUuid | Column::Deleted => {
                String::new()
            }
        }
    }

    fn trash_cell(&self, column: Column, trashed: &TrashReport) -> String {
        match column {
            Column::Name => trashed.id.clone(),
            Column::Size => self.size(Some(trashed.size)),
            Column::Used => self.size(trashed.allocated),
            Column::Snaps => trashed.snapshot_count.to_string(),
            Column::Fs => trashed.fstype.clone(),
            Column::Deleted => crate::time::show(trashed.deleted),
            _ => String::new(),
        }
    }
}

/// What of a volume's properties is in the way of something, or is still to come.
fn notes_of(properties: &BTreeMap<String, String>) -> String {
    let note = |(key, value): (&String, &String)| match key.as_str() {
        PROTECT if value == ON => Some("protected".to_owned()),
        RESIZING => Some("resize not finished".to_owned()),
        ROLLBACK_TO => Some(format!("rollback to {value} at the next mount")),
        _ => None,
    };
    let notes: Vec<String> = properties.iter().filter_map(note).collect();
    notes.join(", ")
}

fn holds_of(snapshot: &SnapshotReport) -> String {
    let tags: Vec<&str> = snapshot.holds.keys().map(String::as_str).collect();
    if tags.is_empty() {
        String::new()
    } else {
        format!("held by {}", tags.join(", "))
    }
}

/// Microseconds as milliseconds with one decimal.
fn milliseconds(microseconds: u64) -> String {
    format!("{}.{}", microseconds / 1000, microseconds % 1000 / 100)
}
