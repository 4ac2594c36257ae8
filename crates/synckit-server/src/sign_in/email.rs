//! E-mail addresses as the server compares them.

use synckit_protocol::limits;
use unicode_normalization::UnicodeNormalization as _;

/// The part before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;
/// A piece of a domain (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// An address in the one form that is stored and compared: surrounding space removed, NFC, lower case.
///
/// Lower case in the local part too: RFC 5321 lets a host tell `A@x` from `a@x`, but no host in use does, and two
/// accounts that differ by case alone are a trap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NormalEmail(String);

/// A text that cannot be an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an e-mail address of at most {} bytes", limits::EMAIL_BYTES_MAX)]
pub(crate) struct EmailError;

impl NormalEmail {
    /// Normalises an address, and accepts only addresses that every program reads alike.
    ///
    /// Mail programs parse `x<victim@example.com>`, `"a"@example.com` or `a%b@example.com` differently: such an account
    /// would not be the victim's, but its mails would go to the victim. So quotes, angles, comments, routes, encoded
    /// words and address literals are refused (RFC 5322, section 3.4.1, without `obs-` and quoted forms; RFC 6531 for
    /// letters beyond ASCII).
    pub(crate) fn parse(text: &str) -> Result<Self, EmailError> {
        // Checked before the work too, so that a long text costs nothing.
        if text.len() > limits::EMAIL_BYTES_MAX * 2 {
            return Err(EmailError);
        }
        // Lower-casing can undo NFC, so it comes first.
        let normal: String = text.trim().to_lowercase().nfc().collect();
        let (local, domain) = normal.split_once('@').ok_or(EmailError)?;
        let is_valid = normal.len() <= limits::EMAIL_BYTES_MAX
            && local.len() <= LOCAL_BYTES_MAX
            && local.split('.').all(is_atom)
            && domain.split('.').all(is_label);
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
    let allowed = |c: char| c.is_alphanumeric() || is_mark(c) || "#$&'*+-/=^_{|}~".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

/// A piece of a domain (RFC 1123, section 2.1), also in its Unicode form (RFC 5890).
fn is_label(text: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || is_mark(c) || c == '-';
    (1..=LABEL_BYTES_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A mark that belongs to the letter before it, if NFC has no single character for both.
fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
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
        assert_eq!(
            NormalEmail::parse("U\u{308}@x").unwrap(),
            NormalEmail::parse("\u{fc}@x").unwrap()
        );
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
            "me@localhost",
            "j\u{fc}rgen@m\u{fc}ller.example",
            "\u{7528}\u{6237}@\u{4f8b}\u{5b50}.\u{6d4b}\u{8bd5}",
            // Devanagari, whose vowels are marks.
            "\u{92c}\u{93f}\u{91c}\u{932}\u{940}@example.com",
        ] {
            assert!(NormalEmail::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a\u{0}@b",
            &format!("{}@b", "a".repeat(65)),
            &format!("a@{}", "b".repeat(64)),
            &format!("a@{}", ["b".repeat(63).as_str(); 4].join(".")),
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
            "a@example.com.",
            "a@-example.com",
            "a@example-.com",
            "a@exam_ple.com",
            "a\u{202e}@example.com",
            "a\u{200b}@example.com",
        ] {
            assert_eq!(NormalEmail::parse(text), Err(EmailError), "{text}");
        }
    }
}
