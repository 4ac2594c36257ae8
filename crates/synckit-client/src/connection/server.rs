//! The server's URL: checked once, the base of every request.

use std::net::IpAddr;

use url::Url;

use super::reach::{Reach, literal};

/// The base of every request, checked once.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// The URL without a trailing slash.
    base: String,
    parsed: Url,
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
            parsed: url,
        })
    }

    /// The URL of an API path, which begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The URL itself.
    pub(crate) fn parsed(&self) -> &Url {
        &self.parsed
    }

    /// Refuses a URL that no honest server issues, by its text. The addresses of its host name are checked when it is
    /// used.
    pub(crate) fn check_given_out(&self, url: &Url) -> Result<(), &'static str> {
        check_transport_security(url)?;
        // They would become an `Authorization` header of the server's choice.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it carries a user name or a password");
        }
        let Some(address) = literal(url) else { return Ok(()) };
        // The address of the server is unknown here if its host is a name: it may be in a local network.
        let reach = literal(&self.parsed).map_or(Some(Reach::Private), Reach::of);
        if reach.is_some_and(|reach| reach.covers(address)) {
            Ok(())
        } else {
            Err("it leads to this machine or into a local network, where the server itself is not")
        }
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
    literal(url).as_ref().is_some_and(IpAddr::is_loopback)
}
