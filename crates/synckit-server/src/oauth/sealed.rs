//! The state of a browser sign-in between its requests: sealed, and carried by the browser or the app.
//!
//! A code is such a value, too. It names the session that it will open, so a code that is exchanged a second time ends what
//! the first time gave, and nothing of a code is stored before its exchange.

use sha2::{Digest as _, Sha256};
use synckit_protocol::{
    AppId, SessionId, UserId,
    limits::{AUTHORIZATION_CODE_SECONDS, AUTHORIZATION_SECONDS, CONSENT_SECONDS},
    wire::UnixSeconds,
};
use synckit_store::{CredentialId, StreamId};

use super::request::Authorization;
use crate::sign_in::{Purpose, SealedReader, SealedStates, SealedWriter, StateError};

/// An authorization request whose account has proven its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) user_id: UserId,
    /// The credential whose password was proven: with another password, the grant ends.
    pub(crate) credential_id: CredentialId,
    pub(crate) authorization: Authorization,
}

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) stream: StreamId,
    /// The credential whose password was proven.
    pub(crate) credential_id: CredentialId,
    /// The session that it opens.
    pub(crate) session_id: SessionId,
    pub(crate) challenge: [u8; 32],
    /// SHA-256 of the address that it was sent to.
    pub(crate) redirect: [u8; 32],
}

impl Code {
    /// The code of a grant.
    pub(crate) fn of(grant: &Grant, session_id: SessionId) -> Self {
        Self {
            stream: StreamId {
                app_id: grant.authorization.app_id,
                user_id: grant.user_id,
            },
            credential_id: grant.credential_id,
            session_id,
            challenge: grant.authorization.challenge,
            redirect: Sha256::digest(&grant.authorization.redirect).into(),
        }
    }
}

pub(crate) fn seal_authorization(states: &SealedStates, authorization: &Authorization, now: UnixSeconds) -> Vec<u8> {
    let mut writer = SealedWriter::new(now);
    put_authorization(&mut writer, authorization);
    states.seal(Purpose::Authorize, &writer)
}

pub(crate) fn open_authorization(
    states: &SealedStates,
    sealed: &[u8],
    now: UnixSeconds,
) -> Result<Authorization, StateError> {
    let plaintext = states.open(Purpose::Authorize, sealed)?;
    let mut reader = SealedReader::new(&plaintext, now, AUTHORIZATION_SECONDS)?;
    take_authorization(&mut reader)
}

pub(crate) fn seal_grant(states: &SealedStates, grant: &Grant, now: UnixSeconds) -> Vec<u8> {
    let mut writer = SealedWriter::new(now);
    writer.put(grant.user_id.as_bytes());
    writer.put(&grant.credential_id.0);
    put_authorization(&mut writer, &grant.authorization);
    states.seal(Purpose::Grant, &writer)
}

pub(crate) fn open_grant(states: &SealedStates, sealed: &[u8], now: UnixSeconds) -> Result<Grant, StateError> {
    let plaintext = states.open(Purpose::Grant, sealed)?;
    let mut reader = SealedReader::new(&plaintext, now, CONSENT_SECONDS)?;
    Ok(Grant {
        user_id: UserId::from_bytes(reader.take()?),
        credential_id: CredentialId(reader.take()?),
        authorization: take_authorization(&mut reader)?,
    })
}

fn put_authorization(writer: &mut SealedWriter, authorization: &Authorization) {
    writer.put(authorization.app_id.as_bytes());
    writer.put(&authorization.challenge);
    writer.put_text(&authorization.redirect);
    writer.put_text(&authorization.state);
}

fn take_authorization(reader: &mut SealedReader<'_>) -> Result<Authorization, StateError> {
    Ok(Authorization {
        app_id: AppId::from_bytes(reader.take()?),
        challenge: reader.take()?,
        redirect: reader.take_text()?,
        state: reader.take_text()?,
    })
}

pub(crate) fn seal_code(states: &SealedStates, code: &Code, now: UnixSeconds) -> Vec<u8> {
    let mut writer = SealedWriter::new(now);
    writer.put(code.stream.app_id.as_bytes());
    writer.put(code.stream.user_id.as_bytes());
    writer.put(&code.credential_id.0);
    writer.put(code.session_id.as_bytes());
    writer.put(&code.challenge);
    writer.put(&code.redirect);
    states.seal(Purpose::Code, &writer)
}

/// Opens a code, and says whether it is still valid: a used one can be recognised for ever.
pub(crate) fn open_code(states: &SealedStates, sealed: &[u8], now: UnixSeconds) -> Result<(Code, bool), StateError> {
    let plaintext = states.open(Purpose::Code, sealed)?;
    let is_valid = SealedReader::new(&plaintext, now, AUTHORIZATION_CODE_SECONDS).is_ok();
    let mut reader = SealedReader::new(&plaintext, 0, 0)?;
    let code = Code {
        stream: StreamId {
            app_id: AppId::from_bytes(reader.take()?),
            user_id: UserId::from_bytes(reader.take()?),
        },
        credential_id: CredentialId(reader.take()?),
        session_id: SessionId::from_bytes(reader.take()?),
        challenge: reader.take()?,
        redirect: reader.take()?,
    };
    Ok((code, is_valid))
}
