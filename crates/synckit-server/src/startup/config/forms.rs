//! Forms of settings as text: their allowed values, and their errors for all others.

use std::{net::SocketAddr, time::Duration};

use synckit_protocol::SecretText;
use synckit_store::{
    PostgresOptions, PostgresUrl,
    objects::{BucketAccess, BucketKeys},
};

use super::{AddressBlock, BlobPlace, ByteSize, Database, Span};

/// A value, or for a value that the form does not allow, the allowed values for people.
type Parsed<T> = Result<T, String>;

/// The smallest memory that lets one body or one page of the largest size through.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// The largest, so that it counts in KiB as a number of permits.
const MEMORY_BYTES_MAX: u64 = 256 << 30;
/// Shorter tokens can be guessed.
const METRICS_TOKEN_CHARACTERS_MIN: usize = 16;

/// The placeholder of a form in help texts.
pub(super) const fn value_name(form: &str) -> &'static str {
    // `match` on texts is not const; the first letters tell the forms apart.
    match form.as_bytes() {
        [b't', ..] => "TIME",
        [b'm', ..] | [b's', ..] => "SIZE",
        _ => "N",
    }
}

/// A whole number of at least 1.
pub(super) fn number(text: &str) -> Parsed<u32> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err(format!("expected a whole number from 1 to {}", u32::MAX)),
    }
}

/// A whole number of things at once, at least 1.
pub(super) fn count(text: &str) -> Parsed<usize> {
    Ok(number(text)? as usize)
}

/// A duration of more than nothing.
pub(super) fn time(text: &str) -> Parsed<Duration> {
    match time_or_none(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        time => Ok(time),
    }
}

/// A number of connections to a database.
pub(super) fn connections(text: &str) -> Parsed<usize> {
    match count(text)? {
        connections if connections <= PostgresOptions::CONNECTIONS_MAX => Ok(connections),
        _ => Err(format!("must be at most {}", PostgresOptions::CONNECTIONS_MAX)),
    }
}

/// A time limit of a statement of a database.
pub(super) fn time_of_statement(text: &str) -> Parsed<Duration> {
    match time(text)? {
        limit if limit <= PostgresOptions::STATEMENT_TIMEOUT_MAX => Ok(limit),
        _ => Err("must be at most 24 h".to_owned()),
    }
}

/// A duration, which may be `0 s`.
pub(super) fn time_or_none(text: &str) -> Parsed<Duration> {
    let span: Span = text.parse().map_err(text_of)?;
    Ok(span.0)
}

/// Memory for bodies or pages.
pub(super) fn memory(text: &str) -> Parsed<u64> {
    let size = size(text)?;
    if (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&size) {
        Ok(size)
    } else {
        Err("must be 16 MiB to 256 GiB".to_owned())
    }
}

/// A number of bytes.
pub(super) fn size(text: &str) -> Parsed<u64> {
    let size: ByteSize = text.parse().map_err(text_of)?;
    Ok(size.0)
}

/// An IP address and a port.
pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".to_owned())
}

/// `embedded`, or the URL of a PostgreSQL.
pub(super) fn database(text: &str) -> Parsed<Database> {
    if text == "embedded" {
        return Ok(Database::Embedded);
    }
    if !PostgresUrl::is_meant(text) {
        return Err("expected embedded, or postgres://user:password@host:port/database".to_owned());
    }
    text.parse().map(Database::Postgres).map_err(text_of)
}

/// `directory`, or the address of a bucket. Its keys are other settings.
pub(super) fn blob_place(text: &str) -> Parsed<BlobPlace> {
    if text == "directory" {
        return Ok(BlobPlace::Directory);
    }
    let address = text.parse().map_err(|error| format!("must be directory; or {error}"))?;
    let keys = BucketKeys::default();
    Ok(BlobPlace::Bucket(Box::new(BucketAccess { address, keys })))
}

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// Blocks of addresses, separated by commas.
pub(super) fn address_blocks(text: &str) -> Parsed<Vec<AddressBlock>> {
    text.split(',')
        .filter(|block| !block.trim().is_empty())
        .map(|block| block.parse().map_err(text_of))
        .collect()
}

/// A bearer token (RFC 6750, section 2.1) that cannot be guessed.
pub(super) fn bearer_token(text: &str) -> Parsed<SecretText> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if text.len() >= METRICS_TOKEN_CHARACTERS_MIN && text.bytes().all(allowed) {
        Ok(SecretText::new(text))
    } else {
        Err(format!(
            "must have at least {METRICS_TOKEN_CHARACTERS_MIN} letters, digits or any of - . _ ~ + / ="
        ))
    }
}

/// Any text but the empty one.
pub(super) fn some_text(text: &str) -> Parsed<String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Any text but the empty one and the word that stands for no value.
pub(super) fn given_text(text: &str) -> Parsed<String> {
    if text == "none" {
        return Err("must not be none".to_owned());
    }
    some_text(text)
}

/// The URL of a mail server. Its use checks the rest.
pub(super) fn smtp_url(text: &str) -> Parsed<SecretText> {
    if text.starts_with("smtp://") || text.starts_with("smtps://") {
        Ok(SecretText::new(text))
    } else {
        Err("expected smtps://user:password@host:port or smtp://…?tls=required".to_owned())
    }
}

/// The sender of mails. Its use checks the rest.
pub(super) fn sender(text: &str) -> Parsed<String> {
    if text.contains('@') {
        Ok(text.to_owned())
    } else {
        Err("expected an e-mail address, or a name and <address>".to_owned())
    }
}

/// A text that a `FromStr` reads.
pub(super) fn parsed<T: std::str::FromStr<Err: ToString>>(text: &str) -> Parsed<T> {
    text.parse().map_err(text_of)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text_of(error: impl ToString) -> String {
    error.to_string()
}
