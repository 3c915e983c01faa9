//! The manual pages are what the command line's own definitions say.
//!
//! `LOVOL_UPDATE=1 cargo test generated` writes them anew.

pub(crate) mod page;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use clap::{Command, CommandFactory};
use lovol::commands::mount_helper::MountHelper;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const HOW: &str = "run 'LOVOL_UPDATE=1 cargo test generated', look at what changed, and commit it";

#[test]
fn the_manual_pages_are_up_to_date() {
    must_be_committed("man", &pages());
}

#[test]
fn mandoc_has_nothing_to_say_of_any_page() {
    for (file, page) in pages() {
        let said = feed("mandoc", &["-Tlint", "-W", "warning"], &page);
        assert_eq!(said, "", "mandoc on {file}");
    }
}

#[test]
fn man_shows_every_page_without_a_warning_or_a_wrapped_example() {
    for (file, page) in pages() {
        let said = feed(
            "man",
            &["--warnings", "-Tutf8", "-P", "cat", "-l", "-"],
            &page,
        );
        assert_eq!(said, "", "man on {file}");
    }
    for command in commands() {
        for line in page::example_lines(&command) {
            assert!(
                line.len() <= 72,
                "too long for a page of 80 columns: {line}"
            );
        }
    }
}

#[test]
fn whatis_finds_every_page() {
    for (file, page) in pages() {
        let (name, _) = file.rsplit_once('.').unwrap();
        let is_there = page.contains(&format!("\n.SH NAME\n{} \\- ", name.replace('-', "\\-")));
        assert!(is_there, "the NAME section of {file}");
    }
}

#[test]
fn every_option_and_argument_has_text() {
    for command in commands() {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{}: {}", command.get_name(), arg.get_id());
        }
    }
}

#[test]
fn every_verb_has_a_description_and_examples() {
    for command in commands() {
        let name = command.get_bin_name().unwrap_or(command.get_name());
        assert!(command.get_about().is_some(), "{name} has no description");
        let lines = page::example_lines(&command);
        assert!(!lines.is_empty(), "{name} has no examples");
        let is_shown = lines
            .iter()
            .any(|line| line.starts_with(name) || name == "mount.lovol");
        assert!(is_shown, "no example of {name} shows it");
    }
}

#[test]
fn the_overview_names_every_page() {
    let overview = &pages()["lovol.8"];
    for file in pages().keys().filter(|file| *file != "lovol.8") {
        let (name, section) = file.rsplit_once('.').unwrap();
        let name = name.replace('-', "\\-");
        let entries = [
            format!("{name}({section})"),
            format!(".BR {name} ({section})"),
        ];
        assert!(
            entries.iter().any(|entry| overview.contains(entry)),
            "{file}"
        );
    }
}

/// Feeds a page to a tool, and returns what it complains of.
fn feed(tool: &str, arguments: &[&str], page: &str) -> String {
    let mut child = Process::new(tool)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "80")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}; tests/install-deps.sh check installs it"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    // mandoc -Tlint complains on stdout, where man shows the page.
    let complaints = if tool == "mandoc" {
        [output.stdout, output.stderr].concat()
    } else {
        output.stderr
    };
    let said = String::from_utf8(complaints).unwrap();
    assert!(output.status.success() || !said.is_empty(), "{tool} failed");
    said
}

fn must_be_committed(dir: &str, rendered: &BTreeMap<String, String>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
    if std::env::var_os("LOVOL_UPDATE").is_some() {
        update(&dir, rendered);
    }
    let committed = files_in(&dir);
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&committed),
        names(rendered),
        "the files in {}: {HOW}",
        dir.display()
    );
    for (file, text) in rendered {
        let is_same = committed[file] == *text;
        assert!(
            is_same,
            "{}/{file} is not what the code says: {HOW}",
            dir.display()
        );
    }
}

fn update(dir: &Path, rendered: &BTreeMap<String, String>) {
    for file in files_in(dir)
        .keys()
        .filter(|file| !rendered.contains_key(*file))
    {
        fs::remove_file(dir.join(file)).unwrap();
    }
    for (file, text) in rendered {
        fs::write(dir.join(file), text).unwrap();
    }
}

fn files_in(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files
        .map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

fn pages() -> BTreeMap<String, String> {
    let date = release_date();
    let pages = commands().into_iter().map(|command| {
        let file = format!("{}.8", page::name(&command));
        (file, page::render(&command, VERSION, &date))
    });
    let by_hand = page::render_by_hand("lovol", "5", VERSION, &date);
    pages.chain([("lovol.5".to_owned(), by_hand)]).collect()
}

/// When this version was released, by the changelog: a page must not change with the day.
fn release_date() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md");
    let changelog = fs::read_to_string(path).unwrap();
    let heading = format!("## [{VERSION}] - ");
    let date = changelog
        .lines()
        .find_map(|line| line.strip_prefix(&heading));
    date.unwrap_or_else(|| panic!("CHANGELOG.md has no '{heading}DATE'"))
        .to_owned()
}

/// lovol and its verbs, built.
pub(crate) fn commands() -> Vec<Command> {
    let mut lovol = visible();
    lovol.build();
    let verbs: Vec<Command> = lovol.get_subcommands().cloned().collect();
    let mut helper = MountHelper::command();
    helper.build();
    std::iter::once(lovol)
        .chain(verbs)
        .chain([helper])
        .collect()
}

/// The command line without what is hidden, and without clap's `help`, which every verb is.
fn visible() -> Command {
    let all = lovol::cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set());
    let about = all.get_about().cloned().unwrap_or_default();
    let long_about = all.get_long_about().cloned().unwrap_or_default();
    let examples = all.get_after_help().cloned().unwrap_or_default();
    Command::new("lovol")
        .version(VERSION)
        .about(about)
        .long_about(long_about)
        .after_help(examples)
        .disable_help_subcommand(true)
        .args(all.get_arguments().cloned())
        .subcommands(verbs.cloned())
}
