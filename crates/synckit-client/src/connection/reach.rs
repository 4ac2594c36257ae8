//! The addresses that a URL issued by a server may lead to.
//!
//! A hostile server chooses the hosts of presigned URLs. Without a limit it could send this client to services of this
//! machine and of the local network, which trust every client that reaches them.
//!
//! Invariant: such a URL leads to an address of this machine or of a local network only if the server has one itself.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::runtime;

/// How near to this machine an address is. A greater reach includes the smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// The public Internet.
    Public,
    /// A network that is not the public Internet: a home, a company, a provider's own.
    Private,
    /// This machine.
    Loopback,
}

impl Reach {
    /// The reach that an address needs. `None` for addresses that no server has: multicast, reserved ones, and the unspecified
    /// address (which leads to this machine on some systems).
    pub(crate) fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    /// Whether a client with this reach may connect to an address.
    pub(crate) fn covers(self, address: IpAddr) -> bool {
        Self::of(address).is_some_and(|needed| needed <= self)
    }

    /// By the registry of special addresses (RFC 6890).
    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        match address.octets() {
            [0 | 224..=255, ..] => None,
            [127, ..] => Some(Self::Loopback),
            // RFC 1918; link-local, RFC 3927; carriers, RFC 6598; protocols of the IETF; benchmarks, RFC 2544, where some
            // tunnels put every host.
            [10, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [169, 254, ..]
            | [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [198, 18..=19, ..] => Some(Self::Private),
            _ => Some(Self::Public),
        }
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        if address.is_loopback() {
            return Some(Self::Loopback);
        }
        if address.is_unspecified() || address.is_multicast() {
            return None;
        }
        match address.segments() {
            // IPv4 in another form: mapped, and compatible as it once was (RFC 4291); translated (RFC 6052).
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low]
            | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            // In a tunnel (RFC 3056).
            | [0x2002, high, low, ..] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                Self::of_v4(Ipv4Addr::new(a, b, c, d))
            }
            // Translated within a network (RFC 8215); another tunnel (RFC 4380); unique local (RFC 4193); link-local, and
            // site-local as it once was (RFC 4291).
            [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] | [0xfc00..=0xfdff | 0xfe80..=0xfeff, ..] => Some(Self::Private),
            _ => Some(Self::Public),
        }
    }
}

/// The address of a URL whose host is an IP address or a name of this machine (RFC 6761, 6.3). `None` for other names.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            (name == "localhost" || name.ends_with(".localhost")).then_some(Ipv4Addr::LOCALHOST.into())
        }
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
    }
}

/// A URL leads to an address that is nearer than its server.
#[derive(Debug, thiserror::Error)]
#[error("it leads to this machine or into a local network, where the server itself is not")]
pub(crate) struct OutOfReach;

/// Looks up the addresses of a name.
pub(crate) type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The operating system's.
pub(crate) fn system_lookup() -> Lookup {
    Arc::new(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

/// Resolves names for connections. The HTTP client connects to the returned addresses and does not look the name up again,
/// which could give another address.
pub(crate) struct Resolver {
    pub(crate) lookup: Lookup,
    /// `None` if the app chose the name, not a server.
    pub(crate) reach: Option<Reach>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, reach) = (Arc::clone(&self.lookup), self.reach);
        Box::pin(async move {
            let mut found = runtime::blocking(move || lookup(name.as_str())).await??;
            if let Some(reach) = reach {
                let any = !found.is_empty();
                found.retain(|address| reach.covers(*address));
                if any && found.is_empty() {
                    return Err(OutOfReach.into());
                }
            }
            // The port is that of the URL.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str) -> Option<Reach> {
        Reach::of(address.parse().unwrap())
    }

    #[test]
    fn special_addresses_are_told_from_public_ones() {
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1",
            "2001:db8::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ];
        for address in public {
            assert_eq!(reach(address), Some(Reach::Public), "{address}");
        }
        let private = [
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "2001::1",
            "64:ff9b:1::a00:1",
            "::ffff:192.168.1.1",
            "::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:a00:1::1",
        ];
        for address in private {
            assert_eq!(reach(address), Some(Reach::Private), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "::ffff:0:127.0.0.1",
        ] {
            assert_eq!(reach(address), Some(Reach::Loopback), "{address}");
        }
        let nobodys = [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
        ];
        for address in nobodys {
            assert_eq!(reach(address), None, "{address}");
            assert!(!Reach::Loopback.covers(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_greater_reach_includes_the_smaller() {
        let reaches = [Reach::Public, Reach::Private, Reach::Loopback];
        let addresses = ["1.1.1.1", "10.0.0.1", "127.0.0.1"].map(|text| text.parse().unwrap());
        for (n, reach) in reaches.into_iter().enumerate() {
            for (m, address) in addresses.into_iter().enumerate() {
                assert_eq!(reach.covers(address), m <= n, "{reach:?} {address}");
            }
        }
    }

    #[test]
    fn urls_name_addresses_in_many_forms() {
        let named = |url: &str| literal(&Url::parse(url).unwrap()).map(|address| address.to_string());
        for url in [
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://localhost./",
            "https://a.LOCALHOST/",
            "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
        ] {
            assert_eq!(named(url).as_deref(), Some("127.0.0.1"), "{url}");
        }
        assert_eq!(named("https://[::ffff:7f00:1]/").as_deref(), Some("::ffff:127.0.0.1"));
        for url in [
            "https://example.com/",
            "https://localhost.example.com/",
            "https://127.0.0.1.example.com/",
        ] {
            assert_eq!(named(url), None, "{url}");
        }
    }
}
