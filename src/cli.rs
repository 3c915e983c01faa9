//! The command line: options that every verb takes, and the list of verbs.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, Parser};

use crate::commands::Verb;
use crate::complete::directory;
use crate::output::Color;

/// Volumes and instant, safe snapshots on XFS and other filesystems with reflinks
///
/// A volume is a sparse image file with a filesystem in it, mounted by a loop device; a snapshot
/// is a read-only reflink of it, taken in a moment, frozen for as long as that takes.
#[derive(Debug, Parser)]
#[command(
    name = "lovol",
    version,
    infer_subcommands = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Options that every verb takes.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  lovol create home 50G             make a volume
  lovol mount home /home            mount it
  lovol snapshot home               take a snapshot of it, mounted or not
  lovol list -a                     list volumes and snapshots";

/// Options before or after the verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Use the pool in this directory [default: $LOVOL_POOL, or /var/lib/lovol]
    // Not by clap's `env`: a usage line would then show --pool as if it had been typed.
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = default_pool(), hide_default_value = true, add = directory())]
    pub pool: PathBuf,

    /// Wait so long for what another process has locked or frozen
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    pub wait: u32,

    /// Print the result as JSON
    #[arg(short = 'J', long, global = true)]
    pub json: bool,

    /// Show what would be done, and do nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,

    /// Answer questions with yes
    #[arg(short = 'y', long, global = true)]
    pub yes: bool,

    /// Print nothing but errors and warnings
    #[arg(short = 'q', long, global = true)]
    pub quiet: bool,

    /// Show each step on stderr
    #[arg(short = 'v', long, global = true)]
    pub verbose: bool,

    /// Use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// The pool where none is named.
pub fn default_pool() -> PathBuf {
    let dir = std::env::var_os("LOVOL_POOL").filter(|dir| !dir.is_empty());
    dir.map_or_else(|| crate::pool::DEFAULT_DIR.into(), PathBuf::from)
}

/// The whole command line, for man pages and completions.
pub fn command() -> Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}
