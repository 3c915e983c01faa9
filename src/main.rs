//! Parse, run, print the error, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    lovol::commands::main()
}
