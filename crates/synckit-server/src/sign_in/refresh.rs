//! Refresh secrets: derived, not stored, so that a repeated refresh gets the same answer.
//!
//! `secret = base64url(sid (16) || counter (u64 BE) || HMAC-SHA256(key, sid || counter))`. Which counters count, the
//! store knows: see [`synckit_store::Store::advance_refresh`].

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use synckit_protocol::{SecretText, SessionId};

use crate::startup::MacKey;

/// The contents of a refresh secret that the server made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefreshSecret {
    pub(crate) session_id: SessionId,
    pub(crate) counter: u64,
}

impl RefreshSecret {
    /// The text that the client keeps.
    pub(crate) fn to_text(self, key: &MacKey) -> SecretText {
        let counter = self.counter.to_be_bytes();
        let tag = key.sign(&[self.session_id.as_bytes(), &counter]);
        let mut bytes = Vec::with_capacity(16 + 8 + 32);
        bytes.extend_from_slice(self.session_id.as_bytes());
        bytes.extend_from_slice(&counter);
        bytes.extend_from_slice(&tag);
        SecretText::new(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a text that this server made; `None` for every other.
    pub(crate) fn parse(text: &str, key: &MacKey) -> Option<Self> {
        let bytes: [u8; 56] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (session_id, rest) = bytes.split_first_chunk::<16>()?;
        let (counter, tag) = rest.split_first_chunk::<8>()?;
        if !key.verify(&[session_id, counter], tag) {
            return None;
        }
        Some(Self {
            session_id: SessionId::from_bytes(*session_id),
            counter: u64::from_be_bytes(*counter),
        })
    }
}
