//! The life of the master key: rotation, and the restoration of an envelope that was lost.
//!
//! Invariants: a retired key ends at exactly the position and the snapshot that the new envelope names, and the server
//! checks both in the transaction that writes it; this device never retires a key that it does not hold.

use rand::rngs::OsRng;
use synckit_crypto::{Envelope, SafetyCode};
use synckit_protocol::{DeviceId, Position, Problem};

use crate::{
    client::SyncKitClient,
    connection::vault::OlderVault,
    error::{Error, Result},
    password,
    state::keys::Keys,
    stream::{
        envelope::{EnvelopePut, Opener, StreamEnd, no_further_version},
        handle::Stream,
    },
    tampering::Tampering,
};

/// Limit of attempts of a rotation, each overtaken by another device's push.
const ATTEMPTS_MAX: u32 = 100;

impl SyncKitClient {
    /// Replaces the master key. Earlier changes stay readable; later ones are readable only with the new key. Other
    /// devices report [`Error::KeyRotated`] and call [`SyncKitClient::setup_encryption_existing`].
    ///
    /// Rotate after a device was lost: together with [`SyncKitClient::revoke_device`] it keeps a finder of the device
    /// from reading later changes, even with the help of the server.
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
        let open = stream.connection.open_vault(password, OlderVault::Refused).await?;
        // A push of this client in between would only make the rotation start again.
        let _turn = stream.writing.next().await;
        let found = stream.envelope().await?.ok_or(Error::NoServerKey)?;
        let edition = open.vault.edition();
        let opener = Opener::AccountKey(&open.account_key, edition);
        let held = stream.ring_in(&found.envelope, opener, Some(&keys.ring))?;
        if held.key_id() != keys.current().key_id {
            return Err(Error::KeyRotated { key_id: held.key_id() });
        }
        stream.state.know(held.floor());
        let keys = Keys::new(&scope, held.clone());
        let mut head = stream.newest(&keys).await?;
        for _ in 0..ATTEMPTS_MAX {
            let snapshot = stream.newest_snapshot(&keys, head).await?;
            let end = StreamEnd { head, snapshot };
            let ring = held.rotate(&scope, end.of_key(), &mut OsRng).map_err(Error::Key)?;
            let version = found.version.checked_add(1).ok_or_else(no_further_version)?;
            let envelope = Envelope::seal(&scope, &open.account_key, edition, version, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            let put = stream.put_envelope(&ring, &envelope, Some(&found), Some(end));
            match put.await? {
                EnvelopePut::Written => return stream.install_keys(ring, &envelope).await,
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = catch_up(&stream, head, *problem).await?,
                EnvelopePut::SnapshotReplaced => {}
            }
        }
        Err(Error::Behind { latest: head })
    }

    /// Revokes a device and replaces the master key, so that a finder of the device cannot read later changes. If the
    /// second step fails, the device is still revoked, and [`SyncKitClient::rotate_keys`] can be called again.
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

    /// Six words to compare with those on another device of the same user: equal words mean that both devices hold the
    /// keys of the same envelope. Show them on both screens after a new device has joined.
    ///
    /// A device that joins knows only the password. A hostile server can show it an earlier envelope; a device that was
    /// revoked since can then read everything that the new device writes. In this case the words of the older device
    /// differ. The words are no secret. If they differ, compare once more, because another device may just have rotated
    /// the key. If they still differ, revoke the device that joined, and do not trust this server.
    ///
    /// # Errors
    /// [`Error::KeyRotated`] if another device has rotated the key: call [`SyncKitClient::setup_encryption_existing`],
    /// then compare. [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced) if the server's envelope does
    /// not continue from this device's keys; [`Error::EncryptionNotSetUp`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (laptop, _) = world.device("laptop").await?;
    /// # let (phone, _) = world.device("phone").await?;
    /// let on_laptop = laptop.safety_code().await?;
    /// println!("Does your phone show this? {on_laptop}");
    /// assert_eq!(phone.safety_code().await?, on_laptop);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn safety_code(&self) -> Result<SafetyCode> {
        let stream = self.stream()?;
        let keys = stream.keys()?;
        let found = stream.envelope().await?.ok_or(Error::NoServerKey)?;
        let ring = stream.ring_in(&found.envelope, Opener::HeldRing, Some(&keys.ring))?;
        Ok(ring.safety_code(&stream.scope()))
    }

    /// Settles which keys belong to the stream, after
    /// [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced) or
    /// [`Tampering::VaultReplaced`](crate::Tampering::VaultReplaced). Call it only by the user's decision, and only if
    /// the operator says that the server was restored from a backup. If the server's history went back as well, call
    /// [`SyncKitClient::rejoin`] next.
    ///
    /// An older envelope is replaced with this device's keys. If another device has rotated the key in the restored
    /// history, that key stays, and this device takes it: its own key belongs to the lost history. An older vault is
    /// accepted as it is: a recovery code that was created after the backup no longer works, and the one before it
    /// works again, until the next [`SyncKitClient::recovery_code`].
    ///
    /// A key that was retired in the lost history then ends at the newest position of the restored one, because devices
    /// that did not know of the rotation may have written under it up to there.
    ///
    /// # Errors
    /// [`Error::NoStoredKey`] if this device holds no keys, [`Error::InvalidCredentials`], [`Error::KeyRotated`] if the
    /// server's key is newer than this device's, or if another device was first.
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
        // The vault of the backup is older as well.
        let open = stream.connection.open_vault(password, OlderVault::Taken).await?;
        let _turn = stream.writing.next().await;
        let found = stream.envelope().await?;
        let edition = open.vault.edition();
        if let Some(found) = &found
            && found.envelope.key_version() >= held.key_version()
            && found.envelope.key_id() != held.key_id()
        {
            let opener = Opener::AccountKey(&open.account_key, edition);
            return match stream.ring_in(&found.envelope, opener, Some(&held)) {
                // The envelope continues from this device's keys: it needs no restoration.
                Ok(ring) => Err(Error::KeyRotated { key_id: ring.key_id() }),
                // The keys of the restored history replace those of the lost one.
                Err(Error::Tampering(Tampering::EnvelopeReplaced { .. })) => {
                    let ring = stream.ring_in(&found.envelope, opener, None)?;
                    stream.install_keys(ring, &found.envelope).await
                }
                Err(error) => Err(error),
            };
        }
        let version = found.as_ref().map_or(0, |found| found.version);
        let version = version.checked_add(1).ok_or_else(no_further_version)?;
        // The floor sinks here. Only a rejoin may lower the known position, so that position must not depend on the
        // floor.
        stream.restore().await?;
        stream.state.know(held.floor());
        stream.save_position_now().await?;
        let common = stream.last_common(stream.believed(&held)).await?;
        // The server accepted batches under the key of its own envelope, and under later keys in a lost history.
        let in_use = found.as_ref().map_or(0, |found| found.envelope.key_version());
        let keys = Keys::without_ends(&scope, held.clone());
        let mut head = stream.history_after(&keys, common).await?;
        for _ in 0..ATTEMPTS_MAX {
            let snapshot = stream.newest_snapshot(&keys, head).await?;
            let end = StreamEnd { head, snapshot };
            let ring = held
                .rebase(common.position(), end.of_key(), in_use)
                .map_err(Error::Key)?;
            let envelope = Envelope::seal(&scope, &open.account_key, edition, version, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            match stream.put_envelope(&ring, &envelope, found.as_ref(), Some(end)).await? {
                EnvelopePut::Written => return stream.install_keys(ring, &envelope).await,
                // Another device has restored the same keys.
                EnvelopePut::AnotherWasFirst(key_id) if key_id == held.key_id() => return Ok(()),
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = stream.hash_forward(head, None, *problem).await?,
                EnvelopePut::SnapshotReplaced => {}
            }
        }
        Err(Error::Behind { latest: head })
    }
}

/// Verifies everything after `head`, and returns the newest position.
async fn catch_up(stream: &Stream, head: Position, problem: Problem) -> Result<Position> {
    let known = stream.state.known();
    let latest = stream.hash_forward(head, known, problem).await?;
    stream.state.know(latest);
    Ok(latest)
}
