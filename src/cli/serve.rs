//! `lumina serve`: run the server.

use std::io::Write;

use argh::FromArgs;

use super::{Exit, complain, read_config, say_error};
use crate::config::{Config, Shards};
use crate::server::{Bound, Server};

/// Run the server, until Ctrl-C or SIGTERM.
#[derive(FromArgs)]
#[argh(subcommand, name = "serve")]
pub(super) struct Serve {
    /// the configuration file; without it only the options here count
    #[argh(option, arg_name = "file")]
    config: Option<String>,
    /// a listener besides those of the configuration, such as line://127.0.0.1:5000 (the default where there
    /// is none) or echo://127.0.0.1:0; may be given several times
    #[argh(option, arg_name = "url")]
    listen: Vec<String>,
    /// threads that serve connections: a number, or auto for one a core (default: what the configuration
    /// says, or 1)
    #[argh(option, arg_name = "count")]
    shards: Option<Shards>,
    /// how much is logged to stderr: off, error, warn, info (the default), debug or trace
    #[argh(option, arg_name = "level", default = "log::LevelFilter::Info")]
    log: log::LevelFilter,
}

impl Serve {
    pub(super) fn run(self) -> Exit {
        let (file, text) = match &self.config {
            None => ("", String::new()),
            Some(file) => match read_config(file) {
                Ok(text) => (file.as_str(), text),
                Err(exit) => return exit,
            },
        };
        let mut config = match Config::parse(file, &text, &self.listen) {
            Ok(config) => config,
            Err(errors) => return complain(&errors),
        };
        if let Some(shards) = self.shards {
            config.server.shards = shards;
        }
        crate::base::log::init(self.log);
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        let exit = match Server::bind(config) {
            Ok(server) => {
                announce(server.bound());
                match server.run() {
                    Ok(()) => Exit::Fine,
                    Err(error) => {
                        log::error!("the event loop failed: {error}");
                        Exit::Failed
                    }
                }
            }
            Err(error) => {
                log::error!("{error}");
                if !log::log_enabled!(log::Level::Error) {
                    say_error(format_args!("lumina: {error}"));
                }
                Exit::Failed
            }
        };
        log::logger().flush();
        exit
    }
}

/// Say where the server listens, and what to try. Nobody may be reading, which is no reason to stop.
fn announce(bound: &[Bound]) {
    let mut out = std::io::stdout().lock();
    for bound in bound {
        let _ = writeln!(out, "listening on {bound}");
    }
    if let Some(first) = bound.first() {
        let (ip, port) = (first.address.ip().to_string(), first.address.port().to_string());
        let hint = first.protocol.hint.replace("{ip}", &ip).replace("{port}", &port);
        let _ = writeln!(out, "try: {hint}");
    }
    let _ = out.flush();
}
