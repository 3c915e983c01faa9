//! `mount.lovol`: what mount(8) runs for `-t lovol`.
//!
//! The same program under another name.  mount(8) calls it as `mount.lovol SPEC DIR -o WORDS`
//! ("External helpers" in its page), and its exit code becomes mount's.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::default_pool;
use crate::commands::print_clap;
use crate::error::{Error, Result, show_path};
use crate::mounting::{Image, Mounted, Options, mount_point};
use crate::output::{Color, Output, write_stderr};
use crate::plan::Observer;
use crate::pool::Pool;
use crate::rollback;
use crate::spec::Spec;

/// The name by which it is called.
pub const NAME: &str = "mount.lovol";

/// How long to wait for what another process has locked or frozen: as lovol itself.
const WAIT: Duration = Duration::from_secs(30);

/// Mount a volume of a pool, or view a snapshot, for mount(8)
///
/// mount(8) calls this program for '-t lovol'. SPEC is the path of the image in its pool,
/// lovol:NAME or lovol:NAME@SNAPSHOT. What is mounted at DIR already is left as it is.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  mount -t lovol /var/lib/lovol/volumes/home.img /home
  mount -t lovol lovol:home@before /mnt -o noatime
  mount -o remount,ro /home"
)]
pub struct MountHelper {
    /// An image's path in its pool, lovol:NAME or lovol:NAME@SNAPSHOT
    #[arg(value_name = "SPEC")]
    spec: OsString,

    /// The directory to mount on
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Mount options, separated by commas
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    options: Vec<String>,

    /// Do all but the mount
    #[arg(short)]
    fake: bool,

    /// Show each step on stderr
    #[arg(short)]
    verbose: bool,

    /// Mount read-only
    #[arg(short, overrides_with = "write")]
    read_only: bool,

    /// Mount read-write
    #[arg(short, overrides_with = "read_only")]
    write: bool,

    /// Ignored: options that are not known are the guest's
    #[arg(short)]
    sloppy: bool,

    /// Ignored: there is no mtab
    #[arg(short)]
    no_mtab: bool,

    /// Ignored: the volume knows its filesystem
    #[arg(short = 't', value_name = "TYPE")]
    fstype: Option<String>,

    /// Mount in another mount namespace: a file such as /proc/PID/ns/mnt, or a PID
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// Whether that is what this process was called by: the exact file name, never a part of it.
pub fn is_called(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name()) == Some(OsStr::new(NAME))
}

/// The whole of `mount.lovol`.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let helper = match MountHelper::try_parse_from(arguments) {
        Ok(helper) => helper,
        Err(error) => {
            let is_wrong = error.use_stderr();
            print_clap(&error);
            return ExitCode::from(u8::from(is_wrong));
        }
    };
    match helper.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            helper.complain(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

/// As mount(8) has them: 1 usage or permissions, 2 no loop device, 32 the mount failed.
fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Usage { .. } | Error::NotRoot => 1,
        Error::Io {
            action: "attach", ..
        } => 2,
        Error::Io {
            action: "open", on, ..
        } if on == "/dev/loop-control" => 2,
        _ => 32,
    }
}

impl MountHelper {
    fn run(&self) -> Result<()> {
        must_be_really_root()?;
        let spec = Spec::parse(&self.spec)?;
        let options = self.options()?;
        let place = options.place(spec.place)?;
        let pool = Pool::open(&spec.pool.unwrap_or_else(default_pool), WAIT)?;
        if !self.fake {
            pool.settle()?;
        }
        let dir = match &options.guest.namespace {
            None => mount_point(&self.dir)?,
            Some(_) => absolute(&self.dir)?,
        };
        let observer = self.output();
        let observer: &dyn Observer = &observer;
        let mounted = match &options.guest.namespace {
            None => Mounted::find(&pool, &place, &dir)?,
            // What is mounted there is known there.
            Some(_) => None,
        };
        if options.remount {
            let mounted = mounted.ok_or_else(|| Mounted::missing(&place, &dir))?;
            return self.unless_fake(|| mounted.remount(&options, observer));
        }
        // 'mount -a' calls again for what libmount does not find in the table, such as lovol:NAME.
        if mounted.is_some() {
            observer.detail(&format!("{} is mounted there already", place.target()));
            return Ok(());
        }
        if !self.fake {
            rollback::if_due(&pool, &place, observer)?;
        }
        let image = Image::open(&pool, &place)?;
        image.plan_mount(&dir, &options)?;
        self.unless_fake(|| image.mount(&dir, &options, observer))
    }

    fn unless_fake(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.fake { Ok(()) } else { work() }
    }

    fn options(&self) -> Result<Options> {
        let mut options = Options::parse(&self.options.join(","))?;
        if self.read_only || self.write {
            options.guest.add(if self.write { "rw" } else { "ro" });
        }
        options.guest.namespace = self.namespace.as_deref().map(namespace_file);
        if options.remount && self.namespace.is_some() {
            return Err(Error::usage(
                "a remount in another namespace is not supported",
                "run mount(8) in that namespace: nsenter --mount=FILE mount ...",
            ));
        }
        Ok(options)
    }

    fn output(&self) -> Output {
        Output::new("mount", false, false, self.verbose, Color::Auto)
    }

    fn complain(&self, error: &Error) {
        write_stderr(&format!("{NAME}: {}: {error}\n", show_path(&self.dir)));
        if let Some(hint) = error.hint() {
            write_stderr(&format!("{NAME}: hint: {hint}\n"));
        }
    }
}

/// The file of a mount namespace, which may be named by a process in it.
fn namespace_file(text: &str) -> PathBuf {
    match text.parse::<u32>() {
        Ok(pid) => format!("/proc/{pid}/ns/mnt").into(),
        Err(_) => text.into(),
    }
}

/// A directory of another namespace: only there it can be looked at.
fn absolute(dir: &Path) -> Result<PathBuf> {
    if dir.is_absolute() {
        return Ok(dir.to_owned());
    }
    Err(Error::usage(
        format!("{} is not an absolute path", dir.display()),
        "in another namespace, a directory is known by its path from the root",
    ))
}

/// A setuid copy of this would mount for anybody: mount(8) drops its own before it calls us.
fn must_be_really_root() -> Result<()> {
    if nix::unistd::geteuid() != nix::unistd::getuid() {
        return Err(Error::usage(
            "it runs for one user with the rights of another",
            format!("take the setuid bit away: chmod u-s {NAME}"),
        ));
    }
    super::require_root()
}
