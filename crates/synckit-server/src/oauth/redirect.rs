//! Where a browser sign-in may return to.
//!
//! An address must be registered for its app, letter for letter (RFC 9700, section 2.1). The one exception is a loopback
//! address, whose port the app picks when it starts to listen (RFC 8252, section 7.3). `http://127.0.0.1/callback` and
//! `http://[::1]/callback` belong to every app.

use synckit_protocol::limits::REDIRECT_BYTES_MAX;

/// The hosts of loopback addresses. Not `localhost`, which a name server may resolve elsewhere (RFC 8252, section 8.3).
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];
/// The path of the loopback addresses that every app may use.
const LOOPBACK_PATH: &str = "/callback";

/// Whether an app with these registered addresses may receive a code at `wanted`.
pub(crate) fn is_permitted(registered: &[String], wanted: &str) -> bool {
    if wanted.len() > REDIRECT_BYTES_MAX {
        return false;
    }
    let own = |host: &str| format!("{host}{LOOPBACK_PATH}");
    match without_port(wanted) {
        Some((host, rest)) => {
            let portless = format!("{host}{rest}");
            portless == own(host) || registered.contains(&portless)
        }
        None => registered.iter().any(|one| one == wanted),
    }
}

/// A loopback address as its host and what follows the port.
fn without_port(uri: &str) -> Option<(&'static str, &str)> {
    let (host, rest) = LOOPBACK
        .iter()
        .find_map(|host| Some((*host, uri.strip_prefix(host)?)))?;
    let Some(port) = rest.strip_prefix(':') else {
        return Some((host, rest));
    };
    let digits = port.len() - port.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (port, rest) = port.split_at(digits);
    let number: u16 = port.parse().ok()?;
    // One text for each port.
    (number > 0 && number.to_string() == port).then_some((host, rest))
}

/// Why an address cannot be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// It is too long.
    #[error("a return address has at most {REDIRECT_BYTES_MAX} characters")]
    TooLong,
    /// It has characters that no address has, or a fragment.
    #[error("a return address has only the printable characters of ASCII, no quote, angle or `#`")]
    Characters,
    /// It is neither an https address, a scheme of the app's own, nor a loopback address.
    #[error(
        "a return address is https://HOST/…, http://127.0.0.1/… or http://[::1]/… without a port, or has a scheme of the app's \
         own with a dot in it, such as com.example.notes:/callback (RFC 8252, section 7.1)"
    )]
    Form,
}

/// Checks an address before it is registered.
pub(crate) fn check(uri: &str) -> Result<(), RedirectError> {
    if uri.len() > REDIRECT_BYTES_MAX {
        return Err(RedirectError::TooLong);
    }
    let is_usual =
        |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '#' | '\\' | '`' | ';' | ',');
    if !uri.chars().all(is_usual) {
        return Err(RedirectError::Characters);
    }
    if target(uri).is_some() && without_port(uri).is_none_or(|(host, rest)| uri == format!("{host}{rest}")) {
        Ok(())
    } else {
        Err(RedirectError::Form)
    }
}

/// What a `Content-Security-Policy` names a permitted address by, so that a form may lead to it; `None` for an address of
/// another form.
pub(crate) fn target(uri: &str) -> Option<String> {
    if let Some((host, rest)) = without_port(uri) {
        let origin = uri.strip_suffix(rest)?;
        // A policy has no form for an IPv6 address.
        let source = if host == "http://[::1]" { "http:" } else { origin };
        return (rest.starts_with('/')).then(|| source.to_owned());
    }
    let (scheme, rest) = uri.split_once(':')?;
    if scheme == "https" {
        let authority = rest.strip_prefix("//")?;
        let end = authority.find(['/', '?']).unwrap_or(authority.len());
        let (host, _) = authority.split_at_checked(end)?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
        let begins = host.starts_with(|c: char| c.is_ascii_alphanumeric());
        return (begins && host.chars().all(is_host)).then(|| format!("https://{host}"));
    }
    // A scheme without a dot is somebody else's: `javascript`, `data`, `file`.
    let is_scheme = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    let begins = scheme.starts_with(|c: char| c.is_ascii_lowercase());
    (begins && scheme.contains('.') && scheme.chars().all(is_scheme) && !rest.is_empty()).then(|| format!("{scheme}:"))
}

#[cfg(test)]
mod tests {
    use super::{RedirectError, check, is_permitted, target};

    #[test]
    fn only_the_port_of_a_loopback_address_may_vary() {
        let registered = [
            "https://notes.example.com/done".to_owned(),
            "http://127.0.0.1/back".to_owned(),
        ];
        for permitted in [
            "http://127.0.0.1:49152/callback",
            "http://127.0.0.1/callback",
            "http://[::1]:1/callback",
            "http://127.0.0.1:65535/back",
            "https://notes.example.com/done",
        ] {
            assert!(is_permitted(&registered, permitted), "{permitted}");
        }
        for near_miss in [
            "http://127.0.0.1:49152/callback/",
            "http://127.0.0.1:49152/callback?x=1",
            "http://127.0.0.1:49152/callback#x",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:080/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.1.evil.example/callback",
            "http://127.0.0.1:1",
            "http://localhost:49152/callback",
            "http://127.1:49152/callback",
            "http://[::1]:1/back",
            "https://127.0.0.1:49152/callback",
            "HTTP://127.0.0.1:1/callback",
            "https://notes.example.com/done/",
            "https://notes.example.com/done?",
            "https://notes.example.com:443/done",
            "https://NOTES.example.com/done",
            "http://notes.example.com/done",
            "https://notes.example.com/do%6ee",
            "https://notes.example.com/done#",
            "",
        ] {
            assert!(!is_permitted(&registered, near_miss), "{near_miss}");
        }
    }

    #[test]
    fn a_registered_address_has_one_of_three_forms() {
        for (good, source) in [
            ("https://a.example/cb?x=1", "https://a.example"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("com.example.notes:/callback", "com.example.notes:"),
            ("http://127.0.0.1/", "http://127.0.0.1"),
            ("http://[::1]/x", "http:"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
            assert_eq!(target(good).as_deref(), Some(source));
        }
        for bad in [
            "javascript:alert(1)",
            "data:text/html,x",
            "http://a.example/cb",
            "http://127.0.0.1:80/",
            "http://127.0.0.1",
            "https://",
            "https:///x",
            "https://user@a.example/",
            "https://-a/",
            "Com.example:/x",
            ".com:/x",
            "com.example.notes:",
            "callback",
            "",
        ] {
            assert!(
                matches!(check(bad), Err(RedirectError::Form | RedirectError::Characters)),
                "{bad}"
            );
        }
        assert_eq!(check("https://a.example/#x"), Err(RedirectError::Characters));
        assert_eq!(check("https://a.example/ x"), Err(RedirectError::Characters));
        let long = format!("https://a.example/{}", "x".repeat(512));
        assert_eq!(check(&long), Err(RedirectError::TooLong));
    }
}
