//! The `lumina` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into()).collect();
    lumina::cli::run(&arguments)
}
