//! Black box: the real executable, on ports that the kernel chose, held against the specification.
//!
//! Each test starts a server of its own, which costs a few milliseconds and keeps tests apart. No test
//! asserts how long something takes; waiting always ends at [`server::DEADLINE`], so what is broken fails and
//! never hangs.

mod client;
mod modbus;
mod script;
mod server;
mod slave;
mod terminal;

mod bench_command;
mod client_command;
mod client_prompt;
mod config;
mod device_tables;
mod echo;
mod exhaustion;
mod hostile;
mod line_lines;
mod line_names;
mod line_requests;
mod line_sources;
mod line_subscriptions;
mod line_values;
mod many;
mod modbus_config;
mod modbus_conversions;
mod modbus_framings;
mod modbus_gateway;
mod modbus_listeners;
mod modbus_maps;
mod modbus_protocol;
mod modbus_proxy;
mod modbus_quality;
mod modbus_units;
mod notify;
mod poll;
mod shards;
mod shutdown;
mod simulate_command;
mod simulate_modbus;
mod tidy;
mod trace;
mod udp;
