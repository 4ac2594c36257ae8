//! Where a request comes from.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};

use super::ApiError;
use crate::{limits::AddressPrefix, startup::config::AddressBlock, state::ServerState};

/// The other end of the connection; an extension of every request that came over one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// The address that guesses are counted by: the peer's, or the one that trusted proxies vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl ClientAddress {
    pub(crate) fn prefix(self) -> AddressPrefix {
        AddressPrefix::of(self.0)
    }

    pub(crate) fn of(parts: &Parts, trusted: &[AddressBlock]) -> Self {
        // A router that is driven without a connection has no peer; such callers are one guesser.
        let peer = parts
            .extensions
            .get::<PeerAddress>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        warn_of_unknown_proxy(peer, &parts.headers, trusted);
        Self(forwarded_for(peer, &parts.headers, trusted))
    }
}

/// Behind an unknown proxy all clients share one allowance of guesses, which is soon used up. Logged once.
fn warn_of_unknown_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressBlock]) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let near = match peer.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    };
    let unknown_proxy = near && trusted.is_empty() && headers.contains_key("x-forwarded-for");
    if unknown_proxy && !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            "requests come through a proxy, but trusted_proxies is empty: all users share one allowance of sign-ins"
        );
    }
}

/// Walks `X-Forwarded-For` from its end, the entry of the nearest proxy, while the writer of the entry is trusted. Anybody
/// may have forged the entries further to the front.
fn forwarded_for(peer: IpAddr, headers: &HeaderMap, trusted: &[AddressBlock]) -> IpAddr {
    let mut client = peer;
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    while trusted.iter().any(|block| block.contains(client)) {
        let Some(Ok(hop)) = hops.next().map(|hop| hop.trim().parse()) else {
            break;
        };
        client = hop;
    }
    client
}

impl FromRequestParts<Arc<ServerState>> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<ServerState>) -> Result<Self, ApiError> {
        Ok(Self::of(parts, &state.config.trusted_proxies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, header: &str, trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", header.parse().unwrap());
        let trusted: Vec<AddressBlock> = trusted.iter().map(|block| block.parse().unwrap()).collect();
        forwarded_for(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_header_from_a_stranger_does_not_count() {
        assert_eq!(client("203.0.113.9", "198.51.100.1", &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", "198.51.100.1", &[]), "10.0.0.1");
    }

    #[test]
    fn trusted_proxy_vouches_for_one_address_only() {
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 198.51.100.1", &["10.0.0.0/8"]),
            "198.51.100.1"
        );
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.2.3.4", &["10.0.0.0/8"]),
            "198.51.100.1"
        );
        assert_eq!(client("10.0.0.1", "nonsense", &["10.0.0.0/8"]), "10.0.0.1");
    }
}
