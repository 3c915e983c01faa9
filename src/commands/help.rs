//! `lovol help`

use std::process::{Command as Process, Stdio};

use clap::{Args, Command};

use crate::commands::Context;
use crate::complete::verbs;
use crate::error::{Context as _, Error, Result};
use crate::output::write_stdout;
use crate::sys::tool::Tool;

const MAN: Tool = Tool {
    program: "man",
    package: "man-db",
};

/// Show the manual page of a command
///
/// Where it is not installed, what '--help' says is shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol help
  lovol help snapshot")]
pub struct Help {
    /// The command; without one, lovol itself
    #[arg(value_name = "COMMAND", add = verbs())]
    command: Option<String>,
}

impl Help {
    pub(super) fn run(&self, _: &Context<'_>) -> Result<()> {
        let mut lovol = crate::cli::command();
        lovol.build();
        let command = match &self.command {
            None => &mut lovol,
            Some(name) => find(&mut lovol, name)?,
        };
        let page = command.get_display_name().unwrap_or("lovol").to_owned();
        if shows_page(&page) {
            return Ok(());
        }
        write_stdout(command.render_long_help().to_string().as_bytes())
    }
}

/// By its name or what is enough of it, as where it is typed as a command.
fn find<'c>(lovol: &'c mut Command, name: &str) -> Result<&'c mut Command> {
    let names = lovol.get_subcommands().filter(|verb| !verb.is_hide_set());
    let names: Vec<&str> = names
        .flat_map(Command::get_name_and_visible_aliases)
        .collect();
    let mut beginning = names.iter().filter(|verb| verb.starts_with(name));
    let found = match (beginning.next(), beginning.next()) {
        _ if names.contains(&name) => Some(name.to_owned()),
        (Some(only), None) => Some((*only).to_owned()),
        _ => None,
    };
    let found = found.and_then(|found| lovol.find_subcommand_mut(found));
    found.ok_or_else(|| Error::NotFound {
        kind: "command",
        name: name.to_owned(),
        hint: Some("'lovol --help' lists the commands".into()),
    })
}

/// Whether man(1) has the page, and has shown it.
fn shows_page(page: &str) -> bool {
    let Ok(man) = MAN.find() else {
        return false;
    };
    let run = |words: &[&str], stdout: Stdio| {
        let run = Process::new(&man)
            .args(words)
            .stdout(stdout)
            .stderr(Stdio::null())
            .status();
        run.doing("run", &man).is_ok_and(|status| status.success())
    };
    run(&["-w", "8", page], Stdio::null()) && run(&["8", page], Stdio::inherit())
}
