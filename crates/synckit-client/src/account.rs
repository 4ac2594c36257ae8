//! The account: its password and its recovery code. These concern every app of the user, and no app's data.
//!
//! Invariant: the vault and the OPAQUE record change together, in one request.

use http::Method;
use rand::rngs::OsRng;
use synckit_crypto::{AccountKey, KeyError, RecoveryCode, Vault};
use synckit_login::ClientRegistration;
use synckit_protocol::{
    LOGIN_SUITE, ProblemCode, SecretText, UserId,
    wire::accounts::{
        PasswordChangeFinish, PasswordChangeStart, PasswordChanged, PasswordReplaced, PutVault, RegisterFinish,
        RegisterStarted, ResetRequest, ResetStart, VaultWritten,
    },
};

use crate::{
    client::SyncKitClient,
    connection::{call::Call, vault::OlderVault},
    error::{Error, Result},
    password, runtime,
    stream::handle::Stream,
};

impl SyncKitClient {
    /// Replaces the account's password, after checking the old one. The envelopes of the apps stay as they are. Every
    /// other session of the account ends. This session gets a new refresh secret, so a copy of the old one is
    /// worthless.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if `old` is not the password.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (email, password) = (world.email, world.password);
    /// client.change_password(password, "a better password").await?;
    /// assert!(client.authenticate(email, password).await.is_err());
    /// client.authenticate(email, "a better password").await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn change_password(&self, old: &str, new: &str) -> Result<()> {
        password::check(old)?;
        password::check_new(new)?;
        let stream = self.stream()?;
        let connection = &stream.connection;
        let open = connection.open_vault(old, OlderVault::Refused).await?;
        let token = connection.account_token()?;
        let user_id = connection.scope().user_id;
        let (registration, request) = ClientRegistration::start(new, &mut OsRng)?;
        let start = PasswordChangeStart {
            suite: LOGIN_SUITE,
            request: request.into(),
        };
        let started: RegisterStarted = connection
            .api()
            .call(Call::post("/api/account/password/start").body(&start)?.bearer(&token))
            .await?;
        let response = started.response.0.clone();
        let finished = runtime::blocking(move || registration.finish(&response, &mut OsRng)).await??;
        let vault = open
            .vault
            .with_password(&user_id, &finished.export_key, &open.account_key, &mut OsRng)
            .map_err(Error::Key)?;
        let finish = PasswordChangeFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: vault.encode().into(),
            expected_version: open.version,
        };
        let call = Call::post("/api/account/password").body(&finish)?.bearer(&token);
        let changed: PasswordChanged = connection.api().call(call).await?;
        connection.install_refresh(changed.refresh).await?;
        vault_written(&stream, &vault, &open.account_key).await?;
        connection.remember_login(new, finished.export_key);
        Ok(())
    }

    /// Makes a recovery code: 24 words that open the account as the password does. An earlier code stops working. Show
    /// the code once, for the user to write down; it is not stored anywhere.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if the password is not the account's.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let password = world.password;
    /// let code = client.recovery_code(password).await?;
    /// println!("Write this down: {}", *code.words());
    /// assert_eq!(code.words().split(' ').count(), 24);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn recovery_code(&self, password: &str) -> Result<RecoveryCode> {
        let stream = self.stream()?;
        let connection = &stream.connection;
        let open = connection.open_vault(password, OlderVault::Refused).await?;
        let token = connection.account_token()?;
        let user_id = connection.scope().user_id;
        let code = RecoveryCode::generate(&mut OsRng);
        let vault = open
            .vault
            .with_recovery(&user_id, &code, &open.account_key, &mut OsRng)
            .map_err(Error::Key)?;
        let put = PutVault {
            vault: vault.encode().into(),
            expected_version: open.version,
            keep_replaced: false,
        };
        let call = Call::new(Method::PUT, "/api/account/vault").body(&put)?.bearer(&token);
        write_vault(&stream, call, &vault, &open.account_key, &token).await?;
        Ok(code)
    }

    /// Replaces the account key, which the password and the recovery code open, and the master key of this app. Use it
    /// if the account key may have leaked, for example to a person who knew an earlier password and has an old copy of
    /// the vault. Change the password first, so that only the user can open the new vault.
    ///
    /// Later changes are under the new keys. The other devices of this app report [`Error::KeyRotated`] and call
    /// [`SyncKitClient::setup_encryption_existing`]. The recovery code stops working for this app: make a new one.
    /// **Other apps** of the account keep the old account key until a device that holds their keys calls
    /// `setup_encryption_existing` there; a device without them needs the earlier recovery code, once. So keep such a
    /// device or that code within reach. An interrupted call can be repeated.
    ///
    /// # Errors
    /// Those of [`SyncKitClient::setup_encryption_existing`] and [`SyncKitClient::rotate_keys`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// # let password = world.password;
    /// client.change_password(password, "a better password").await?;
    /// client.replace_account_key("a better password").await?;
    /// let code = client.recovery_code("a better password").await?; // the one before opens nothing any more
    /// println!("Write this down: {}", *code.words());
    /// client.push(device.id, vec![note("1", "Buy milk")]).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn replace_account_key(&self, password: &str) -> Result<()> {
        // Check before replacing anything: this device must hold the current keys, because it seals them anew.
        self.setup_encryption_existing(password).await?;
        let stream = self.stream()?;
        let connection = &stream.connection;
        let open = connection.open_vault(password, OlderVault::Refused).await?;
        let access = connection.account_access(password).await?;
        let user_id = connection.scope().user_id;
        let generation = open.vault.generation().checked_add(1);
        let generation = generation.ok_or(Error::Key(KeyError::VaultLimit))?;
        let account_key = AccountKey::generate(&mut OsRng);
        let vault = Vault::of_generation(generation, &user_id, &access.export_key, &account_key, &mut OsRng);
        let put = PutVault {
            vault: vault.encode().into(),
            expected_version: open.version,
            keep_replaced: true,
        };
        let call = Call::new(Method::PUT, "/api/account/vault")
            .body(&put)?
            .bearer(&access.token);
        write_vault(&stream, call, &vault, &account_key, &access.token).await?;
        // As after a password reset, this seals the device's key ring under the new account key.
        self.setup_encryption_existing(password).await?;
        self.rotate_keys(password).await
    }

    /// Asks for a mail with a code for setting a new password. The answer is the same for any address. A newer code ends
    /// no earlier one: each is valid for an hour, until one of them is used.
    ///
    /// # Errors
    /// [`Error::RetryLater`] after too many requests for the address, also by others. Codes from the mails of the last hour
    /// are valid then.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.client();
    /// // The answer does not tell whether the account exists.
    /// client.request_password_reset("nobody@example.com").await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn request_password_reset(&self, email: &str) -> Result<()> {
        let request = ResetRequest {
            email: email.to_owned(),
        };
        self.app
            .api
            .unit(Call::post("/api/accounts/reset/request").body(&request)?)
            .await
    }

    /// Sets a new password with the code from the mail, and ends every session of the account. The server cannot read
    /// the user's data, so it cannot restore access to it. The recovery code can
    /// ([`SyncKitClient::setup_encryption_with_recovery`]), and so can any device that still holds the key
    /// ([`SyncKitClient::setup_encryption_existing`] on that device, after signing in). Without either, the data is
    /// lost.
    ///
    /// # Errors
    /// [`Error::Problem`] with `mail_code_invalid`, or with `version_conflict` if another session changed the password or the
    /// recovery code meanwhile: call it again with the same code.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.signed_in().await?, world.email, world.password);
    /// client.request_password_reset(email).await?;
    /// let code = world.mailed_code("Reset your password").await?; // typed in by the user
    /// client.reset_password(&code, "a new password").await?;
    /// assert!(client.authenticate(email, password).await.is_err());
    /// client.authenticate(email, "a new password").await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn reset_password(&self, code: &str, new_password: &str) -> Result<UserId> {
        password::check_new(new_password)?;
        let app = &self.app;
        let (registration, request) = ClientRegistration::start(new_password, &mut OsRng)?;
        let start = ResetStart {
            code: SecretText::new(code),
            suite: LOGIN_SUITE,
            request: request.into(),
        };
        let started: RegisterStarted = app
            .api
            .call(Call::post("/api/accounts/reset/start").body(&start)?)
            .await?;
        let generation = started.vault_generation.ok_or(Error::Protocol {
            status: 200,
            reason: "the generation of the new vault",
        })?;
        let response = started.response.0.clone();
        let finished = runtime::blocking(move || registration.finish(&response, &mut OsRng)).await??;
        app.pin_server_key(finished.server_public_key).await?;
        let account_key = AccountKey::generate(&mut OsRng);
        let vault = Vault::of_generation(
            generation,
            &started.user_id,
            &finished.export_key,
            &account_key,
            &mut OsRng,
        );
        let finish = RegisterFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: vault.encode().into(),
        };
        let replaced: PasswordReplaced = app.api.call(Call::post("/api/accounts/reset").body(&finish)?).await?;
        Ok(replaced.user_id)
    }
}

/// Sends a write of the vault. A conflict with this device's own write, whose answer was lost, is a success.
async fn write_vault(
    stream: &Stream,
    call: Call<'_>,
    vault: &Vault,
    account_key: &AccountKey,
    token: &SecretText,
) -> Result<()> {
    let connection = &stream.connection;
    match connection.api().call::<VaultWritten>(call).await {
        Ok(_) => {}
        Err(error) if error.is_problem(ProblemCode::VersionConflict) => {
            if connection.vault(token).await?.vault.as_ref() != vault.encode() {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    vault_written(stream, vault, account_key).await
}

/// Remembers the edition of a written vault, on the device and in the envelope.
async fn vault_written(stream: &Stream, vault: &Vault, account_key: &AccountKey) -> Result<()> {
    stream.connection.remember_vault(vault).await?;
    // The vault is written. A failure here must not look like a failed write: the user would discard the recovery code.
    if let Err(error) = stream.name_vault(account_key, vault.edition()).await {
        tracing::warn!(%error, "other devices cannot recognise an older vault until an envelope names this one");
    }
    Ok(())
}
