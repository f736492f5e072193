//! Hosts that are this machine.

use std::net::IpAddr;

/// `localhost` and loopback addresses (RFC 6761, 6.3; RFC 1122, 3.2.1.3; RFC 4291, 2.5.3). Not names below `localhost`: not every system
/// keeps them from its name server.
pub fn is_this_machine(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
