//! What a run has to work with, and how its servers are started.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use super::Outcome;
use super::compare::Plan;
use super::server::{Cores, Server};
use super::talk::Tongue;

/// One configuration for all figures but those of a fresh server: as many tags and connections as any needs.
const CONFIGURATION: &str = "[server]
max_tags = 1100000
max_connections = 12000

[[listen]]
url = \"line://127.0.0.1:0\"
";

pub struct Setup {
    pub cores: Cores,
    pub lumina: Option<PathBuf>,
    pub bare: Option<PathBuf>,
    pub redis: Option<PathBuf>,
    /// A folder of our own for configurations and logs; removed at the end.
    pub work: PathBuf,
    /// How many this process, and each server, may have.
    pub descriptors: u64,
    pub plan: Plan,
    /// Print each pair of windows to standard error.
    pub trace: bool,
    pub contention: Contention,
}

impl Setup {
    /// Starts the server that speaks `tongue`; a figure is skipped where there is none.
    pub fn serve(&self, tongue: Tongue) -> Outcome<Server> {
        let program = match tongue {
            Tongue::Line => &self.lumina,
            Tongue::Resp => &self.redis,
            Tongue::Echo => &self.bare,
        };
        let program = program.as_ref().expect("a figure looks for its servers before it starts them");
        match tongue {
            Tongue::Line => {
                let file = self.work.join("lumina.toml");
                fs::write(&file, CONFIGURATION)?;
                let file = file.to_str().ok_or("the folder for temporary files is not named in UTF-8")?;
                Server::lumina(&self.cores, program, &["--config", file], &self.work)
            }
            Tongue::Resp => Server::redis(&self.cores, program, &self.work),
            Tongue::Echo => Server::bare(&self.cores, program, &self.work),
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// How long the servers waited for their core, which somebody else had, against how long they had it.
#[derive(Default)]
pub struct Contention {
    waited_ns: Cell<u64>,
    ran_ns: Cell<u64>,
}

impl Contention {
    pub fn add(&self, waited_ns: u64, ran_ns: u64) {
        self.waited_ns.set(self.waited_ns.get() + waited_ns);
        self.ran_ns.set(self.ran_ns.get() + ran_ns);
    }

    /// Of the time in which they wanted to run.
    pub fn percent(&self) -> u64 {
        100 * self.waited_ns.get() / (self.waited_ns.get() + self.ran_ns.get()).max(1)
    }
}
