//! The verbs: one file each, with its arguments (whose comments are the help) and its `run`.

pub mod attach;
pub mod check;
pub mod clone;
pub mod create;
pub mod delete;
pub mod detach;
pub mod df;
pub mod diff;
pub mod du;
pub mod fstab;
pub mod get;
pub mod help;
pub mod hold;
pub mod init;
pub mod list;
pub mod mount;
pub mod mount_helper;
pub mod protect;
pub mod provision;
pub mod prune;
pub mod purge;
pub mod release;
pub mod rename;
pub mod resize;
pub mod restore;
pub mod rollback;
pub mod set;
pub mod show;
pub mod snapshot;
pub mod trim;
pub mod umount;
pub mod undelete;
pub mod watch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::cli::{Cli, Globals};
use crate::error::{Error, Result, printable};
use crate::output::{Output, write_stderr};
use crate::plan::{Observer, Step};
use crate::pool::{DEFAULT_DIR, Place, Pool, init as pool_init};
use crate::target::{self, Range, Target};

/// What can be done.
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "clap would show a comment here instead of the verb's own"
)]
pub enum Verb {
    Init(init::Init),
    Create(create::Create),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Mount(mount::Mount),
    #[command(visible_alias = "unmount")]
    Umount(umount::Umount),
    Snapshot(snapshot::Snapshot),
    Clone(clone::Clone),
    #[command(visible_alias = "ls")]
    List(list::List),
    Show(show::Show),
    Diff(diff::Diff),
    Restore(restore::RestoreFile),
    Du(du::Du),
    Df(df::Df),
    Rename(rename::Rename),
    Delete(delete::Delete),
    Undelete(undelete::Undelete),
    Purge(purge::Purge),
    Prune(prune::Prune),
    Rollback(rollback::RollBack),
    Resize(resize::ResizeVolume),
    Trim(trim::TrimVolumes),
    Watch(watch::Watch),
    Hold(hold::Hold),
    Release(release::Release),
    Protect(protect::Protect),
    Set(set::Set),
    Get(get::Get),
    Check(check::Check),
    Provision(provision::Provision),
    Fstab(fstab::Fstab),
    Help(help::Help),
    /// The same verbs, for fingers that are used to btrfs
    #[command(hide = true)]
    Subvolume(Subvolume),
}

/// `lovol subvolume VERB`: everything behind it is read once more without it.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Subvolume {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// What a verb works with.
#[derive(Debug)]
pub struct Context<'a> {
    /// The global options.
    pub globals: &'a Globals,
    /// Where to print.
    pub output: &'a Output,
}

impl Context<'_> {
    /// The pool that the options name.
    pub fn pool(&self) -> Result<Pool> {
        Pool::open(&self.globals.pool, self.wait())
    }

    /// The pool, for a verb that changes something: what a killed lovol has left unfinished is
    /// finished first, so that nothing is looked up that is about to move.
    pub fn pool_for_change(&self) -> Result<Pool> {
        let pool = self.pool()?;
        if !self.globals.dry_run {
            pool.settle()?;
        }
        Ok(pool)
    }

    /// How long to wait for others.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.globals.wait.into())
    }

    /// The pool, which is made first at the default place if there is none.
    pub fn pool_or_new(&self) -> Result<Pool> {
        match self.pool_for_change() {
            Err(Error::NoPool { dir })
                if dir == std::path::Path::new(DEFAULT_DIR) && !self.globals.dry_run =>
            {
                pool_init::make(&dir, self.output)?;
                self.output
                    .remark(&format!("made a pool at {}", dir.display()));
                self.pool()
            }
            result => result,
        }
    }

    /// Shows the steps if that is all that is wanted.
    ///
    /// # Errors
    /// When printing fails.  `Ok(true)`: shown, nothing is to be done.
    pub fn shows(&self, plan: impl FnOnce() -> Result<Vec<Step>>) -> Result<bool> {
        if !self.globals.dry_run {
            return Ok(false);
        }
        self.output.plan(&plan()?)?;
        Ok(true)
    }

    /// Shows these steps if that is all that is wanted; else tells that they are begun.
    ///
    /// # Errors
    /// As [`Context::shows`].
    pub fn shows_or_begins(&self, steps: &[Step]) -> Result<bool> {
        if self.globals.dry_run {
            self.output.plan(steps)?;
            return Ok(true);
        }
        for step in steps {
            self.observer().begin(step);
        }
        Ok(false)
    }

    /// Who is told what goes on.
    pub fn observer(&self) -> &dyn Observer {
        self.output
    }

    /// Asks before something final; off a terminal only `-y` answers.
    ///
    /// # Errors
    /// When the answer is no, or nobody can give one.
    pub fn confirm(&self, question: &str) -> Result<()> {
        use std::io::IsTerminal;
        if self.globals.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::refused(
                "this is final",
                "nobody was asked, as this is no terminal",
            )
            .with_hint("-y says that you mean it"));
        }
        if self.output.ask(question)? {
            Ok(())
        } else {
            Err(Error::refused("not done", "you did not say yes"))
        }
    }
}

/// Fails early with one clear sentence where the kernel would refuse some step in the middle.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

/// A volume's name, a snapshot's, or a path, as an argument.
pub fn target_parser() -> impl TypedValueParser<Value = Target> {
    OsStringValueParser::new().try_map(|argument: OsString| Target::parse(&argument))
}

/// The places of snapshots; other targets are refused.
pub fn snapshot_places(pool: &Pool, targets: &[Target]) -> Result<Vec<Place>> {
    let index = pool.index()?;
    let mut places = Vec::new();
    for target in targets {
        let place = target::find_image(target, pool, &index)?;
        if !place.is_snapshot() {
            return Err(Error::usage(
                format!("{place} is no snapshot"),
                format!("{}@SNAPSHOT names one", place.target()),
            ));
        }
        place.record_in(&index)?;
        places.push(place);
    }
    places.sort();
    places.dedup();
    Ok(places)
}

/// The exit code of what was done in part.
const PARTLY: u8 = 4;

/// What several things came to, of which these failed: one error is told by whoever runs the verb,
/// several here.
pub fn failed(mut errors: Vec<Error>, is_partly: bool, context: &Context<'_>) -> Result<()> {
    if errors.len() == 1 && !is_partly {
        return errors.pop().map_or(Ok(()), Err);
    }
    for error in &errors {
        context.output.error(error);
    }
    let is_partly = is_partly || errors.iter().any(|error| error.exit_code() == PARTLY);
    match errors.len() {
        0 => Ok(()),
        failed => Err(Error::Some { failed, is_partly }),
    }
}

/// Does something for each in turn; where a later one fails, what was done is said.
pub fn for_each<I, T>(
    items: &[I],
    verb: &str,
    name: impl Fn(&I) -> String,
    mut work: impl FnMut(&I) -> Result<T>,
) -> Result<Vec<T>> {
    let mut values = Vec::new();
    for item in items {
        match work(item) {
            Ok(value) => values.push(value),
            Err(why) if values.is_empty() => return Err(why),
            Err(why) => {
                let done = items.iter().take(values.len()).map(name);
                return Err(Error::Partly {
                    done: format!("{verb}: {}", done.collect::<Vec<_>>().join(", ")),
                    why: Box::new(why),
                });
            }
        }
    }
    Ok(values)
}

/// What several images can be named by.
#[derive(Clone, Debug)]
pub enum Item {
    /// A volume, a snapshot, or a path that means one.
    Target(Target),
    /// From one snapshot to another.
    Range(Range),
}

/// See [`Item`].
pub fn item_parser() -> impl TypedValueParser<Value = Item> {
    OsStringValueParser::new().try_map(|argument: OsString| {
        match argument.to_str().and_then(Range::parse) {
            Some(range) => range.map(Item::Range),
            None => Target::parse(&argument).map(Item::Target),
        }
    })
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Create(_) => "create",
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Mount(_) => "mount",
            Self::Umount(_) => "umount",
            Self::Snapshot(_) => "snapshot",
            Self::Clone(_) => "clone",
            Self::List(_) => "list",
            Self::Show(_) => "show",
            Self::Diff(_) => "diff",
            Self::Restore(_) => "restore",
            Self::Du(_) => "du",
            Self::Df(_) => "df",
            Self::Rename(_) => "rename",
            Self::Delete(_) => "delete",
            Self::Undelete(_) => "undelete",
            Self::Purge(_) => "purge",
            Self::Prune(_) => "prune",
            Self::Rollback(_) => "rollback",
            Self::Resize(_) => "resize",
            Self::Trim(_) => "trim",
            Self::Watch(_) => "watch",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Protect(_) => "protect",
            Self::Set(_) => "set",
            Self::Get(_) => "get",
            Self::Check(_) => "check",
            Self::Provision(_) => "provision",
            Self::Fstab(_) => "fstab",
            Self::Help(_) => "help",
            Self::Subvolume(_) => "subvolume",
        }
    }

    fn run(&self, context: &Context<'_>) -> Result<()> {
        match self {
            Self::Init(verb) => verb.run(context),
            Self::Create(verb) => verb.run(context),
            Self::Attach(verb) => verb.run(context),
            Self::Detach(verb) => verb.run(context),
            Self::Mount(verb) => verb.run(context),
            Self::Umount(verb) => verb.run(context),
            Self::Snapshot(verb) => verb.run(context),
            Self::Clone(verb) => verb.run(context),
            Self::List(verb) => verb.run(context),
            Self::Diff(verb) => verb.run(context),
            Self::Restore(verb) => verb.run(context),
            Self::Du(verb) => verb.run(context),
            Self::Df(verb) => verb.run(context),
            Self::Show(verb) => verb.run(context),
            Self::Rename(verb) => verb.run(context),
            Self::Delete(verb) => verb.run(context),
            Self::Undelete(verb) => verb.run(context),
            Self::Purge(verb) => verb.run(context),
            Self::Prune(verb) => verb.run(context),
            Self::Rollback(verb) => verb.run(context),
            Self::Resize(verb) => verb.run(context),
            Self::Trim(verb) => verb.run(context),
            Self::Watch(verb) => verb.run(context),
            Self::Hold(verb) => verb.run(context),
            Self::Release(verb) => verb.run(context),
            Self::Protect(verb) => verb.run(context),
            Self::Set(verb) => verb.run(context),
            Self::Get(verb) => verb.run(context),
            Self::Check(verb) => verb.run(context),
            Self::Provision(verb) => verb.run(context),
            Self::Fstab(verb) => verb.run(context),
            Self::Help(verb) => verb.run(context),
            Self::Subvolume(_) => Err(Error::usage("subvolume of what?", "lovol subvolume VERB")),
        }
    }
}

fn parse(mut arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(&arguments)?;
    let Verb::Subvolume(Subvolume { rest }) = &cli.verb else {
        return Ok(cli);
    };
    arguments.remove(arguments.len() - rest.len() - 1);
    Cli::try_parse_from(&arguments)
}

/// A lock is an open file, and a range may be thousands of snapshots.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Prints what clap has to say, help or an error.
fn print_clap(error: &clap::Error) {
    if !error.use_stderr() {
        drop(error.print());
        return;
    }
    // What was typed stands in clap's message, and a terminal must not obey it.
    let text = error.render().to_string();
    let lines = text.lines().map(|line| printable(line) + "\n");
    write_stderr(&lines.collect::<String>());
}

/// The whole program.
pub fn main() -> ExitCode {
    raise_file_limit();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // First, as whoever mounts has the environment of who knows whom.
    if mount_helper::is_called(arguments.first()) {
        return mount_helper::main(arguments);
    }
    if crate::complete::answer(&arguments) {
        return ExitCode::SUCCESS;
    }
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            print_clap(&error);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let globals = &cli.globals;
    let output = Output::new(
        cli.verb.name(),
        globals.json,
        globals.quiet,
        globals.verbose,
        globals.color,
    );
    match cli.verb.run(&Context {
        globals,
        output: &output,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
