//! Setting up encryption: the master key from the envelope into memory and the keychain.
//!
//! Invariants: a key is made only by `setup_encryption_new`, and only if the server has none; the credential store is
//! written only after the server holds the envelope; an envelope that does not verify is never replaced silently.

use rand::rngs::OsRng;
use synckit_crypto::{AccountKey, Envelope, KeyRing, RecoveryCode, Vault, VaultEdition};

use crate::{
    client::SyncKitClient,
    connection::vault::OlderVault,
    error::{Error, Result},
    password,
    secrets::accounts::Accounts,
    stream::{
        envelope::{EnvelopeInUse, EnvelopePut, Opener, no_further_version},
        handle::Stream,
    },
    tampering::Tampering,
};

impl SyncKitClient {
    /// For the first device only: creates the master key of a new user of this app, wraps it for the password, stores
    /// the envelope on the server, and then the key in the credential store.
    ///
    /// # Errors
    /// [`Error::KeyAlreadyExists`] if another device was first, [`Error::InvalidCredentials`] if the password is not
    /// the account's.
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
        let stream = self.stream()?;
        let scope = stream.scope();
        self.app.secrets.probe().await?;
        let open = stream.connection.open_vault(password, OlderVault::Refused).await?;
        let ring = KeyRing::generate(&scope, &mut OsRng);
        let envelope = Envelope::seal(&scope, &open.account_key, open.vault.edition(), 1, &ring, &mut OsRng)
            .map_err(Error::Key)?;
        match stream.put_envelope(&ring, &envelope, None, None).await? {
            EnvelopePut::Written => stream.install_keys(ring, &envelope).await,
            EnvelopePut::AnotherWasFirst(_) => Err(Error::KeyAlreadyExists),
            EnvelopePut::Behind(problem) => Err(Error::Problem(problem)),
            EnvelopePut::SnapshotReplaced => Err(unexpected_answer()),
        }
    }

    /// Fetches the envelope, opens it with the password, and stores the key in the credential store: once on each
    /// device, and again after [`Error::KeyRotated`].
    ///
    /// # Errors
    /// [`Error::NoServerKey`] if no device has set up encryption yet, [`Error::InvalidCredentials`],
    /// [`Error::PasswordWasReset`] if this device does not hold the key either (a device with the key wraps it anew),
    /// [`Tampering::EnvelopeReplaced`](crate::Tampering::EnvelopeReplaced) if the server holds older keys than this
    /// device, [`Tampering::KeyMaterialForged`](crate::Tampering::KeyMaterialForged) if the server's envelope or vault
    /// does not verify.
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
        password::check(password)?;
        let stream = self.stream()?;
        self.app.secrets.probe().await?;
        // Read the device's own key first: another process of the device may change the key at any moment, and an
        // envelope requested before that change would look like a replayed one.
        let held = stream.stored_ring().await?;
        let found = stream.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        let open = stream.connection.open_vault(password, OlderVault::Refused).await?;
        let edition = open.vault.edition();
        match stream.ring_in(envelope, Opener::AccountKey(&open.account_key, edition), held.as_ref()) {
            // The password was reset, and this device still has the key.
            Err(Error::PasswordWasReset { .. })
                if held.as_ref().is_some_and(|held| held.key_id() == envelope.key_id()) =>
            {
                let ring = stream.ring_in(envelope, Opener::HeldRing, held.as_ref())?;
                reseal(&stream, ring, &open.account_key, edition, &found).await
            }
            ring => stream.install_keys(ring?, envelope).await,
        }
    }

    /// Whether the server holds an envelope of this user in this app: whether some device has set up encryption.
    ///
    /// # Errors
    /// Those of any call. An unreachable server is an error and never "no".
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
        Ok(self.stream()?.envelope().await?.is_some())
    }

    /// Restores session and key from the credential store, without a prompt and without the server. The client is then
    /// ready to sync. If a user is signed in, only that user's key is loaded. Otherwise the account that the app used
    /// last is loaded, unless it signed out. [`SyncKitClient::load_account`] chooses another one.
    ///
    /// # Errors
    /// [`Error::NoStoredKey`] if this account has no stored session or key, [`Error::Credentials`] if the keychain
    /// cannot be read.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (config, email, password) = (world.config(), world.email, world.password);
    /// # world.signed_in().await?;
    /// # let file = synckit_client::FileStore::new(world.path("credentials.json"));
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
        // A wrong URL must not look like an empty keychain.
        self.app.api.server()?;
        match self.stream() {
            Ok(stream) => stream.load(),
            Err(_) => {
                let last = Accounts::read(&self.app.secrets)?.last;
                self.load(last.ok_or(Error::NoStoredKey)?)
            }
        }
    }

    /// Like [`SyncKitClient::setup_encryption_existing`], with the recovery code in place of the password: after a
    /// password reset, or on a device that signed in with the password minutes ago. If the sign-in used the new
    /// password after a reset, the envelope is also sealed under the account's new key, and the new password opens it
    /// from then on.
    ///
    /// # Errors
    /// [`Error::WrongRecoveryCode`], [`Error::NoServerKey`], [`Error::FreshLoginRequired`] if the last password sign-in
    /// is older than five minutes, and those of [`SyncKitClient::setup_encryption_existing`] for forged or replaced
    /// keys.
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
        let stream = self.stream()?;
        let scope = stream.scope();
        self.app.secrets.probe().await?;
        let held = stream.stored_ring().await?;
        let found = stream.envelope().await?.ok_or(Error::NoServerKey)?;
        let envelope = &found.envelope;
        let answer = stream.connection.vault(&stream.connection.account_token()?).await?;
        let generation = envelope.vault_generation();
        let vaults = std::iter::once(&answer.vault).chain(answer.earlier.iter().rev());
        let (vault, account_key) = vaults
            .filter_map(|bytes| Vault::decode(bytes.as_ref()).ok())
            .find(|vault| vault.generation() == generation)
            .and_then(|vault| {
                let account_key = vault.open_with_recovery(&scope.user_id, code).ok()?;
                Some((vault, account_key))
            })
            .ok_or(Error::WrongRecoveryCode)?;
        let ring = stream.ring_in(
            envelope,
            Opener::AccountKey(&account_key, vault.edition()),
            held.as_ref(),
        )?;
        let current = Vault::decode(answer.vault.as_ref()).map_err(Tampering::KeyMaterialForged)?;
        if current.generation() == generation {
            stream.connection.check_vault(&current).await?;
            stream.connection.remember_vault(&current).await?;
            return stream.install_keys(ring, envelope).await;
        }
        let Some(account_key) = stream.connection.account_key_of(&current) else {
            return stream.install_keys(ring, envelope).await;
        };
        stream.connection.check_vault(&current).await?;
        stream.connection.remember_vault(&current).await?;
        reseal(&stream, ring, &account_key, current.edition(), &found).await
    }
}

/// Seals a key ring under another account key than that of its envelope.
async fn reseal(
    stream: &Stream,
    ring: KeyRing,
    account_key: &AccountKey,
    edition: VaultEdition,
    replaced: &EnvelopeInUse,
) -> Result<()> {
    let ring = match stream.state.known() {
        Some(known) if known.seq > ring.floor().seq => ring.with_floor(known).map_err(Error::Key)?,
        _ => ring,
    };
    let version = replaced.version.checked_add(1).ok_or_else(no_further_version)?;
    let envelope = Envelope::seal(&stream.scope(), account_key, edition, version, &ring, &mut OsRng);
    let envelope = envelope.map_err(Error::Key)?;
    match stream.put_envelope(&ring, &envelope, Some(replaced), None).await? {
        EnvelopePut::Written => stream.install_keys(ring, &envelope).await,
        // Another device wrote an envelope; the next call opens it.
        EnvelopePut::AnotherWasFirst(key_id) => Err(Error::KeyRotated { key_id }),
        EnvelopePut::Behind(problem) => Err(Error::Problem(problem)),
        EnvelopePut::SnapshotReplaced => Err(unexpected_answer()),
    }
}

/// The error for an answer about the end of a key to a request that ends no key.
fn unexpected_answer() -> Error {
    Error::Protocol {
        status: 409,
        reason: "an answer about the envelope",
    }
}
