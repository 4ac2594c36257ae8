//! Setting up encryption: the master key from the envelope into memory and the keychain.
//!
//! Every envelope that goes to the server is signed by the owner key of the one that it replaces (`docs/protocol.md`,
//! section 4.7), so only a device that holds that one's master key can write it.
//!
//! Invariants: a key is made only by `setup_encryption_new`, and only if the server has none; the credential store is
//! written only after the server holds the envelope; an envelope that does not verify is never replaced silently.

use std::{collections::HashMap, sync::Arc};

use http::Method;
use rand::rngs::OsRng;
use synckit_crypto::{AccountKey, Envelope, KeyError, KeyRing, RecoveryCode, StreamKeys, StreamScope, Vault};
use synckit_protocol::{
    EnvelopeClaim, KeyId, OwnerKey, Position, Problem, ProblemCode, UserId,
    wire::keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
};
use zeroize::Zeroizing;

use crate::{
    SyncKitClient,
    client::Inner,
    connection::api::Call,
    error::{Error, Result},
    sign_in::record_name,
};

/// The keys of the stream, ready for use.
pub(crate) struct Keys {
    pub(crate) ring: KeyRing,
    current: Arc<StreamKeys>,
    retired: HashMap<KeyId, Arc<StreamKeys>>,
}

impl Keys {
    pub(crate) fn new(scope: &StreamScope, ring: KeyRing) -> Self {
        let current = Arc::new(ring.current().subkeys(scope));
        let retired = ring
            .retired()
            .iter()
            .map(|retired| (retired.key_id(), Arc::new(retired.key().subkeys(scope))))
            .collect();
        Self { ring, current, retired }
    }

    /// The keys that new batches and blobs are sealed under.
    pub(crate) fn current(&self) -> &Arc<StreamKeys> {
        &self.current
    }

    /// The keys of an id, retired ones included.
    pub(crate) fn find(&self, key_id: &KeyId) -> Option<&Arc<StreamKeys>> {
        if *key_id == self.current.key_id {
            Some(&self.current)
        } else {
            self.retired.get(key_id)
        }
    }

    /// Whether a batch that ends at `after` may be sealed under a key: a retired one ends at its last position.
    pub(crate) fn permits(&self, key_id: &KeyId, after: Position) -> bool {
        self.ring.key_for(key_id).is_some_and(|key| key.permits(after))
    }
}

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

impl SyncKitClient {
    /// Makes the master key of a new user of this app, wraps it for the password, stores the envelope on the server,
    /// and then the key in the credential store. For the first device only.
    ///
    /// # Errors
    /// [`Error::KeyAlreadyExists`] if any device was first, [`Error::InvalidCredentials`] if the password is not the
    /// account's, [`Error::PasswordWasReset`] never: there is nothing to open yet.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let password = world.password;
    /// use synckit_client::Error;
    ///
    /// client.setup_encryption_new(password).await?;
    /// let error = client.setup_encryption_new(password).await.unwrap_err();
    /// assert!(matches!(error, Error::KeyAlreadyExists)); // another device was first: setup_encryption_existing
    /// # Ok(())
    /// # });
    /// ```
    pub async fn setup_encryption_new(&self, password: &str) -> Result<()> {
        let inner = &self.inner;
        let scope = inner.scope()?;
        inner.with_credentials(|credentials| credentials.probe()).await?;
        let open = inner.open_vault(password).await?;
        let ring = KeyRing::generate(&scope, &mut OsRng);
        let envelope = Envelope::seal(&scope, &open.account_key, open.vault.generation(), 1, &ring, &mut OsRng)
            .map_err(Error::Key)?;
        match inner.put_envelope(&scope, &ring, &envelope, None, None).await? {
            EnvelopePut::Written => inner.install_keys(&scope, ring, &envelope).await,
            EnvelopePut::AnotherWasFirst(_) => Err(Error::KeyAlreadyExists),
            EnvelopePut::Behind(problem) => Err(Error::Problem(problem)),
        }
    }

    /// Fetches the envelope, opens it with the password, and stores the key in the credential store: once on each
    /// device, and again after [`Error::KeyRotated`].
    ///
    /// # Errors
    /// [`Error::NoServerKey`] if no device has set up encryption yet, [`Error::InvalidCredentials`],
    /// [`Error::PasswordWasReset`] if this device does not hold the key either (one that does wraps it anew), [`Error::EnvelopeReplaced`] if the server holds older keys than this device, [`Error::KeyMaterialForged`] if what the server holds does not verify.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (laptop, device) = world.device("laptop").await?;
    /// # laptop.push(device.id, vec![note("1", "Buy milk")]).await?;
    /// # let (phone, email, password) = (world.client(), world.email, world.password);
    /// use synckit_client::Cursor;
    ///
    /// phone.authenticate(email, password).await?;
    /// phone.setup_encryption_existing(password).await?; // the one password prompt of this device
    /// let device = phone.register_device("Pixel", "android").await?;
    /// let (changes, ..) = phone.pull(device.id, Cursor::START).await?;
    /// assert_eq!(changes[0].row_id, "1"); // written on the laptop
    /// # Ok(())
    /// # });
    /// ```
    pub async fn setup_encryption_existing(&self, password: &str) -> Result<()> {
        let inner = &self.inner;
        let scope = inner.scope()?;
        inner.with_credentials(|credentials| credentials.probe()).await?;
        // The device's own key first: another process of it may change the key at any moment, and an envelope that was
        // asked for before would then look like one of an earlier time.
        let held = inner.stored_ring(&scope).await?;
        let found = inner.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        if let Some(held) = held.as_ref().filter(|ring| envelope.key_version() < ring.key_version()) {
            return Err(Error::EnvelopeReplaced {
                held_version: held.key_version(),
                found_version: envelope.key_version(),
            });
        }
        let open = inner.open_vault(password).await?;
        if envelope.vault_generation() != open.vault.generation() {
            let held = held.filter(|ring| envelope.verify_mac(&scope, ring.current()).is_ok());
            let ring = held.ok_or(Error::PasswordWasReset {
                envelope_generation: envelope.vault_generation(),
                vault_generation: open.vault.generation(),
            })?;
            let generation = open.vault.generation();
            return inner
                .reseal(&scope, ring, &open.account_key, generation, Some(&found), None)
                .await;
        }
        let ring = envelope
            .open(&scope, &open.account_key)
            .map_err(Error::KeyMaterialForged)?;
        inner.install_keys(&scope, ring, envelope).await
    }

    /// Whether the server holds an envelope of this user in this app: whether some device has set up encryption.
    ///
    /// # Errors
    /// Those of any call; in particular, a server that cannot be reached is an error and never "no".
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let password = world.password;
    /// if client.has_server_key().await? {
    ///     client.setup_encryption_existing(password).await?;
    /// } else {
    ///     client.setup_encryption_new(password).await?;
    /// }
    /// assert!(client.has_server_key().await?);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn has_server_key(&self) -> Result<bool> {
        Ok(self.inner.envelope().await?.is_some())
    }

    /// Restores session and key from the credential store, without any prompt and without the server. The client is
    /// then ready to sync. If somebody is signed in, only that user's key is loaded.
    ///
    /// # Errors
    /// [`Error::NoStoredKey`] if there is nothing stored, [`Error::Credentials`] if the keychain cannot be read.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (config, email, password) = (world.config(), world.email, world.password);
    /// # world.signed_in().await?;
    /// # let file = synckit_client::CredentialStore::File(world.path("credentials.json"));
    /// # let build = || synckit_client::SyncKitClient::builder(config.clone()).credential_store(file.clone()).build();
    /// # let client = build();
    /// use synckit_client::Error;
    ///
    /// // The start of an app.
    /// match client.try_load_key_from_keychain() {
    ///     Ok(()) => println!("ready"),
    ///     Err(Error::NoStoredKey) => {
    ///         client.authenticate(email, password).await?; // the sign-in dialog
    ///         client.setup_encryption_new(password).await?;
    ///     }
    ///     Err(other) => return Err(other.into()), // a locked keychain is not an empty one
    /// }
    /// # build().try_load_key_from_keychain()?;
    /// # assert!(client.user_id().is_some());
    /// # Ok(())
    /// # });
    /// ```
    pub fn try_load_key_from_keychain(&self) -> Result<()> {
        let inner = &self.inner;
        // A wrong URL must not look like an empty keychain.
        inner.api.server()?;
        let session = inner.restore_session()?.ok_or(Error::NoStoredKey)?;
        let scope = session.scope;
        let record = |name| inner.credentials.read(&record_name(scope.user_id, name));
        let ring = record("keys")?.ok_or(Error::NoStoredKey)?;
        let ring = KeyRing::from_secret_bytes(&scope, &ring).map_err(Error::Key)?;
        let (position, skipped) = (record("position")?, record("skipped")?);
        if inner.scope().is_err() {
            inner.install_session(session);
        }
        let mut stream = inner.stream.lock();
        stream.know(ring.floor());
        if let Some(position) = position {
            stream.restore(&position);
        }
        if let Some(skipped) = skipped {
            stream.restore_skipped(&skipped);
        }
        drop(stream);
        *inner.keys.write() = Some(Arc::new(Keys::new(&scope, ring)));
        Ok(())
    }

    /// As [`SyncKitClient::setup_encryption_existing`], with the recovery code in place of the password: after the
    /// password was reset, or on a device that signed in with it minutes ago. After a reset the envelope is sealed again
    /// under the account's new key if the sign-in was with the new password, so that the password opens it from then on.
    ///
    /// # Errors
    /// [`Error::WrongRecoveryCode`], [`Error::NoServerKey`], [`Error::FreshLoginRequired`] if the last password sign-in
    /// is older than five minutes.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (laptop, _) = world.device("laptop").await?;
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// use synckit_client::RecoveryCode;
    ///
    /// let on_paper = laptop.recovery_code(password).await?.words();
    ///
    /// // Later, on a new device, after the password was reset by mail:
    /// # client.request_password_reset(email).await?;
    /// # let mailed = world.mailed_code("Reset your password").await?;
    /// client.reset_password(&mailed, "a new password").await?;
    /// client.authenticate(email, "a new password").await?;
    /// client.setup_encryption_with_recovery(&RecoveryCode::parse(&on_paper)?).await?;
    /// # // From now on the new password opens it.
    /// # let next = world.client();
    /// # next.authenticate(email, "a new password").await?;
    /// # next.setup_encryption_existing("a new password").await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn setup_encryption_with_recovery(&self, code: &RecoveryCode) -> Result<()> {
        let inner = &self.inner;
        let scope = inner.scope()?;
        inner.with_credentials(|credentials| credentials.probe()).await?;
        let found = inner.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        let token = inner.account_token().ok_or(Error::FreshLoginRequired)?;
        let answer = inner.vault(&token).await?;
        let generation = envelope.vault_generation();
        let vaults = std::iter::once(&answer.vault).chain(answer.earlier.iter().rev());
        let account_key = vaults
            .filter_map(|bytes| Vault::decode(bytes.as_ref()).ok())
            .find(|vault| vault.generation() == generation)
            .and_then(|vault| vault.open_with_recovery(&scope.user_id, code).ok())
            .ok_or(Error::WrongRecoveryCode)?;
        let ring = envelope.open(&scope, &account_key).map_err(Error::KeyMaterialForged)?;
        let current = Vault::decode(answer.vault.as_ref()).map_err(Error::KeyMaterialForged)?;
        if current.generation() == generation {
            return inner.install_keys(&scope, ring, envelope).await;
        }
        let Some(account_key) = inner.cached_account_key(scope.user_id, &current) else {
            return inner.install_keys(&scope, ring, envelope).await;
        };
        inner
            .reseal(&scope, ring, &account_key, current.generation(), Some(&found), None)
            .await
    }
}

impl Inner {
    /// The account key of a vault, if the password of the last sign-in opens it.
    fn cached_account_key(&self, user_id: UserId, vault: &Vault) -> Option<AccountKey> {
        let cache = self.login_cache.lock();
        vault
            .open_with_password(&user_id, cache.as_ref()?.any_export_key()?)
            .ok()
    }

    /// The server's envelope. Only the code `no_envelope` means that there is none: a 404 of any other
    /// kind must never lead to a second key.
    pub(crate) async fn envelope(&self) -> Result<Option<EnvelopeInUse>> {
        let answer: EnvelopeAnswer = match self.authorized(Call::get("/api/sync/keys")).await {
            Ok(answer) => answer.decode()?,
            Err(error) if error.is_problem(ProblemCode::NoEnvelope) => return Ok(None),
            Err(error) => return Err(error),
        };
        let envelope = Envelope::decode(answer.envelope.as_ref()).map_err(Error::KeyMaterialForged)?;
        // The key id is inside the seal; a server that names another serves another envelope. The version is not
        // compared: it is the server's count, and differs for an envelope that was put back.
        if envelope.key_id() != answer.key_id {
            return Err(Error::KeyMaterialForged(KeyError::Malformed {
                what: "envelope of this key",
            }));
        }
        Ok(Some(EnvelopeInUse {
            envelope,
            version: answer.version,
            owner: answer.owner,
        }))
    }

    /// Writes an envelope of a ring in the place of the server's. A conflict with our own write, whose answer was lost,
    /// is a success.
    ///
    /// It is signed by the owner key that the server names, which the ring must hold: as its current key, or as one that
    /// it retired.
    pub(crate) async fn put_envelope(
        &self,
        scope: &StreamScope,
        ring: &KeyRing,
        envelope: &Envelope,
        replaced: Option<&EnvelopeInUse>,
        head: Option<Position>,
    ) -> Result<EnvelopePut> {
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

    /// The key ring in the credential store.
    pub(crate) async fn stored_ring(&self, scope: &StreamScope) -> Result<Option<KeyRing>> {
        let name = record_name(scope.user_id, "keys");
        let record = self
            .with_credentials(move |credentials| credentials.read(&name))
            .await?;
        record
            .map(|record| KeyRing::from_secret_bytes(scope, &record).map_err(Error::Key))
            .transpose()
    }

    /// Wraps a key ring for another account key than the envelope's, or in the place of an older envelope.
    pub(crate) async fn reseal(
        &self,
        scope: &StreamScope,
        ring: KeyRing,
        account_key: &AccountKey,
        generation: u32,
        replaced: Option<&EnvelopeInUse>,
        head: Option<Position>,
    ) -> Result<()> {
        let ring = match self.stream.lock().known() {
            Some(known) if known.seq > ring.floor().seq => ring.with_floor(known).map_err(Error::Key)?,
            _ => ring,
        };
        let version = replaced.map_or(0, |replaced| replaced.version) + 1;
        let envelope = Envelope::seal(scope, account_key, generation, version, &ring, &mut OsRng);
        let envelope = envelope.map_err(Error::Key)?;
        match self.put_envelope(scope, &ring, &envelope, replaced, head).await? {
            EnvelopePut::Written => self.install_keys(scope, ring, &envelope).await,
            // What another device wrote is opened by the next call.
            EnvelopePut::AnotherWasFirst(key_id) => Err(Error::KeyRotated { key_id }),
            EnvelopePut::Behind(problem) => Err(Error::Problem(problem)),
        }
    }

    /// Makes keys current in memory and in the credential store.
    pub(crate) async fn install_keys(&self, scope: &StreamScope, ring: KeyRing, envelope: &Envelope) -> Result<()> {
        let user_id = scope.user_id;
        let secret = Zeroizing::new(ring.to_secret_bytes().to_vec());
        let envelope = envelope.encode();
        self.restore_stream(user_id).await?;
        self.stream.lock().know(ring.floor());
        *self.keys.write() = Some(Arc::new(Keys::new(scope, ring)));
        self.with_credentials(move |credentials| {
            credentials.write(&record_name(user_id, "keys"), &secret)?;
            credentials.write(&record_name(user_id, "envelope"), &envelope)
        })
        .await
    }

    /// Takes up what the credential store remembers of the stream's history.
    pub(crate) async fn restore_stream(&self, user_id: UserId) -> Result<()> {
        let (position, skipped) = self
            .with_credentials(move |credentials| {
                let read = |name| credentials.read(&record_name(user_id, name));
                Ok((read("position")?, read("skipped")?))
            })
            .await?;
        let mut stream = self.stream.lock();
        if let Some(position) = position {
            stream.restore(&position);
        }
        if let Some(skipped) = skipped {
            stream.restore_skipped(&skipped);
        }
        Ok(())
    }
}
