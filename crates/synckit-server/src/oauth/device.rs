//! Sign-in of machines without a browser (RFC 8628): the code that a person types, and what is sealed of it.

use std::{fmt, net::IpAddr};

use synckit_protocol::{
    SessionId, UserId,
    limits::{CONSENT_SECONDS, DEVICE_GRANT_SECONDS},
    wire::UnixSeconds,
};
use synckit_store::{CredentialId, SecretHash};

use crate::{
    platform::random_bytes,
    sign_in::{Purpose, SealedReader, SealedStates, SealedWriter, StateError},
    startup::MacKey,
};

/// Letters that spell no word and are told apart by everybody (RFC 8628, section 6.1). Eight of them are 34 bits.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// The code that a machine shows, and that a person types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserCode([u8; LENGTH]);

impl UserCode {
    pub(crate) fn random() -> Self {
        let mut code = [0; LENGTH];
        for letter in &mut code {
            *letter = loop {
                // 240 is the largest multiple of 20 in a byte: all letters are equally likely.
                match random_bytes::<1>() {
                    [byte] if byte < 240 => break LETTERS[usize::from(byte) % LETTERS.len()],
                    _ => {}
                }
            };
        }
        Self(code)
    }

    /// Reads what somebody typed: in any case, with anything between the letters that is neither a letter nor a digit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let typed = text.chars().filter(|typed| typed.is_alphanumeric());
        let mut letters = typed.map(|typed| {
            let letter = u8::try_from(typed.to_ascii_uppercase()).ok()?;
            LETTERS.contains(&letter).then_some(letter)
        });
        let mut code = [0; LENGTH];
        for letter in &mut code {
            *letter = letters.next()??;
        }
        letters.next().is_none().then_some(Self(code))
    }

    /// What the database knows of it. Keyed: there are few enough codes to try all of them.
    pub(crate) fn hash(self, key: &MacKey) -> SecretHash {
        SecretHash(key.sign(&[&self.0]))
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = self.0.split_at(LENGTH / 2);
        for letter in first.iter().chain(b"-").chain(second) {
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

/// What the person is shown of the machine. The database has it sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) address: IpAddr,
    /// As the machine calls itself; empty if it does not.
    pub(crate) name: String,
}

impl Machine {
    pub(crate) fn sealed(&self, states: &SealedStates, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put_text(&self.address.to_string());
        writer.put_text(&self.name);
        states.seal(Purpose::DeviceAsked, &writer)
    }

    pub(crate) fn open(states: &SealedStates, sealed: &[u8], now: UnixSeconds) -> Result<Self, StateError> {
        let plaintext = states.open(Purpose::DeviceAsked, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, DEVICE_GRANT_SECONDS)?;
        let address = reader.take_text()?.parse().map_err(|_| StateError::Invalid)?;
        let name = reader.take_text()?;
        Ok(Self { address, name })
    }
}

/// The code that a page asks about, and the session that it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) code: UserCode,
    pub(crate) session_id: SessionId,
}

impl Question {
    pub(crate) fn sealed(&self, states: &SealedStates, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put(&self.code.0);
        writer.put(self.session_id.as_bytes());
        states.seal(Purpose::DeviceQuestion, &writer)
    }

    pub(crate) fn open(states: &SealedStates, sealed: &[u8], now: UnixSeconds) -> Result<Self, StateError> {
        let plaintext = states.open(Purpose::DeviceQuestion, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, CONSENT_SECONDS)?;
        Ok(Self {
            code: UserCode(reader.take()?),
            session_id: SessionId::from_bytes(reader.take()?),
        })
    }
}

/// Who allowed a machine to sign in. The database has it sealed until the machine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) user_id: UserId,
    /// The credential that the account had then: with another password, the machine gets nothing.
    pub(crate) credential_id: CredentialId,
}

impl Allowed {
    pub(crate) fn sealed(&self, states: &SealedStates, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put(self.user_id.as_bytes());
        writer.put(&self.credential_id.0);
        states.seal(Purpose::DeviceAllowed, &writer)
    }

    pub(crate) fn open(states: &SealedStates, sealed: &[u8], now: UnixSeconds) -> Result<Self, StateError> {
        let plaintext = states.open(Purpose::DeviceAllowed, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, DEVICE_GRANT_SECONDS)?;
        Ok(Self {
            user_id: UserId::from_bytes(reader.take()?),
            credential_id: CredentialId(reader.take()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{LETTERS, UserCode};

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = UserCode::parse("BCDF-GHJK").unwrap();
        assert_eq!(code.to_string(), "BCDF-GHJK");
        for typed in ["bcdfghjk", " BCDF GHJK\n", "b.c.d.f-g.h.j.k", "BCDF\u{2013}GHJK"] {
            assert_eq!(UserCode::parse(typed), Some(code), "{typed}");
        }
        for typed in [
            "",
            "BCDF-GHJ",
            "BCDF-GHJKL",
            "ACDF-GHJK",
            "BCD1-GHJK",
            "BCDF-GHJ\u{212a}",
            "\u{df}CDFGHJK",
        ] {
            assert_eq!(UserCode::parse(typed), None, "{typed}");
        }
    }

    #[test]
    fn every_letter_is_drawn() {
        let drawn: String = (0..200).map(|_| UserCode::random().to_string()).collect();
        for letter in LETTERS {
            assert!(drawn.contains(char::from(*letter)), "{letter}");
        }
        assert!(drawn.bytes().all(|letter| letter == b'-' || LETTERS.contains(&letter)));
    }
}
