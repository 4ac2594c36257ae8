//! The key envelope on the server.
//!
//! The owner key of the replaced envelope signs every new one (`docs/protocol.md`, section 4.7), so only a device with
//! the replaced envelope's master key can write it.

use http::Method;
use rand::rngs::OsRng;
use synckit_crypto::{AccountKey, Envelope, KeyEnd, KeyError, KeyRing, VaultEdition};
use synckit_protocol::{
    EnvelopeClaim, KeyId, OwnerKey, Position, Problem, ProblemCode,
    wire::keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
};

use super::{handle::Stream, snapshot::NewestSnapshot};
use crate::{
    connection::call::Call,
    error::{Error, Result},
    state::keys::Keys,
    tampering::Tampering,
};

/// The server's current envelope.
#[derive(Debug)]
pub(crate) struct EnvelopeInUse {
    pub(crate) envelope: Envelope,
    /// The server's count of writes. A restored envelope contains an older one.
    pub(crate) version: u64,
    /// The key that must sign the next envelope.
    pub(crate) owner: OwnerKey,
}

/// The secret that opens an envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opener<'a> {
    /// The account key of the vault of this edition, opened by the password or a recovery code.
    AccountKey(&'a AccountKey, VaultEdition),
    /// The ring of this device, whose current key is the envelope's.
    HeldRing,
}

/// The outcome of writing an envelope.
#[derive(Debug)]
pub(crate) enum EnvelopePut {
    /// The server stored it.
    Written,
    /// Another envelope was written first, with this current key.
    AnotherWasFirst(KeyId),
    /// The head in the envelope is no longer the stream's.
    Behind(Box<Problem>),
    /// The snapshot in the envelope is no longer the newest.
    SnapshotReplaced,
}

/// The end of a stream during a rotation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamEnd {
    /// The newest position, verified.
    pub(crate) head: Position,
    pub(crate) snapshot: NewestSnapshot,
}

impl StreamEnd {
    /// The end of the key that is retired now.
    pub(crate) fn of_key(&self) -> KeyEnd {
        KeyEnd {
            until: self.head,
            snapshot: self.snapshot.manifest,
        }
    }
}

/// The error for an envelope version that has no successor. The number comes from the server.
pub(crate) fn no_further_version() -> Error {
    Error::Protocol {
        status: 200,
        reason: "an envelope version below the maximum",
    }
}

impl Stream {
    /// The server's envelope. Only the code `no_envelope` means that it has none: a 404 of any other kind must never
    /// lead to a second key.
    pub(crate) async fn envelope(&self) -> Result<Option<EnvelopeInUse>> {
        let answer: EnvelopeAnswer = match self.connection.authorized(Call::get("/api/sync/keys")).await {
            Ok(answer) => answer.decode()?,
            Err(error) if error.is_problem(ProblemCode::NoEnvelope) => return Ok(None),
            Err(error) => return Err(error),
        };
        let envelope = Envelope::decode(answer.envelope.as_ref()).map_err(Tampering::KeyMaterialForged)?;
        // The key id is inside the seal; a server that names another id has exchanged the envelope. The version is not
        // compared: it is the server's count, and differs for a restored envelope.
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

    /// Opens an envelope of the server: the only way to its keys.
    ///
    /// `held` is this device's ring, if it has one. The envelope must continue from it: otherwise a server could show
    /// earlier keys, or those of another history, and a revoked device could read this device's later changes. Only the
    /// user may decide to go back.
    pub(crate) fn ring_in(&self, envelope: &Envelope, opener: Opener<'_>, held: Option<&KeyRing>) -> Result<KeyRing> {
        let replaced = |held: &KeyRing| Tampering::EnvelopeReplaced {
            held_version: held.key_version(),
            found_version: envelope.key_version(),
        };
        if let Some(held) = held {
            let other_key = envelope.key_id() != held.key_id();
            if envelope.key_version() < held.key_version() || envelope.key_version() == held.key_version() && other_key
            {
                return Err(replaced(held).into());
            }
        }
        let scope = self.scope();
        let ring = match (opener, held) {
            (Opener::AccountKey(account_key, edition), _) => {
                let named = envelope.vault_edition();
                if named > edition {
                    // The writer of the envelope had a newer vault.
                    return Err(Tampering::VaultReplaced {
                        known: named,
                        found: edition,
                    }
                    .into());
                }
                if named.generation != edition.generation {
                    return Err(Error::PasswordWasReset {
                        envelope_generation: named.generation,
                        vault_generation: edition.generation,
                    });
                }
                envelope.open(&scope, account_key)
            }
            (Opener::HeldRing, Some(held)) if envelope.key_id() == held.key_id() => {
                envelope.open_as_holder(&scope, held)
            }
            (Opener::HeldRing, _) => {
                return Err(Error::KeyRotated {
                    key_id: envelope.key_id(),
                });
            }
        };
        let ring = ring.map_err(Tampering::KeyMaterialForged)?;
        // A ring contains every key that it ever had, so one that continues from the held ring contains its current
        // key.
        match held {
            Some(held)
                if ring
                    .key_for(&held.key_id())
                    .is_none_or(|key| key.key_version != held.key_version()) =>
            {
                Err(replaced(held).into())
            }
            _ => Ok(ring),
        }
    }

    /// Writes an envelope of a ring, which replaces the server's. A conflict with this device's own write, whose answer
    /// was lost, is a success.
    ///
    /// The owner key that the server names signs the envelope. The ring must hold that key, as its current or a retired
    /// one.
    pub(crate) async fn put_envelope(
        &self,
        ring: &KeyRing,
        envelope: &Envelope,
        replaced: Option<&EnvelopeInUse>,
        end: Option<StreamEnd>,
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
            head: end.map(|end| end.head),
            snapshot: end.and_then(|end| end.snapshot.id),
        };
        let put = PutEnvelope {
            key_id: claim.key_id,
            expected_version: claim.expected_version,
            head: claim.head,
            snapshot: claim.snapshot,
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
                Some(ProblemCode::SnapshotStale) => Ok(EnvelopePut::SnapshotReplaced),
                _ => Err(Error::Problem(problem)),
            },
            Err(error) => Err(error),
        }
    }

    /// Seals the keys again, in an envelope that names this edition of the vault, so that every device that opens the
    /// envelope recognises an older vault. No effect if this device does not hold the current key.
    pub(crate) async fn name_vault(&self, account_key: &AccountKey, edition: VaultEdition) -> Result<()> {
        let (Ok(keys), Some(found)) = (self.keys(), self.envelope().await?) else {
            return Ok(());
        };
        if found.envelope.vault_generation() != edition.generation || found.envelope.key_id() != keys.ring.key_id() {
            return Ok(());
        }
        let ring = self.ring_in(&found.envelope, Opener::HeldRing, Some(&keys.ring))?;
        let version = found.version.checked_add(1).ok_or_else(no_further_version)?;
        let envelope = Envelope::seal(&self.scope(), account_key, edition, version, &ring, &mut OsRng);
        let envelope = envelope.map_err(Error::Key)?;
        // If another device was faster, its envelope names the edition that it knew.
        self.put_envelope(&ring, &envelope, Some(&found), None).await.map(drop)
    }

    /// The only treatment of a key that this device does not hold: only a newer envelope can introduce a key. `forged`
    /// is the error for the server's data under that key, or `None` if the server refused this device's own key.
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
