//! The command line: arguments to subcommand to exit code.

mod address;
mod bench;
mod check;
mod client;
mod devices;
mod load;
mod serve;
mod simulate;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use argh::FromArgs;

use crate::base::section::ConfigError;

/// What the process returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is fine.
    Fine = 0,
    /// It could not be done.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
}

/// Lumina carries a plant's live data: thousands of devices over TCP/IP, read and written at the same time.
#[derive(FromArgs)]
struct Arguments {
    /// print the version
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Client(client::Client),
    Devices(devices::Devices),
    Trace(trace::Trace),
    Simulate(Box<simulate::Simulate>),
    Bench(Box<bench::Bench>),
}

/// Run the command line, the program's name first.
pub fn run(arguments: &[String]) -> ExitCode {
    let exit = match parse(arguments) {
        Ok(Arguments { version: true, .. }) => {
            say(format_args!("lumina {}", env!("CARGO_PKG_VERSION")));
            Exit::Fine
        }
        Ok(Arguments { command: Some(Command::Serve(serve)), .. }) => serve.run(),
        Ok(Arguments { command: Some(Command::Check(check)), .. }) => check.run(),
        Ok(Arguments { command: Some(Command::Client(client)), .. }) => client.run(),
        Ok(Arguments { command: Some(Command::Devices(devices)), .. }) => devices.run(),
        Ok(Arguments { command: Some(Command::Trace(trace)), .. }) => trace.run(),
        Ok(Arguments { command: Some(Command::Simulate(simulate)), .. }) => simulate.run(),
        Ok(Arguments { command: Some(Command::Bench(bench)), .. }) => bench.run(),
        Ok(Arguments { command: None, .. }) => {
            say_error(format_args!(
                "lumina: which command? 'lumina serve' runs the server; 'lumina --help' lists them all"
            ));
            Exit::Usage
        }
        Err(exit) => exit,
    };
    ExitCode::from(exit as u8)
}

fn parse(arguments: &[String]) -> Result<Arguments, Exit> {
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    Arguments::from_args(&["lumina"], &arguments).map_err(|early| match early.status {
        Ok(()) => {
            say(format_args!("{}", early.output.trim_end()));
            Exit::Fine
        }
        Err(()) => {
            say_error(format_args!("{}", early.output.trim_end()));
            Exit::Usage
        }
    })
}

/// Print a line to stderr. Where that cannot be (a full disk, a reader that is gone) the exit code says
/// enough.
fn say_error(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Print a line. Nobody may be reading any more, which is no reason to fail.
fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Read a configuration file.
fn read_config(file: &str) -> Result<String, Exit> {
    std::fs::read_to_string(file).map_err(|error| {
        say_error(format_args!("{file}: {error}; name another file with --config"));
        Exit::Usage
    })
}

/// Say what is wrong with a configuration.
fn complain(errors: &[ConfigError]) -> Exit {
    for error in errors {
        say_error(format_args!("{error}"));
    }
    Exit::Usage
}
