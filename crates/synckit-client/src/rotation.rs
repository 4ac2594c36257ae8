//! The life of the master key: another one takes its place, and an envelope that was lost is put back.
//!
//! Invariants: a retired key ends at exactly the position that the new envelope names, which the server checks in the
//! transaction that writes it; a key that this device does not hold is never retired by it.

use rand::rngs::OsRng;
use synckit_crypto::Envelope;
use synckit_protocol::{DeviceId, Position, Problem};

use crate::{
    client::SyncKitClient,
    error::{Error, Result},
    password,
    stream::{
        envelope::{EnvelopeInUse, EnvelopePut},
        handle::Stream,
    },
    tampering::Tampering,
};

/// How often a rotation is tried again because other devices pushed in between, before it gives up.
const ATTEMPTS_MAX: u32 = 100;

impl SyncKitClient {
    /// Replaces the master key. What was pushed before stays readable; what is pushed from now on, only for those who
    /// get the new key. Other devices report [`Error::KeyRotated`] and call
    /// [`SyncKitClient::setup_encryption_existing`].
    ///
    /// Rotate after a device was lost: together with [`SyncKitClient::revoke_device`] a stranger who found the device
    /// reads nothing that is written later, even with the help of the server.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::KeyRotated`] if another device was first, [`Error::Key`] with
    /// `RotationLimit` after 24 rotations.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (client, device) = world.device("laptop").await?;
    /// # let (phone, phone_device) = world.device("phone").await?;
    /// # let password = world.password;
    /// use synckit_client::{Cursor, Error};
    ///
    /// client.rotate_keys(password).await?;
    /// client.push(device.id, vec![note("1", "Buy milk")]).await?;
    ///
    /// // On another device:
    /// let error = phone.pull(phone_device.id, Cursor::START).await.unwrap_err();
    /// assert!(matches!(error, Error::KeyRotated { .. }));
    /// phone.setup_encryption_existing(password).await?; // ask for the password once
    /// assert_eq!(phone.pull(phone_device.id, Cursor::START).await?.0.len(), 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn rotate_keys(&self, password: &str) -> Result<()> {
        let stream = self.stream()?;
        let (scope, keys) = (stream.scope(), stream.keys()?);
        let open = stream.connection.open_vault(password).await?;
        // A push of this client in between would only send the rotation back.
        let _turn = stream.writing.next().await;
        let found = stream.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        if envelope.key_id() != keys.current().key_id {
            return Err(Error::KeyRotated {
                key_id: envelope.key_id(),
            });
        }
        envelope
            .verify_mac(&scope, keys.ring.current())
            .map_err(Tampering::KeyMaterialForged)?;
        let generation = open.vault.generation();
        if envelope.vault_generation() != generation {
            return Err(Error::PasswordWasReset {
                envelope_generation: envelope.vault_generation(),
                vault_generation: generation,
            });
        }
        let mut head = stream.newest(&keys).await?;
        for _ in 0..ATTEMPTS_MAX {
            let ring = keys.ring.rotate(&scope, head, &mut OsRng).map_err(Error::Key)?;
            let version = found.version + 1;
            let envelope = Envelope::seal(&scope, &open.account_key, generation, version, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            let put = stream.put_envelope(&ring, &envelope, Some(&found), Some(head));
            match put.await? {
                EnvelopePut::Written => return stream.install_keys(ring, &envelope).await,
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = catch_up(&stream, head, *problem).await?,
            }
        }
        Err(Error::Behind { latest: head })
    }

    /// Revokes a device and replaces the master key, so that a stranger who has the device reads nothing that is written
    /// from now on. If the second fails the device is revoked all the same, and [`SyncKitClient::rotate_keys`] can be called
    /// again.
    ///
    /// # Errors
    /// As [`SyncKitClient::revoke_device`] and [`SyncKitClient::rotate_keys`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, _) = world.device("laptop").await?;
    /// # let (_, lost) = world.device("phone").await?;
    /// # let password = world.password;
    /// client.revoke_device_and_rotate(lost.id, password).await?;
    /// assert!(client.devices().await?.iter().all(|device| device.id != lost.id));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn revoke_device_and_rotate(&self, device_id: DeviceId, password: &str) -> Result<()> {
        password::check(password)?;
        self.revoke_device(device_id).await?;
        self.rotate_keys(password).await
    }

    /// Replaces an older envelope with the keys that this device holds, after
    /// [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced): only by the user's decision, and only if the operator says that the server was
    /// restored from a backup. If its history went back as well, [`SyncKitClient::rejoin`] comes next.
    ///
    /// Keys that were retired in the history that is gone end at the newest position of the one that the server has now:
    /// devices that never heard of the rotation wrote under them up to there.
    ///
    /// # Errors
    /// [`Error::NoStoredKey`] if this device holds no keys, [`Error::InvalidCredentials`], [`Error::KeyRotated`] if
    /// the server's key is newer than this device's, or another device was first.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # let password = world.password;
    /// use synckit_client::{Error, Tampering};
    ///
    /// match client.setup_encryption_existing(password).await {
    ///     // The operator says that the server was restored from a backup, and the user agrees.
    ///     Err(Error::Tampering(Tampering::EnvelopeReplaced { .. })) => client.restore_envelope(password).await?,
    ///     other => other?,
    /// }
    /// # assert!(client.has_server_key().await?);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn restore_envelope(&self, password: &str) -> Result<()> {
        let stream = self.stream()?;
        let scope = stream.scope();
        let held = stream.stored_ring().await?.ok_or(Error::NoStoredKey)?;
        let open = stream.connection.open_vault(password).await?;
        let _turn = stream.writing.next().await;
        let found = stream.envelope().await?;
        if let Some(EnvelopeInUse { envelope: found, .. }) = &found
            && found.key_version() >= held.key_version()
            && found.key_id() != held.key_id()
        {
            return Err(Error::KeyRotated { key_id: found.key_id() });
        }
        let version = found.as_ref().map_or(0, |found| found.version);
        // What is known moves back by a rejoin only, so it must not rest on the floor, which sinks here.
        stream.restore().await?;
        stream.state.know(held.floor());
        stream.save_position_now().await?;
        let generation = open.vault.generation();
        let common = stream.last_common(stream.believed(&held)).await?;
        let mut head = stream.history_after(&held, common).await?;
        for _ in 0..ATTEMPTS_MAX {
            let ring = held.rebase(common.position(), head).map_err(Error::Key)?;
            let envelope = Envelope::seal(&scope, &open.account_key, generation, version + 1, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            match stream
                .put_envelope(&ring, &envelope, found.as_ref(), Some(head))
                .await?
            {
                EnvelopePut::Written => return stream.install_keys(ring, &envelope).await,
                // Another device has put the same keys back.
                EnvelopePut::AnotherWasFirst(key_id) if key_id == held.key_id() => return Ok(()),
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = stream.hash_forward(head, None, *problem).await?,
            }
        }
        Err(Error::Behind { latest: head })
    }
}

/// Verifies what came after `head`, and returns the newest position.
async fn catch_up(stream: &Stream, head: Position, problem: Problem) -> Result<Position> {
    let known = stream.state.known();
    let latest = stream.hash_forward(head, known, problem).await?;
    stream.state.know(latest);
    Ok(latest)
}
