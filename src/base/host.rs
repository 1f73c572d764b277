//! `host:port` of a URL, looked up.

use std::net::{SocketAddr, ToSocketAddrs};

/// The addresses that `host:port` stands for, at least one; the port may be left out. Says what is wrong, and
/// what is expected.
pub fn addresses(text: &str, default_port: u16) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = split(text, default_port)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match (host, port).to_socket_addrs().map(Vec::from_iter) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("'{host}' has no address")),
        Err(error) => {
            Err(format!("'{host}' is no address ({error}), expected one such as 127.0.0.1 or [::1]"))
        }
    }
}

/// The host as it is written, and the port.
pub fn split(text: &str, default_port: u16) -> Result<(&str, u16), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().map_err(|_| {
                format!("'{port}' is not a port, expected a number from 0 (any free one) to 65535")
            })?;
            Ok((host, port))
        }
        _ => Ok((text, default_port)),
    }
}
