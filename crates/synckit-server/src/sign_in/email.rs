//! E-mail addresses as the server compares them.

use synckit_protocol::limits;

/// The part before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;
/// A label of a domain (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// An address in the one form that is stored and compared: without surrounding space, in lower case.
///
/// Lower case in the local part too: RFC 5321 lets a host tell `A@x.org` from `a@x.org`, but no host in use does, and two
/// accounts that differ by case alone are a trap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NormalEmail(String);

/// A text that is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an e-mail address of at most {} bytes, of ASCII letters, digits and signs; a domain in another script begins \
     with xn--",
    limits::EMAIL_BYTES_MAX
)]
pub(crate) struct EmailError;

impl NormalEmail {
    /// Normalises an address, and accepts only addresses that every program reads alike, and that mail can reach.
    ///
    /// Mail programs parse `x<victim@example.com>`, `"a"@example.com` or `a%b@example.com` differently: such an account
    /// would not be the victim's, but its mails would go to the victim. So quotes, angles, comments, routes, encoded
    /// words and address literals are refused (RFC 5322, section 3.4.1, without `obs-` and quoted forms).
    ///
    /// ASCII, because beyond it one mailbox has several spellings (composed and decomposed letters, full-width forms, a
    /// domain in Unicode and in ASCII), look-alikes and invisible marks have another mailbox each, and lower case may be
    /// another address: `\u{130}x@example.com` would become one with three characters before the `@`. Every domain has an
    /// ASCII form (RFC 5890). A local part beyond ASCII reaches its mailbox only where each mail server in between
    /// supports it (RFC 6531).
    pub(crate) fn parse(text: &str) -> Result<Self, EmailError> {
        let normal = text.trim_ascii().to_ascii_lowercase();
        let (local, domain) = normal.split_once('@').ok_or(EmailError)?;
        let (_, top) = domain.rsplit_once('.').ok_or(EmailError)?;
        let is_valid = normal.len() <= limits::EMAIL_BYTES_MAX
            && local.len() <= LOCAL_BYTES_MAX
            && local.split('.').all(is_atom)
            && domain.split('.').all(is_label)
            // Else it is an IPv4 address.
            && top.starts_with(|c: char| c.is_ascii_lowercase());
        if is_valid { Ok(Self(normal)) } else { Err(EmailError) }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The address whose mailbox gets the mails: without a `+` suffix, which many mail servers ignore. Limits are counted by
    /// it; accounts have the whole address.
    pub(crate) fn mailbox(&self) -> String {
        let (local, domain) = self.0.split_once('@').unwrap_or((&self.0, ""));
        match local.split_once('+') {
            Some((name, _)) if !name.is_empty() => format!("{name}@{domain}"),
            _ => self.0.clone(),
        }
    }
}

/// A piece of the part before the `@`. Of the characters of RFC 5322's `atext`, those that other programs read as a route
/// (`%`, `!`), as an encoded word (`?`) or as a command of a shell (a back-tick) are left out.
fn is_atom(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "#$&'*+-/=^_{|}~".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

/// A label of a domain (RFC 1123, section 2.1).
fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_addresses_have_one_form() {
        let forms = [" User@Example.COM ", "user@example.com", "USER@example.com"];
        for form in forms {
            assert_eq!(NormalEmail::parse(form).unwrap().as_str(), "user@example.com");
        }
    }

    #[test]
    fn suffixes_are_of_one_mailbox() {
        for (text, expected) in [
            ("Ada@example.com", "ada@example.com"),
            ("ada+1@example.com", "ada@example.com"),
            ("ada+1+2@example.com", "ada@example.com"),
            ("ada+@example.com", "ada@example.com"),
            ("ada+a.b@example.com", "ada@example.com"),
            ("+ada@example.com", "+ada@example.com"),
            ("ada@example.org", "ada@example.org"),
        ] {
            assert_eq!(NormalEmail::parse(text).unwrap().mailbox(), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_addresses_are_taken() {
        for text in [
            "o'brien+notes@mail.example.co.uk",
            "first.last_2=x@example-host.com",
            "info@xn--mller-kva.example",
            "a@b.co",
            "#$&'*+-/=^_{|}~@1.2.a3",
            &format!("{}@{}.example", "a".repeat(64), "b".repeat(63)),
        ] {
            let email = NormalEmail::parse(text).unwrap();
            assert_eq!(NormalEmail::parse(email.as_str()), Ok(email.clone()), "its one form");
            assert!(
                email.as_str().parse::<lettre::Address>().is_ok(),
                "mail can be sent to {text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c.example",
            "a b@c.example",
            "a\u{0}@b.example",
            &format!("{}@b.example", "a".repeat(65)),
            &format!("a@{}.example", "b".repeat(64)),
            &format!("a@{}.example", ["b".repeat(63).as_str(); 4].join(".")),
            // Domains that no mail reaches.
            "a@b",
            "me@localhost",
            "a@127.0.0.1",
            "a@example.com.",
            // Addresses that mail programs parse differently.
            "x0<victim@example.com>",
            "<victim@example.com>",
            "victim@example.com>",
            "x0(victim@example.com)",
            "\"victim\"@example.com",
            "\"a b\"@example.com",
            "a\\b@example.com",
            "victim%example.com@relay.example",
            "relay!victim@example.com",
            "=?utf-8?q?victim?=@example.com",
            "mailto:victim@example.com",
            "a,victim@example.com",
            "a;victim@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "a@[127.0.0.1]",
            "a@example..com",
            "a@-example.com",
            "a@example-.com",
            "a@exam_ple.com",
            // Several spellings of one mailbox, and one spelling of several.
            "\u{130}x@example.com",
            "\u{212a}@example.com",
            "j\u{fc}rgen@example.com",
            "u\u{308}@example.com",
            "\u{301}a@example.com",
            "a\u{fe0f}@example.com",
            "a\u{34f}@example.com",
            "\u{ff41}@example.com",
            "a@m\u{fc}ller.example",
            "a@example.\u{ff43}om",
            "\u{430}da@example.com",
            "a\u{202e}@example.com",
            "a\u{200b}@example.com",
            "\u{a0}a@example.com",
        ] {
            assert_eq!(NormalEmail::parse(text), Err(EmailError), "{text}");
        }
    }
}
