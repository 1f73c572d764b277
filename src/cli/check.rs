//! `lumina check`: validate a configuration and print what would run.

use argh::FromArgs;

use super::{Exit, complain, read_config, say};
use crate::config::Config;

/// Validate a configuration and print what would run.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub(super) struct Check {
    /// the configuration file (default: lumina.toml in the current folder)
    #[argh(option, arg_name = "file", default = "String::from(\"lumina.toml\")")]
    config: String,
}

impl Check {
    pub(super) fn run(self) -> Exit {
        let text = match read_config(&self.config) {
            Ok(text) => text,
            Err(exit) => return exit,
        };
        match Config::parse(&self.config, &text, &[]) {
            Ok(config) => {
                print(&self.config, &config);
                Exit::Fine
            }
            Err(errors) => complain(&errors),
        }
    }
}

fn print(file: &str, config: &Config) {
    let server = &config.server;
    say(format_args!("{file} is fine. It would run:"));
    say(format_args!(
        "server '{}': at most {} connections (fewer where the descriptor limit is lower), {} tags, \
         {} MiB of buffers",
        server.name,
        server.max_connections,
        server.tags.max_tags,
        server.buffer_memory / (1024 * 1024),
    ));
    for listener in &config.listeners {
        say(format_args!("listen {}: {}", listener.url, listener.url.protocol.summary));
    }
    for line in config.services.iter().flat_map(|service| service.describe()) {
        say(format_args!("{line}"));
    }
    say(format_args!(
        "{} declared tags; others {}",
        config.tags.len(),
        if server.tags.create_tags { "are created by their first write" } else { "cannot be created" }
    ));
}
