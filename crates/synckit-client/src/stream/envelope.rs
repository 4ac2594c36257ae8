//! The envelope of the keys, as the server holds it.
//!
//! Every envelope that is sent to the server is signed by the owner key of the one that it replaces (`docs/protocol.md`,
//! section 4.7), so only a device that holds that one's master key can write it.

use http::Method;
use synckit_crypto::{Envelope, KeyError, KeyRing};
use synckit_protocol::{
    EnvelopeClaim, KeyId, OwnerKey, Position, Problem, ProblemCode,
    wire::keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
};

use super::handle::Stream;
use crate::{
    connection::call::Call,
    error::{Error, Result},
    state::keys::Keys,
    tampering::Tampering,
};

/// The envelope that the server holds.
#[derive(Debug)]
pub(crate) struct EnvelopeInUse {
    pub(crate) envelope: Envelope,
    /// The server's count of writes. An envelope that was put back has an older one inside.
    pub(crate) version: u64,
    /// The key that must sign the next envelope.
    pub(crate) owner: OwnerKey,
}

/// What became of an envelope.
#[derive(Debug)]
pub(crate) enum EnvelopePut {
    /// The server holds it.
    Written,
    /// Another envelope was written first, with this current key.
    AnotherWasFirst(KeyId),
    /// The head that it names is not the stream's any more.
    Behind(Box<Problem>),
}

impl Stream {
    /// The server's envelope. Only the code `no_envelope` means that there is none: a 404 of any other
    /// kind must never lead to a second key.
    pub(crate) async fn envelope(&self) -> Result<Option<EnvelopeInUse>> {
        let answer: EnvelopeAnswer = match self.connection.authorized(Call::get("/api/sync/keys")).await {
            Ok(answer) => answer.decode()?,
            Err(error) if error.is_problem(ProblemCode::NoEnvelope) => return Ok(None),
            Err(error) => return Err(error),
        };
        let envelope = Envelope::decode(answer.envelope.as_ref()).map_err(Tampering::KeyMaterialForged)?;
        // The key id is inside the seal; a server that names another serves another envelope. The version is not
        // compared: it is the server's count, and differs for an envelope that was put back.
        if envelope.key_id() != answer.key_id {
            return Err(Error::Tampering(Tampering::KeyMaterialForged(KeyError::Malformed {
                what: "envelope of this key",
            })));
        }
        Ok(Some(EnvelopeInUse {
            envelope,
            version: answer.version,
            owner: answer.owner,
        }))
    }

    /// Writes an envelope of a ring, which replaces the server's. A conflict with our own write, whose answer was lost,
    /// is a success.
    ///
    /// It is signed by the owner key that the server names, which the ring must hold: as its current key, or as one that
    /// it retired.
    pub(crate) async fn put_envelope(
        &self,
        ring: &KeyRing,
        envelope: &Envelope,
        replaced: Option<&EnvelopeInUse>,
        head: Option<Position>,
    ) -> Result<EnvelopePut> {
        let scope = &self.scope();
        let own = ring.current().owner_signing_key(scope);
        let owner = own.public();
        let signing = match replaced {
            Some(replaced) => ring
                .owner_signing_key(scope, &replaced.owner)
                .ok_or(Error::KeyRotated {
                    key_id: replaced.envelope.key_id(),
                })?,
            None => own,
        };
        let bytes = envelope.encode();
        let claim = EnvelopeClaim {
            app_id: scope.app_id,
            user_id: scope.user_id,
            expected_version: replaced.map_or(0, |replaced| replaced.version),
            key_id: envelope.key_id(),
            owner,
            envelope: &bytes,
            head,
        };
        let put = PutEnvelope {
            key_id: claim.key_id,
            expected_version: claim.expected_version,
            head,
            owner,
            signature: signing.sign_envelope(&claim),
            envelope: bytes.into(),
        };
        match self
            .connection
            .authorized(Call::new(Method::PUT, "/api/sync/keys").body(&put)?)
            .await
        {
            Ok(answer) => answer.decode::<EnvelopeWritten>().map(|_| EnvelopePut::Written),
            Err(Error::Problem(problem)) => match problem.known_code() {
                Some(ProblemCode::VersionConflict) => match self.envelope().await? {
                    Some(current) if current.envelope.encode() == envelope.encode() => Ok(EnvelopePut::Written),
                    Some(current) => Ok(EnvelopePut::AnotherWasFirst(current.envelope.key_id())),
                    None => Err(Error::Problem(problem)),
                },
                Some(ProblemCode::Behind) => Ok(EnvelopePut::Behind(problem)),
                _ => Err(Error::Problem(problem)),
            },
            Err(error) => Err(error),
        }
    }

    /// The one answer to a key that this device does not hold: only a newer envelope can introduce one. `forged` is the
    /// error of what the server showed under that key; `None` if the server refused this device's own key instead.
    pub(crate) async fn unknown_key(&self, keys: &Keys, forged: Option<Error>) -> Error {
        let found = match self.envelope().await {
            Ok(found) => found.map(|found| found.envelope),
            Err(error) => return error,
        };
        match (found, forged) {
            (Some(envelope), _) if envelope.key_version() > keys.ring.key_version() => Error::KeyRotated {
                key_id: envelope.key_id(),
            },
            (_, Some(forged)) => forged,
            (Some(envelope), None) => Error::WrongKey {
                held: keys.current().key_id,
                current: envelope.key_id(),
            },
            (None, None) => Error::NoServerKey,
        }
    }
}
