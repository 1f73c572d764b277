//! The configuration: a file's text (and `--listen` URLs) made into strict settings, all errors at once. Each
//! protocol reads its own keys of a `[[listen]]` section.

mod shards;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::host;
use crate::base::section::{ConfigError, Document, Scalar, Section, Spot};
use crate::drivers::{self, modbus::settings::Fleet};
use crate::engine::{
    Acceptor, LEAST_BUFFER_BYTES, LEAST_TRACE_MEMORY, Protocol, Service, ServiceRow, Transport,
};
use crate::protocols::{PROTOCOLS, by_scheme};
use crate::reactor::KeepAlive;
use crate::security::{Grants, Prefix};
use crate::tags::name::TagName;
use crate::tags::value::{Input, Kind, Limits, Number, Value};
use crate::tags::{Access, Declaration, Declared, DeclaredTag, TagSettings};

pub use shards::Shards;

/// Everything that a server is told.
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[[listen]]`, and the URLs of the command line behind them.
    pub listeners: Vec<ListenConfig>,
    /// What the listeners of a protocol share, one a protocol that has such a thing.
    pub services: Vec<Arc<dyn Service>>,
    /// `[[device]]`
    pub fleet: Fleet,
    /// `[[tag]]`, and tags of devices, and those that services show
    pub tags: Declared,
    /// What is likely to be meant otherwise, for whoever runs it to read.
    pub warnings: Vec<ConfigError>,
}

/// The `[server]` section.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// For people: which server is it?
    pub name: String,
    /// Threads that serve connections.
    pub shards: Shards,
    /// Connections served at once; lowered to what the descriptor limit allows.
    pub max_connections: usize,
    /// Subscriptions of one connection.
    pub max_subscriptions: usize,
    /// `max_tags`, `max_text`, `create_tags`
    pub tags: TagSettings,
    /// Peers that send datagrams and are remembered; the least recently heard is forgotten first.
    pub max_udp_peers: usize,
    /// What all connections' buffers together may hold, in bytes.
    pub buffer_memory: usize,
    /// What the last frames of devices may take, in bytes; 0: none are kept.
    pub trace_memory: usize,
    /// A peer that takes nothing of what it is owed for so long is closed.
    pub write_stall: Duration,
    /// How long a stop may take.
    pub shutdown_grace: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            name: "lumina".to_owned(),
            shards: Shards::default(),
            max_connections: 65_536,
            max_subscriptions: 10_000,
            max_udp_peers: 1_024,
            tags: TagSettings::default(),
            buffer_memory: 16 * 1024 * 1024,
            trace_memory: 8 * 1024 * 1024,
            write_stall: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// A `[[listen]]` section.
pub struct ListenConfig {
    /// Where.
    pub url: ListenUrl,
    /// Meets the peers, as the protocol's own keys say.
    pub acceptor: Arc<dyn Acceptor>,
    /// What peers may do.
    pub grants: Grants,
    /// Connections that this listener serves at once.
    pub max_connections: Option<usize>,
    /// A peer from which nothing comes for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A frame that was begun must end within this time.
    pub frame_timeout: Duration,
    /// A value written here that is not written again in this time turns uncertain.
    pub stale_after: Option<Duration>,
    /// When a peer that is gone without a word is found out.
    pub keep_alive: KeepAlive,
}

/// `protocol://host:port`
#[derive(Clone)]
pub struct ListenUrl {
    /// The row of its scheme.
    pub protocol: &'static Protocol,
    /// The addresses that its host stands for.
    pub addresses: Vec<SocketAddr>,
    text: String,
}

/// The listener of a server that is told of none.
pub const DEFAULT_LISTENER: &str = "line://127.0.0.1:5000";

/// One to this many: what fits a slab index, with room to spare.
const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
const TAGS: RangeInclusive<i64> = 1..=16_000_000;
const TEXT_BYTES: RangeInclusive<i64> = 16..=4_096;
const SUBSCRIPTIONS: RangeInclusive<i64> = 1..=1_000_000;
const UDP_PEERS: RangeInclusive<i64> = 1..=65_536;
const BUFFER_BYTES: RangeInclusive<usize> = LEAST_BUFFER_BYTES..=usize::MAX;
const SERVER_NAME_BYTES: RangeInclusive<usize> = 1..=255;
/// A peer that sends datagrams is remembered for so long.
const UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

impl Config {
    /// Read a configuration file's text, and the listeners of the command line. Without any listener there is
    /// the default one. All that is wrong is said at once.
    pub fn parse(file: &str, text: &str, listen: &[String]) -> Result<Config, Vec<ConfigError>> {
        let document = Document::parse(file, text);
        let root = document.root();
        let server = root.table("server").map_or_else(ServerConfig::default, server_section);
        let (mut tags, places) = tag_sections(&document, root.tables("tag"), &server.tags);
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        let load = |name: &str| std::fs::read_to_string(folder.join(name));
        let (fleet, of_other_files) = drivers::modbus::settings::read(&root, &mut tags, &load);
        let mut services = Services::default();
        services.configure(&root, &mut tags);
        let mut listeners: Vec<ListenConfig> = root
            .tables("listen")
            .into_iter()
            .filter_map(|section| listen_section(section, &mut services, &mut tags))
            .collect();
        root.finish();
        let default = [DEFAULT_LISTENER.to_owned()];
        let listen = if listeners.is_empty() && listen.is_empty() { &default } else { listen };
        let mut of_command_line = Vec::new();
        for url in listen {
            match command_line_listener(url, &mut services, &mut tags) {
                Ok(listener) => listeners.push(listener),
                Err(wrong) => of_command_line.extend(wrong),
            }
        }
        let services = services.into_vec();
        check_cells(&document, &tags, &places, &services);
        if tags.len() > server.tags.max_tags {
            let (all, most) = (tags.len(), server.tags.max_tags);
            let why = format!("with those that are shown there are {all} tags, more than {most} (max_tags)");
            document.error_at(document.root().spot("server"), why);
        }
        let mut errors = document.errors();
        errors.extend(of_other_files.into_iter().chain(of_command_line));
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Config { server, listeners, services, fleet, tags, warnings: document.warnings() })
    }
}

/// The services that are wanted: by a section of their own, or by a listener.
#[derive(Default)]
struct Services {
    made: Vec<(&'static ServiceRow, Arc<dyn Service>)>,
}

impl Services {
    /// Those that have a section.
    fn configure(&mut self, root: &Section<'_>, tags: &mut Declared) {
        for row in PROTOCOLS.iter().filter_map(Protocol::service) {
            if self.find(row).is_none() && root.has(row.section) {
                self.made.push((row, (row.configure)(root.table(row.section), tags)));
            }
        }
    }

    /// That of a protocol; without a section it is as it is by default.
    fn of(&mut self, protocol: &Protocol, tags: &mut Declared) -> Option<Arc<dyn Service>> {
        let row = protocol.service()?;
        Some(self.find(row).unwrap_or_else(|| {
            let service = (row.configure)(None, tags);
            self.made.push((row, Arc::clone(&service)));
            service
        }))
    }

    fn find(&self, row: &ServiceRow) -> Option<Arc<dyn Service>> {
        let found = self.made.iter().find(|(made, _)| made.section == row.section);
        found.map(|(_, service)| Arc::clone(service))
    }

    fn into_vec(self) -> Vec<Arc<dyn Service>> {
        self.made.into_iter().map(|(_, service)| service).collect()
    }
}

/// A URL of the command line is a section with that URL alone.
fn command_line_listener(
    url: &str,
    services: &mut Services,
    tags: &mut Declared,
) -> Result<ListenConfig, Vec<ConfigError>> {
    let document = Document::parse("--listen", &format!("url = {url:?}"));
    let listener = listen_section(document.root(), services, tags);
    listener.ok_or_else(|| document.errors())
}

fn server_section(section: Section<'_>) -> ServerConfig {
    let default = ServerConfig::default();
    let integer = |value: Option<i64>, default: usize| value.map_or(default, |value| value as usize);
    let config = ServerConfig {
        name: section.parse("name", server_name).unwrap_or(default.name),
        shards: shards(&section).unwrap_or(default.shards),
        max_connections: integer(section.integer("max_connections", CONNECTIONS), default.max_connections),
        max_subscriptions: integer(
            section.integer("max_subscriptions", SUBSCRIPTIONS),
            default.max_subscriptions,
        ),
        max_udp_peers: integer(section.integer("max_udp_peers", UDP_PEERS), default.max_udp_peers),
        tags: TagSettings {
            max_tags: integer(section.integer("max_tags", TAGS), default.tags.max_tags),
            max_text: integer(section.integer("max_text", TEXT_BYTES), default.tags.max_text),
            create_tags: section.bool("create_tags").unwrap_or(default.tags.create_tags),
        },
        buffer_memory: section.size("buffer_memory", BUFFER_BYTES).unwrap_or(default.buffer_memory),
        trace_memory: trace_memory(&section).unwrap_or(default.trace_memory),
        write_stall: section.duration("write_stall").unwrap_or(default.write_stall),
        shutdown_grace: section
            .duration_in("shutdown_grace", Duration::ZERO..=LONGEST)
            .unwrap_or(default.shutdown_grace),
    };
    section.finish();
    config
}

fn shards(section: &Section<'_>) -> Option<Shards> {
    let shards = match section.scalar("shards")? {
        Scalar::Integer(count) => Shards::of(count),
        Scalar::Text(text) => text.parse().ok(),
        Scalar::Bool(_) | Scalar::Float(_) => None,
    };
    if shards.is_none() {
        section.error_expecting("shards", shards::EXPECTED);
    }
    shards
}

/// Nothing at all, or enough to be of use.
fn trace_memory(section: &Section<'_>) -> Option<usize> {
    let memory = section.size("trace_memory", 0..=usize::MAX)?;
    if memory > 0 && memory < LEAST_TRACE_MEMORY {
        section.error("trace_memory", "'trace_memory' is too small; expected at least 64KiB, or 0B for none");
    }
    Some(memory)
}

/// It is shown in lines of text, as it stands.
fn server_name(text: &str) -> Result<String, String> {
    if SERVER_NAME_BYTES.contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 255 bytes without control characters".to_owned())
    }
}

/// `None` if there is no usable URL: without it nothing is known of the other keys.
fn listen_section(
    mut section: Section<'_>,
    services: &mut Services,
    tags: &mut Declared,
) -> Option<ListenConfig> {
    section.require("url", "such as \"line://127.0.0.1:5000\"");
    let url = section.parse("url", ListenUrl::parse);
    let default = KeepAlive::default();
    let idle_timeout = section.duration("idle_timeout");
    let frame_timeout = section.duration("frame_timeout");
    let stale_after = section.duration("stale_after");
    let grants = Grants { read: prefixes(&section, "read"), write: prefixes(&section, "write") };
    let second = Duration::from_secs(1);
    let keep_alive = KeepAlive {
        time: section.duration_in("keepalive", second..=8 * 3_600 * second).unwrap_or(default.time),
        interval: section
            .duration_in("keepalive_interval", second..=3_600 * second)
            .unwrap_or(default.interval),
        retries: section.integer("keepalive_retries", 1..=100).map_or(default.retries, |n| n as u32),
    };
    let url = url?;
    let idle_timeout = match url.protocol.transport {
        Transport::Stream => idle_timeout,
        Transport::Datagram => idle_timeout.or(Some(UDP_IDLE_TIMEOUT)),
    };
    let max_connections = match url.protocol.transport {
        Transport::Stream => section.integer("max_connections", CONNECTIONS).map(|most| most as usize),
        Transport::Datagram => None,
    };
    let service = services.of(url.protocol, tags);
    let acceptor = url.protocol.listener(service.as_ref(), &mut section).into();
    section.finish();
    Some(ListenConfig {
        acceptor,
        grants,
        max_connections,
        idle_timeout,
        frame_timeout: frame_timeout.unwrap_or(url.protocol.frame_timeout),
        stale_after,
        keep_alive,
        url,
    })
}

fn prefixes(section: &Section<'_>, key: &'static str) -> Option<Vec<Prefix>> {
    let texts = section.list_of_text(key)?;
    let parse =
        |text: &&str| Prefix::parse(text).map_err(|why| section.error(key, format!("'{key}': {why}")));
    // Of a list with a mistake nothing is used: the mistake is said, and nothing runs.
    texts.iter().map(parse).collect::<Result<_, ()>>().ok()
}

impl ListenUrl {
    /// Parse `protocol://host:port`; the port may be left out where the protocol has a usual one. Says what
    /// is wrong, and what is expected.
    pub fn parse(text: &str) -> Result<ListenUrl, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("'{text}' is not a listener, expected one such as {DEFAULT_LISTENER}"));
        };
        let Some(protocol) = by_scheme(scheme) else {
            let known: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.scheme).collect();
            return Err(format!("unknown protocol '{scheme}', expected one of {}", known.join(", ")));
        };
        // Shown with its port, as nobody knows that of each protocol by heart.
        let (host, port) = host::split(rest, protocol.default_port)?;
        let addresses = host::addresses(rest, protocol.default_port)?;
        Ok(ListenUrl { protocol, addresses, text: format!("{scheme}://{host}:{port}") })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where tags are declared.
type Places = HashMap<Box<str>, Spot>;

/// Declared tags that are cells of a memory are there, and hold what is declared of them.
fn check_cells(document: &Document, tags: &Declared, places: &Places, services: &[Arc<dyn Service>]) {
    for memory in services.iter().filter_map(|service| Arc::clone(service).memory()) {
        let below = |name| str::strip_prefix(name, memory.prefix())?.strip_prefix('/');
        for tag in tags.iter() {
            let (Some(rest), Some(place)) = (below(&tag.name), places.get(&tag.name)) else { continue };
            let name = &tag.name;
            let Some((at, kind)) = memory.find(rest) else {
                document.error_at(*place, format!("there is no '{name}' in what the server shows there"));
                continue;
            };
            if !matches!(tag.declaration.kind, Kind::Any) && tag.declaration.kind != kind {
                let (own, declared) = (kind.as_str(), tag.declaration.kind.as_str());
                document.error_at(*place, format!("'{name}' is of type {own}, and not {declared}"));
            }
            let first = tag.initial.as_ref().map(|value| kind.convert(value.as_input()));
            if first.is_some_and(|first| !first.is_ok_and(|first| memory.holds(at, &first))) {
                document.error_at(*place, format!("'{name}' cannot hold its 'initial'"));
            }
        }
    }
}

fn tag_sections(
    document: &Document,
    sections: Vec<Section<'_>>,
    settings: &TagSettings,
) -> (Declared, Places) {
    let mut places = Places::new();
    let mut tags = Declared::default();
    for mut section in sections {
        section.require("name", "such as \"line1/press3/temperature\"");
        if tags.len() == settings.max_tags {
            section.error("name", format!("there are more than {} tags (max_tags)", settings.max_tags));
            break;
        }
        let name = section.parse("name", |text| {
            let name = TagName::parse(text).map_err(|error| error.to_string())?;
            if name.is_system() {
                return Err("names that begin with $ are the server's own".to_owned());
            }
            Ok(Box::<str>::from(name.as_str()))
        });
        let spot = section.spot("name");
        if let Some(name) = &name {
            if let Some(before) = places.insert(name.clone(), spot) {
                let line = document.line(before);
                section.error("name", format!("the tag '{name}' is declared already, in line {line}"));
            }
        }
        let (declaration, initial) = tag_section(&mut section, settings);
        section.finish();
        if let Some(name) = name {
            tags.add(DeclaredTag { name, declaration, initial });
        }
    }
    (tags, places)
}

fn tag_section(section: &mut Section<'_>, settings: &TagSettings) -> (Declaration, Option<Value>) {
    let kinds = crate::tags::value::KINDS.map(|(kind, name)| (name, kind));
    let kind = section.one_of("type", &kinds).unwrap_or(Kind::Any);
    let accesses = [Access::ReadWrite, Access::ReadOnly].map(|access| (access.as_str(), access));
    let access = section.one_of("access", &accesses).unwrap_or(Access::ReadWrite);
    let (min, max) = (number(section, "min"), number(section, "max"));
    let limits = Limits::new(min, max).unwrap_or_else(|| {
        section.error("max", "'max' is below 'min'");
        Limits::default()
    });
    let initial = initial(section, kind, &limits, settings);
    let declaration = Declaration {
        kind,
        access,
        limits,
        stale_after: section.duration("stale_after"),
        owner: None,
        cell: None,
        description: section.text("description").unwrap_or_default().into(),
        units: section.text("units").unwrap_or_default().into(),
    };
    (declaration, initial)
}

fn number(section: &mut Section<'_>, key: &'static str) -> Option<Number> {
    match section.scalar(key)? {
        Scalar::Integer(value) => Some(Number::Int(value)),
        Scalar::Float(value) if !value.is_nan() => Some(Number::Float(value)),
        _ => {
            section.error(key, format!("'{key}' is not a number"));
            None
        }
    }
}

fn initial(section: &mut Section<'_>, kind: Kind, limits: &Limits, settings: &TagSettings) -> Option<Value> {
    let given = match section.scalar("initial")? {
        Scalar::Bool(value) => Input::Bool(value),
        Scalar::Integer(value) => Input::Int(value),
        Scalar::Float(value) => Input::Float(value),
        Scalar::Text(value) => Input::Text(value.into()),
    };
    let wrong = match kind.convert(given) {
        Err(_) => format!("'initial' does not fit the tag's type, {}", kind.as_str()),
        Ok(value) if !limits.contains(&value) => "'initial' is outside 'min' and 'max'".to_owned(),
        Ok(value) if value.text_len() > settings.max_text => {
            format!("'initial' is longer than {} bytes (max_text)", settings.max_text)
        }
        Ok(value) => return Some(value.into_value()),
    };
    section.error("initial", wrong);
    None
}
