//! What lovol prints: the result on stdout; steps, progress, warnings and questions on stderr.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use comfy_table::{Cell as TableCell, CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::error::{Context, Error, Result, printable};
use crate::plan::{Observer, Step};

/// The number of the JSON's form: within it, keys are only added.
pub const SCHEMA: u32 = 1;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `$NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn is_on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Where results and remarks go.
#[derive(Debug)]
pub struct Output {
    command: &'static str,
    json: bool,
    quiet: bool,
    verbose: bool,
    color: Color,
    progress: Progress,
}

/// A line on the terminal that is written over and over.
#[derive(Debug)]
struct Progress {
    started: Instant,
    shown: Cell<Option<Instant>>,
}

impl Output {
    /// The output of one command.
    pub fn new(
        command: &'static str,
        json: bool,
        quiet: bool,
        verbose: bool,
        color: Color,
    ) -> Self {
        let progress = Progress {
            started: Instant::now(),
            shown: Cell::new(None),
        };
        Self {
            command,
            json,
            quiet,
            verbose,
            color,
            progress,
        }
    }

    /// Whether JSON is wanted.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result: `line` for people and scripts, or `values` under `key` as JSON.
    pub fn result(&self, lines: &[String], key: &str, values: &[impl Serialize]) -> Result<()> {
        if self.json {
            return self.json(key, values);
        }
        if self.quiet {
            return Ok(());
        }
        self.lines(lines)
    }

    /// Prints lines on stdout; control bytes are shown escaped.
    pub fn lines(&self, lines: &[String]) -> Result<()> {
        let lines = lines.iter().map(|line| printable(line) + "\n");
        write_stdout(lines.collect::<String>().as_bytes())
    }

    /// Prints `values` under `key`, with the header that all JSON output has.
    pub fn json(&self, key: &str, values: &[impl Serialize]) -> Result<()> {
        #[derive(Serialize)]
        struct Header {
            command: &'static str,
            schema: u32,
        }
        let mut text = Vec::new();
        let write = |text: &mut Vec<u8>| {
            let mut serializer = serde_json::Serializer::new(text);
            let mut top = serializer.serialize_map(Some(2))?;
            top.serialize_entry(
                "lovol",
                &Header {
                    command: self.command,
                    schema: SCHEMA,
                },
            )?;
            top.serialize_entry(key, values)?;
            SerializeMap::end(top)
        };
        write(&mut text)
            .map_err(io::Error::from)
            .doing("write", "JSON")?;
        text.push(b'\n');
        write_stdout(&text)
    }

    /// Shows what would be done.
    pub fn plan(&self, steps: &[Step]) -> Result<()> {
        if !self.json {
            let lines: Vec<String> = steps.iter().map(|step| format!("would {step}")).collect();
            return self.lines(&lines);
        }
        let steps = steps.iter().map(|step| {
            // A path that is no Unicode is known by the text alone.
            let mut value = serde_json::to_value(step).unwrap_or_else(|_| serde_json::json!({}));
            if let Some(object) = value.as_object_mut() {
                object.insert("text".into(), step.to_string().into());
            }
            value
        });
        self.json("plan", &steps.collect::<Vec<_>>())
    }

    /// Prints an error with its hint.
    pub fn error(&self, error: &Error) {
        let (red, bold, reset) = if self.color.is_on() {
            ("\x1b[31m", "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        write_stderr(&format!("{red}{bold}error:{reset} {error}\n"));
        if let Some(hint) = error.hint() {
            write_stderr(&format!("{bold}hint:{reset} {}\n", printable(&hint)));
        }
    }

    /// Something that goes on, for people.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            write_stderr(&format!("{}\n", printable(text)));
        }
    }

    /// Asks a question that wants `y`; anything else is no.
    pub fn ask(&self, question: &str) -> Result<bool> {
        write_stderr(&format!("{} [y/N] ", printable(question)));
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .doing("read", "the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

impl Observer for Output {
    fn begin(&self, step: &Step) {
        if self.verbose {
            write_stderr(&format!("{step}\n"));
        }
    }

    fn warn(&self, text: &str) {
        write_stderr(&format!("warning: {}\n", printable(text)));
    }

    fn detail(&self, text: &str) {
        if self.verbose {
            write_stderr(&format!("  {}\n", printable(text)));
        }
    }

    /// On a terminal, for work that takes over a second, ten times a second.
    fn progress(&self, what: &str, done: u64, total: u64) {
        let Progress { started, shown } = &self.progress;
        let is_early = started.elapsed() < Duration::from_secs(1);
        if self.quiet || is_early || !io::stderr().is_terminal() {
            return;
        }
        let is_last = done >= total;
        let is_recent = shown
            .get()
            .is_some_and(|at| at.elapsed() < Duration::from_millis(100));
        if is_recent && !is_last {
            return;
        }
        shown.set(Some(Instant::now()));
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        let end = if is_last { "\r\x1b[K" } else { "" };
        write_stderr(&format!("\r{} {percent} %{end}", printable(what)));
    }
}

/// How a table is to be printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableFormat {
    /// One space between the columns, which scripts can split at.
    pub raw: bool,
    /// Without the line of column names.
    pub no_header: bool,
}

/// Prints a table without borders; the columns in `right` are aligned to the right.
pub fn table(
    header: &[&str],
    right: &[bool],
    rows: Vec<Vec<String>>,
    format: TableFormat,
) -> Result<()> {
    let rows = rows
        .into_iter()
        .map(|row| row.into_iter().map(made_printable).collect::<Vec<_>>());
    if format.raw {
        let header =
            (!format.no_header).then(|| header.iter().map(|name| (*name).to_owned()).collect());
        let lines = header
            .into_iter()
            .chain(rows)
            .map(|row| format!("{}\n", raw_row(&row)));
        return write_stdout(lines.collect::<String>().as_bytes());
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    let align = |cell: TableCell, column: usize| match right.get(column) {
        Some(true) => cell.set_alignment(CellAlignment::Right),
        _ => cell,
    };
    if !format.no_header {
        table.set_header(
            header
                .iter()
                .enumerate()
                .map(|(i, name)| align(TableCell::new(name), i)),
        );
    }
    for row in rows {
        table.add_row(
            row.into_iter()
                .enumerate()
                .map(|(i, text)| align(TableCell::new_owned(text), i)),
        );
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // No trailing blanks: they would wrap on a narrow terminal.
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    write_stdout(text.as_bytes())
}

/// Most cells are plain ASCII, and there may be tens of thousands of them.
fn made_printable(cell: String) -> String {
    if cell.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        cell
    } else {
        printable(&cell)
    }
}

/// A cell without text is a `-`, so that each row has the same number of words.
fn raw_row(row: &[String]) -> String {
    let cells = row.iter().map(|cell| {
        if cell.is_empty() {
            "-".to_owned()
        } else {
            cell.replace(' ', "\\x20")
        }
    });
    cells.collect::<Vec<_>>().join(" ")
}

/// Whoever reads our output may stop to (`lovol list | head`): that is no failure.
pub fn write_stdout(text: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.doing("write to", "stdout"),
    }
}

/// There is nobody left to tell when stderr fails.
pub fn write_stderr(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
