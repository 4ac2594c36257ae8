//! The server's URL: checked once, the base of every request.

use url::{Host, Url};

/// The base of every request, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// The URL without a trailing slash.
    base: String,
}

impl Server {
    /// Parses the URL of a configuration; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "it is not a URL such as https://sync.example.com")?;
        if url.host().is_none() {
            return Err("it has no host");
        }
        check_transport_security(&url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it must not contain a user name or a password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it must not contain a query or a fragment");
        }
        Ok(Self {
            base: url.as_str().trim_end_matches('/').to_owned(),
        })
    }

    /// The URL of an API path, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// Refuses URLs over which a token, or a presigned URL, would be sent unencrypted over a network.
pub(crate) fn check_transport_security(url: &Url) -> Result<(), &'static str> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(url) => Ok(()),
        "http" => Err("plain http is allowed to loopback only: use https"),
        _ => Err("the scheme is not https"),
    }
}

/// Whether the host of a URL is this machine (RFC 6761, 6.3 for the names).
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
