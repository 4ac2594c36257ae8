//! The life of the master key: another one takes its place, and an envelope that was lost is put back.
//!
//! Invariants: a retired key ends at exactly the position that the new envelope names, which the server checks in the
//! transaction that writes it; a key that this device does not hold is never retired by it.

use rand::rngs::OsRng;
use synckit_crypto::Envelope;
use synckit_protocol::{DeviceId, Position, Problem, ProblemCode};

use crate::{
    SyncKitClient,
    client::Inner,
    error::{Error, Result},
    history::walk::{Walk, diverged},
    setup::{EnvelopeInUse, EnvelopePut, Keys},
};

/// How often a rotation is tried again because other devices pushed in between, before it gives up.
const ATTEMPTS_MAX: u32 = 100;

impl SyncKitClient {
    /// Replaces the master key. What was pushed before stays readable; what is pushed from now on, only for those who
    /// get the new key. Other devices report [`Error::KeyRotated`] and call
    /// [`SyncKitClient::setup_encryption_existing`].
    ///
    /// Rotate after a device was lost: together with [`SyncKitClient::revoke_device`] it keeps whoever found the device
    /// out of everything that is written later, even with the help of the server.
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
        let inner = &self.inner;
        let (scope, keys) = (inner.scope()?, inner.keys()?);
        let open = inner.open_vault(password).await?;
        // A push of this client in between would only send the rotation back.
        let _pushing = inner.pushing.lock().await;
        let found = inner.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        if envelope.key_id() != keys.current().key_id {
            return Err(Error::KeyRotated {
                key_id: envelope.key_id(),
            });
        }
        envelope
            .verify_mac(&scope, keys.ring.current())
            .map_err(Error::KeyMaterialForged)?;
        let generation = open.vault.generation();
        if envelope.vault_generation() != generation {
            return Err(Error::PasswordWasReset {
                envelope_generation: envelope.vault_generation(),
                vault_generation: generation,
            });
        }
        let mut head = inner.newest(&keys).await?;
        for _ in 0..ATTEMPTS_MAX {
            let ring = keys.ring.rotate(&scope, head, &mut OsRng).map_err(Error::Key)?;
            let version = found.version + 1;
            let envelope = Envelope::seal(&scope, &open.account_key, generation, version, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            let put = inner.put_envelope(&scope, &ring, &envelope, Some(&found), Some(head));
            match put.await? {
                EnvelopePut::Written => return inner.install_keys(&scope, ring, &envelope).await,
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = inner.catch_up(head, *problem).await?,
            }
        }
        Err(Error::Behind { latest: head })
    }

    /// Revokes a device and replaces the master key, so that whoever has the device reads nothing that is written from
    /// now on. If the second fails the device is revoked all the same, and [`SyncKitClient::rotate_keys`] can be called
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
        self.revoke_device(device_id).await?;
        self.rotate_keys(password).await
    }

    /// Puts the keys that this device holds back in the place of an older envelope, after
    /// [`Error::EnvelopeReplaced`]: only by the user's decision, and only if the operator says that the server was
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
    /// use synckit_client::Error;
    ///
    /// match client.setup_encryption_existing(password).await {
    ///     // The operator says that the server was restored from a backup, and the user agrees.
    ///     Err(Error::EnvelopeReplaced { .. }) => client.restore_envelope(password).await?,
    ///     other => other?,
    /// }
    /// # assert!(client.has_server_key().await?);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn restore_envelope(&self, password: &str) -> Result<()> {
        let inner = &self.inner;
        let scope = inner.scope()?;
        let held = inner.stored_ring(&scope).await?.ok_or(Error::NoStoredKey)?;
        let open = inner.open_vault(password).await?;
        let _pushing = inner.pushing.lock().await;
        let found = inner.envelope().await?;
        if let Some(EnvelopeInUse { envelope: found, .. }) = &found
            && found.key_version() >= held.key_version()
            && found.key_id() != held.key_id()
        {
            return Err(Error::KeyRotated { key_id: found.key_id() });
        }
        let version = found.as_ref().map_or(0, |found| found.version);
        // What is known moves back by a rejoin only, so it must not rest on the floor, which sinks here.
        inner.restore_stream(scope.user_id).await?;
        inner.stream.lock().know(held.floor());
        inner.save_position_now().await?;
        let generation = open.vault.generation();
        let common = inner.last_common(inner.positions_of(&held)).await?;
        let mut head = inner.history_after(scope, &held, common).await?;
        for _ in 0..ATTEMPTS_MAX {
            let ring = held.rebase(common.position(), head).map_err(Error::Key)?;
            let envelope = Envelope::seal(&scope, &open.account_key, generation, version + 1, &ring, &mut OsRng);
            let envelope = envelope.map_err(Error::Key)?;
            match inner
                .put_envelope(&scope, &ring, &envelope, found.as_ref(), Some(head))
                .await?
            {
                EnvelopePut::Written => return inner.install_keys(&scope, ring, &envelope).await,
                // Another device has put the same keys back.
                EnvelopePut::AnotherWasFirst(key_id) if key_id == held.key_id() => return Ok(()),
                EnvelopePut::AnotherWasFirst(key_id) => return Err(Error::KeyRotated { key_id }),
                EnvelopePut::Behind(problem) => head = inner.hash_forward(head, None, *problem).await?,
            }
        }
        Err(Error::Behind { latest: head })
    }
}

impl Inner {
    /// The stream's newest position, verified from what this device knows.
    pub(crate) async fn newest(&self, keys: &Keys) -> Result<Position> {
        let known = self.stream.lock().known();
        let newest = self.walk_to_head(keys, Walk::new(self.parent()?, known)?).await?;
        self.stream.lock().know(newest);
        Ok(newest)
    }

    /// Follows the server's chain to its end, from the snapshot that stands for the beginning if that is gone.
    pub(crate) async fn walk_to_head(&self, keys: &Keys, mut walk: Walk) -> Result<Position> {
        loop {
            let chain = match self.chain(walk.at()).await {
                Err(Error::Problem(problem)) if problem.known_code() == Some(ProblemCode::CursorCompacted) => {
                    let position = self.snapshot_position(keys, walk.known(), *problem).await?;
                    if position.seq <= walk.at().seq {
                        return Err(diverged(walk.at(), position));
                    }
                    walk = Walk::new(position, walk.known())?;
                    continue;
                }
                chain => chain?,
            };
            chain.digests.iter().try_for_each(|digest| walk.step(digest))?;
            if !chain.has_more {
                walk.expect(chain.latest)?;
                walk.end()?;
                return Ok(walk.at());
            }
            if chain.digests.is_empty() {
                return Err(Error::Protocol {
                    status: 200,
                    reason: "a page of the chain that is not empty",
                });
            }
        }
    }

    /// Verifies what came after `head`, and returns the newest position.
    async fn catch_up(&self, head: Position, problem: Problem) -> Result<Position> {
        let known = self.stream.lock().known();
        let latest = self.hash_forward(head, known, problem).await?;
        self.stream.lock().know(latest);
        Ok(latest)
    }
}
