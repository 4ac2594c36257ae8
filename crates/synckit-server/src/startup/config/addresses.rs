//! Blocks of IP addresses: whose `X-Forwarded-For` counts.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de};

/// A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
///
/// # Examples
/// ```
/// use synckit_server::{Config, config::AddressBlock};
///
/// let mut config = Config::new("data");
/// config.trusted_proxies = vec!["10.0.0.0/8".parse()?, "::1".parse()?];
/// # Ok::<(), synckit_server::config::AddressBlockParseError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressBlock {
    network: IpAddr,
    prefix_bits: u8,
}

/// A text that is not a block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address or a block such as \"10.0.0.0/8\"")]
pub struct AddressBlockParseError;

impl AddressBlock {
    /// Whether every address of its family lies in the block.
    pub fn is_everything(&self) -> bool {
        self.prefix_bits == 0
    }

    /// Whether an address lies in the block. An IPv4 address that came mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && network_of(address, self.prefix_bits) == self.network
    }
}

/// An address with everything after its first `prefix_bits` bits set to zero.
pub(crate) fn network_of(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(prefix_bits.into()))
                .unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(prefix_bits.into()))
                .unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

impl FromStr for AddressBlock {
    type Err = AddressBlockParseError;

    fn from_str(text: &str) -> Result<Self, AddressBlockParseError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| AddressBlockParseError)?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => bits_max,
            Some(prefix) => prefix.parse().map_err(|_| AddressBlockParseError)?,
        };
        if prefix_bits > bits_max {
            return Err(AddressBlockParseError);
        }
        Ok(Self {
            network: network_of(address, prefix_bits),
            prefix_bits,
        })
    }
}

impl fmt::Display for AddressBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

impl<'de> Deserialize<'de> for AddressBlock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
