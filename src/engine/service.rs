//! What all listeners of a protocol share, where they share something: the units of a Modbus server, say.

use std::sync::Arc;

use super::session::{Acceptor, Listening, Protocol, Session};
use crate::base::section::Section;
use crate::base::time::Timestamp;
use crate::tags::{Declared, Memory, Refusal, Tags};

/// Names a service, and makes it.
pub struct ServiceRow {
    /// Its table in the configuration.
    pub section: &'static str,
    /// Reads that table; `None` if there is none. May look at the tags that are declared, and declare more.
    pub configure: fn(Option<Section<'_>>, &mut Declared) -> Arc<dyn Service>,
    /// Whole configurations, for the conformance tests and the fuzzer, which try its protocols with each of
    /// them as well as with none.
    pub samples: &'static [&'static str],
}

/// The same for all listeners and sessions of its protocols, on all shards.
pub trait Service: Send + Sync {
    /// Reads the keys of a `[[listen]]` section that are its own, and says how to meet a new peer of
    /// `protocol`.
    fn listener(self: Arc<Self>, protocol: &Protocol, section: &mut Section<'_>) -> Box<dyn Acceptor>;

    /// What it is, a line each, for who checks a configuration.
    fn describe(&self) -> Vec<String>;

    /// Its cells that are tags when somebody names them.
    fn memory(self: Arc<Self>) -> Option<Arc<dyn Memory>> {
        None
    }

    /// The declared tags are there. `Err` names the one that is missing after all.
    fn bind(&self, _tags: &Tags, _time: Timestamp) -> Result<(), (String, Refusal)> {
        Ok(())
    }

    /// A session without a peer, for what it has to do by itself at times.
    fn resident(self: Arc<Self>) -> Option<Box<dyn Session>> {
        None
    }
}

impl Protocol {
    /// What its listeners share, if anything.
    pub fn service(&self) -> Option<&'static ServiceRow> {
        match self.listening {
            Listening::Alone(_) => None,
            Listening::Together(row) => Some(row),
        }
    }

    /// Configurations to try it with; the first is none.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn samples(&self) -> impl Iterator<Item = &'static str> + Clone {
        let of_service = self.service().map_or(&[][..], |service| service.samples);
        std::iter::once("").chain(of_service.iter().copied())
    }

    /// A listener, made from the keys of a `[[listen]]` section that are its own.
    ///
    /// # Panics
    /// If its listeners share a service and none is given.
    pub fn listener(
        &self,
        service: Option<&Arc<dyn Service>>,
        section: &mut Section<'_>,
    ) -> Box<dyn Acceptor> {
        match self.listening {
            Listening::Alone(listener) => listener(section),
            Listening::Together(_) => {
                let service = service.expect("a protocol with a service is given it");
                Arc::clone(service).listener(self, section)
            }
        }
    }
}
