//! The address of a bucket: `s3://name?endpoint=…&region=…&prefix=…&style=…`.

use std::{borrow::Cow, fmt, str::FromStr};

use rusty_s3::UrlStyle;
use url::{Host, Url};

/// Longest prefix of keys, in bytes. S3 allows 1024 for a whole key.
const PREFIX_BYTES_MAX: usize = 512;
/// The region of stores that have none.
const REGION: &str = "us-east-1";

/// The address of a bucket. It holds no secret.
///
/// # Examples
/// ```
/// use synckit_store::objects::BucketAddress;
///
/// let amazon: BucketAddress = "s3://our-files?region=eu-central-1".parse()?;
/// assert_eq!(amazon.endpoint().as_str(), "https://s3.eu-central-1.amazonaws.com/");
/// let other: BucketAddress = "s3://our-files?endpoint=https://s3.example.com&prefix=synckit".parse()?;
/// assert_eq!(other.prefix(), "synckit/");
/// assert!("s3://our-files?endpoint=http://s3.example.com".parse::<BucketAddress>().is_err()); // no TLS
/// # Ok::<(), synckit_store::objects::BucketAddressError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    name: String,
    endpoint: Url,
    region: String,
    /// Empty, or ends with a slash.
    prefix: String,
    style: Style,
}

/// How a URL names the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// In its path.
    Path,
    /// In its host.
    Virtual,
}

/// Why a text is not the address of a bucket. It does not repeat the text, which may hold a secret by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected s3://bucket?endpoint=https://host&region=name&prefix=path&style=path: {0}")]
pub struct BucketAddressError(&'static str);

impl BucketAddress {
    /// The URL of the store.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// What the keys of all objects begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn bucket(&self) -> Result<rusty_s3::Bucket, BucketAddressError> {
        let style = match self.style {
            Style::Path => UrlStyle::Path,
            Style::Virtual => UrlStyle::VirtualHost,
        };
        rusty_s3::Bucket::new(self.endpoint.clone(), style, self.name.clone(), self.region.clone())
            .map_err(|_| BucketAddressError("the endpoint has no host that can name the bucket"))
    }
}

impl FromStr for BucketAddress {
    type Err = BucketAddressError;

    fn from_str(text: &str) -> Result<Self, BucketAddressError> {
        let url = Url::parse(text).map_err(|_| BucketAddressError("it is not a URL"))?;
        if url.scheme() != "s3" {
            return Err(BucketAddressError("it does not begin with s3://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BucketAddressError("the keys have settings of their own"));
        }
        if !matches!(url.path(), "" | "/") || url.port().is_some() || url.fragment().is_some() {
            return Err(BucketAddressError("nothing but `?` follows the name of the bucket"));
        }
        let name = url.host_str().unwrap_or_default().to_owned();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if !(3..=63).contains(&name.len()) || !name.bytes().all(is_plain) || name.contains("..") {
            return Err(BucketAddressError(
                "a bucket has 3 to 63 small letters, digits, hyphens and dots",
            ));
        }
        let (mut endpoint, mut region, mut prefix, mut style) = (None, None, None, None);
        for (key, value) in url.query_pairs() {
            let place = match key.as_ref() {
                "endpoint" => &mut endpoint,
                "region" => &mut region,
                "prefix" => &mut prefix,
                "style" => &mut style,
                _ => return Err(BucketAddressError("it has a part with another name")),
            };
            if place.replace(value).is_some() {
                return Err(BucketAddressError("it has a part twice"));
            }
        }
        let style = match style.as_deref() {
            Some("path") => Style::Path,
            Some("virtual") => Style::Virtual,
            // Amazon wants the name in the host, and most others cannot have it there.
            None if endpoint.is_none() && !name.contains('.') => Style::Virtual,
            None => Style::Path,
            Some(_) => return Err(BucketAddressError("style is path or virtual")),
        };
        let region = match (region, &endpoint) {
            (Some(region), _) => region_of(&region)?,
            (None, Some(_)) => REGION.to_owned(),
            (None, None) => return Err(BucketAddressError("it needs a region, or an endpoint")),
        };
        let endpoint = match endpoint {
            Some(endpoint) => endpoint_of(&endpoint)?,
            None => endpoint_of(&format!("https://s3.{region}.amazonaws.com/"))?,
        };
        let address = Self {
            name,
            endpoint,
            region,
            prefix: prefix_of(prefix.unwrap_or_default())?,
            style,
        };
        address.bucket()?;
        Ok(address)
    }
}

fn region_of(text: &str) -> Result<String, BucketAddressError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if text.is_empty() || text.len() > 63 || !text.bytes().all(is_plain) {
        return Err(BucketAddressError("a region has letters, digits and hyphens"));
    }
    Ok(text.to_owned())
}

/// Clients refuse plain HTTP except to their own machine, and so does this.
fn endpoint_of(text: &str) -> Result<Url, BucketAddressError> {
    let url = Url::parse(text).map_err(|_| BucketAddressError("the endpoint is not a URL"))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        _ => {
            return Err(BucketAddressError(
                "the endpoint is https://, or http:// to this machine",
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(BucketAddressError(
            "the endpoint has a host, and perhaps a port and a path",
        ));
    }
    Ok(url)
}

/// Only characters that every store, every tool and every URL leaves as they are.
fn prefix_of(prefix: Cow<'_, str>) -> Result<String, BucketAddressError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut prefix = prefix.into_owned();
    if prefix.is_empty() {
        return Ok(prefix);
    }
    if !prefix.ends_with('/') {
        prefix.push('/');
    }
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    let is_path = prefix.trim_end_matches('/').split('/').all(is_segment) && !prefix.ends_with("//");
    if prefix.len() > PREFIX_BYTES_MAX || !is_path {
        return Err(BucketAddressError(
            "a prefix has at most 512 letters, digits, hyphens, dots and underscores, with single slashes between",
        ));
    }
    Ok(prefix)
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, endpoint, prefix, ..
        } = self;
        write!(f, "bucket {name} at {endpoint}")?;
        if prefix.is_empty() {
            return Ok(());
        }
        write!(f, ", below {prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_names_endpoint_region_and_prefix() {
        for (text, url) in [
            (
                "s3://files?region=eu-west-1",
                "https://files.s3.eu-west-1.amazonaws.com/",
            ),
            (
                "s3://a.b.c?region=eu-west-1",
                "https://s3.eu-west-1.amazonaws.com/a.b.c/",
            ),
            (
                "s3://files?endpoint=https://s3.test:9000",
                "https://s3.test:9000/files/",
            ),
            (
                "s3://files?endpoint=https%3A%2F%2Fs3.test%2Fs3",
                "https://s3.test/s3/files/",
            ),
            (
                "s3://files?endpoint=http://127.0.0.1:1&region=garage",
                "http://127.0.0.1:1/files/",
            ),
            ("s3://files?endpoint=http://[::1]:1", "http://[::1]:1/files/"),
            (
                "s3://files?endpoint=https://s3.test&style=virtual",
                "https://files.s3.test/",
            ),
        ] {
            let address: BucketAddress = text.parse().unwrap();
            assert_eq!(address.bucket().unwrap().base_url().as_str(), url, "{text}");
        }
        for (prefix, ours) in [("", ""), ("a", "a/"), ("a/b.c/", "a/b.c/")] {
            let address: BucketAddress = format!("s3://files?region=r&prefix={prefix}").parse().unwrap();
            assert_eq!(address.prefix(), ours);
        }
    }

    #[test]
    fn unsafe_or_unknown_addresses_are_refused() {
        for text in [
            "",
            "files",
            "https://files?region=r",
            "s3://files",
            "s3://fi?region=r",
            "s3://Files?region=r",
            "s3://files/path?region=r",
            "s3://files:9000?region=r",
            "s3://key:secret@files?region=r",
            "s3://files?region=r#x",
            "s3://files?region=",
            "s3://files?region=a/b",
            "s3://files?region=r&region=s",
            "s3://files?region=r&colour=red",
            "s3://files?region=r&style=other",
            "s3://files?endpoint=http://s3.test",
            "s3://files?endpoint=ftp://s3.test",
            "s3://files?endpoint=https://key:secret@s3.test",
            "s3://files?endpoint=https://s3.test?x=1",
            "s3://files?endpoint=https://10.0.0.1&style=virtual",
            "s3://files?region=r&prefix=/",
            "s3://files?region=r&prefix=a//b",
            "s3://files?region=r&prefix=a//",
            "s3://files?region=r&prefix=../x",
            "s3://files?region=r&prefix=a%20b",
        ] {
            let error = text.parse::<BucketAddress>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{text}");
        }
        let long = format!("s3://files?region=r&prefix={}", "a".repeat(512));
        assert!(long.parse::<BucketAddress>().is_err());
    }
}
