//! `lovol restore`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::{Which, snapshots};
use crate::error::Result;
use crate::restore::{Restore, Source};

/// Get a file or directory back from a snapshot
///
/// It gets its owners, modes, times, extended attributes and ACLs, and its holes stay holes. Nothing
/// is replaced. Without DEST it goes where it was in the volume, which is mounted then.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol restore home@before:alice/letter
  lovol restore home@before:alice /mnt/alice-then")]
pub struct RestoreFile {
    /// A path in a snapshot
    #[arg(value_name = "VOLUME@SNAPSHOT:PATH", value_parser = source_parser(), add = snapshots(Which::Any))]
    source: Source,

    /// The new file's path, or a directory to put it in
    #[arg(value_name = "DEST")]
    destination: Option<PathBuf>,
}

fn source_parser() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().try_map(|argument: OsString| Source::parse(&argument))
}

impl RestoreFile {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool()?;
        pool.index()?.snapshot(&self.source.snapshot)?;
        let restore = Restore::new(&pool, self.source.clone(), self.destination.as_deref())?;
        if !context.globals.dry_run {
            restore.sweep();
        }
        restore.must_be_new()?;
        if context.shows(|| Ok(vec![restore.step()]))? {
            return Ok(());
        }
        restore.carry_out(context.observer())?;
        let to = restore.to();
        let value = json!({"path": to.to_string_lossy()});
        context
            .output
            .result(&[to.display().to_string()], "restored", &[value])
    }
}
