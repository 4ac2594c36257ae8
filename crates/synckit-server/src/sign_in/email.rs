//! E-mail addresses as the server compares them.

use synckit_protocol::limits;
use unicode_normalization::UnicodeNormalization as _;

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
    /// Normalises an address. Whether somebody reads mail there, only a mail can tell; so the check is coarse.
    pub(crate) fn parse(text: &str) -> Result<Self, EmailError> {
        // Checked before the work too, so that a long text costs nothing.
        if text.len() > limits::EMAIL_BYTES_MAX * 2 {
            return Err(EmailError);
        }
        // Lower-casing can undo NFC, so it comes first.
        let normal: String = text.trim().to_lowercase().nfc().collect();
        let (local, domain) = normal.split_once('@').ok_or(EmailError)?;
        let strange = |c: char| c.is_whitespace() || c.is_control() || c == '@';
        if local.is_empty() || domain.is_empty() || normal.len() > limits::EMAIL_BYTES_MAX {
            return Err(EmailError);
        }
        if local.contains(strange) || domain.contains(strange) {
            return Err(EmailError);
        }
        Ok(Self(normal))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
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
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a\u{0}@b",
            &format!("{}@b", "a".repeat(253)),
        ] {
            assert_eq!(NormalEmail::parse(text), Err(EmailError), "{text}");
        }
    }
}
