//! Sign-up, sign-in and sign-out.

use std::sync::Arc;

use http::Method;
use rand::rngs::OsRng;
use synckit_crypto::{AccountKey, StreamScope, Vault};
use synckit_login::{ClientLogin, ClientRegistration, ExportKey};
use synckit_protocol::{
    AppId, LOGIN_SUITE, ProblemCode, SecretText, UserId,
    wire::{
        accounts::{RegisterFinish, RegisterStart, RegisterStarted, Registered},
        auth::{LoginFinish, LoginStart, LoginStarted, SignedIn},
    },
};

use crate::{
    client::SyncKitClient,
    connection::{app::App, call::Call},
    error::{Error, Result},
    password, runtime,
    secrets::{accounts, records::Record},
    state::session::Tokens,
    stream::handle::Stream,
};

/// The result of a registration.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, email, password) = (world.client(), world.email, world.password);
/// use synckit_client::Registration;
///
/// let registration = client.create_account(email, password).await?;
/// assert!(matches!(registration, Registration::Complete(_))); // this server sends no mail
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// The account can be used: call [`SyncKitClient::authenticate`].
    Complete(UserId),
    /// The address must be confirmed by the code that was mailed to it: call [`SyncKitClient::confirm_account`].
    Pending,
}

impl SyncKitClient {
    /// Creates an account on the server. The password does not leave this device: the server stores an OPAQUE record
    /// (RFC 9807) and a vault that only the password, or later a recovery code, opens.
    ///
    /// Where the server sends mail, the account is [`Registration::Pending`] until the address is confirmed:
    /// [`SyncKitClient::confirm_account`] signs in with the code from the mail. Elsewhere, sign in with
    /// [`SyncKitClient::authenticate`].
    ///
    /// If the address already has an account, the answer is the same, and the owner gets a mail. A sign-in then fails
    /// unless the password is that account's.
    ///
    /// # Errors
    /// [`Error::Problem`] with `registration_closed` or `invite_invalid`, or with `invalid_value` for an invalid
    /// address.
    /// [`Error::RetryLater`] after many registrations, from this network address or of this e-mail address.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// use synckit_client::Registration;
    ///
    /// match client.create_account(email, password).await? {
    ///     Registration::Complete(user_id) => {
    ///         let (signed_in, _app_id) = client.authenticate(email, password).await?;
    ///         assert_eq!(signed_in, user_id);
    ///     }
    ///     Registration::Pending => println!("ask for the code that was mailed: see confirm_account"),
    /// }
    /// # assert!(client.user_id().is_some());
    /// # Ok(())
    /// # });
    /// ```
    pub async fn create_account(&self, email: &str, password: &str) -> Result<Registration> {
        register(&self.app, email, password, None).await
    }

    /// Creates an account on a server that requires an invitation.
    ///
    /// # Errors
    /// As [`SyncKitClient::create_account`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// let invite = world.admin.create_invite().await?; // the operator's part
    /// client.create_account_with_invite(email, password, invite.expose()).await?;
    /// client.authenticate(email, password).await?;
    /// assert!(client.user_id().is_some());
    /// # Ok(())
    /// # });
    /// ```
    pub async fn create_account_with_invite(&self, email: &str, password: &str, invite: &str) -> Result<Registration> {
        register(&self.app, email, password, Some(SecretText::new(invite))).await
    }

    /// Confirms the address of a pending account with the code from the mail, and signs in, as
    /// [`SyncKitClient::authenticate`] does. The code works only with the password of the same registration, and only
    /// until the address is registered again. Afterwards sign in with `authenticate`, also if the answer of this call was
    /// lost.
    ///
    /// # Errors
    /// [`Error::Problem`] with `mail_code_invalid` if the code is wrong, too old or used: register again.
    /// [`Error::InvalidCredentials`] if the password is not the one of the registration. Otherwise those of
    /// `authenticate`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run_with_mail(async |world| {
    /// # let (client, email, password) = (world.client(), world.email, world.password);
    /// use synckit_client::{Error, Registration};
    ///
    /// assert_eq!(client.create_account(email, password).await?, Registration::Pending);
    /// let error = client.authenticate(email, password).await.unwrap_err();
    /// assert!(matches!(error, Error::AddressNotConfirmed)); // ask for the code
    ///
    /// let code = world.mailed_code("Confirm your address").await?; // typed in by the user
    /// client.confirm_account(email, password, &code).await?;
    /// assert!(client.user_id().is_some());
    /// # Ok(())
    /// # });
    /// ```
    pub async fn confirm_account(&self, email: &str, password: &str, code: &str) -> Result<(UserId, AppId)> {
        self.sign_in(email, password, Some(code)).await
    }

    /// Signs in. The session is kept in the credential store; the SDK renews it as long as it is used at least once in
    /// 90 days. Signing in as another user drops the previous user's key from memory.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`], [`Error::AddressNotConfirmed`] instead if this client registered the address and it
    /// is not confirmed yet, [`Error::ApiKeyUnusable`], [`Error::ApiKeyInvalid`], [`Error::RetryLater`] after too many
    /// guesses, [`Tampering::OtherApp`](crate::Tampering::OtherApp) if the server's answer is about another app than
    /// that of the API key, [`Tampering::ServerKeyChanged`](crate::Tampering::ServerKeyChanged) if the server's key is
    /// not the one of the first sign-in, [`Error::Credentials`] if the machine has no keychain.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.signed_in().await?, world.email, world.password);
    /// use synckit_client::Error;
    ///
    /// let (user_id, _app_id) = client.authenticate(email, password).await?;
    /// assert_eq!(client.user_id(), Some(user_id));
    /// let error = client.authenticate(email, "a typing mistake").await.unwrap_err();
    /// assert!(matches!(error, Error::InvalidCredentials)); // ask again
    /// # Ok(())
    /// # });
    /// ```
    pub async fn authenticate(&self, email: &str, password: &str) -> Result<(UserId, AppId)> {
        match self.sign_in(email, password, None).await {
            // The server answers the same for an address without an account, so only this client can tell.
            Err(Error::InvalidCredentials) if self.app.pending.is(email) => Err(Error::AddressNotConfirmed),
            signed_in => signed_in,
        }
    }

    async fn sign_in(&self, email: &str, password: &str, code: Option<&str>) -> Result<(UserId, AppId)> {
        let app = &self.app;
        // A secret key that was put into an app by mistake must never leave the machine.
        app.app_id()?;
        password::check(password)?;
        app.secrets.probe().await?;
        // The server answers the last message of a login once. If that answer was lost, only another login yields a
        // session.
        let logged_in = match self.log_in(email, password, code).await {
            Err(error) if error.is_problem(ProblemCode::LoginExpired) => {
                match self.log_in(email, password, code).await {
                    // The login whose answer was lost has used the code up.
                    Err(error) if code.is_some() && error.is_problem(ProblemCode::MailCodeInvalid) => {
                        self.log_in(email, password, None).await
                    }
                    logged_in => logged_in,
                }
            }
            logged_in => logged_in,
        };
        let (signed_in, export_key) = logged_in?;
        app.pending.clear();
        let stream = self.install_signed_in(signed_in, Some(email)).await?;
        stream.connection.remember_login(password, export_key);
        let StreamScope { app_id, user_id } = stream.scope();
        Ok((user_id, app_id))
    }

    /// Proves the password to the server once.
    async fn log_in(&self, email: &str, password: &str, code: Option<&str>) -> Result<(SignedIn, ExportKey)> {
        let app = &self.app;
        let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
        let start = LoginStart {
            api_key: app.api_key.clone(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: code.map(SecretText::new),
        };
        let started: LoginStarted = app.api.call(Call::post("/api/sync/auth/start").body(&start)?).await?;
        let finished = app.finish_login(login, &started).await?;
        let finish = LoginFinish {
            api_key: app.api_key.clone(),
            login: started.login,
            ke3: finished.ke3.clone().into(),
        };
        let signed_in: SignedIn = app.api.call(Call::post("/api/sync/auth").body(&finish)?).await?;
        Ok((signed_in, finished.export_key))
    }

    /// Forgets the key by which this device recognises the server, so that the next sign-in accepts and pins any key.
    /// Call it after [`Tampering::ServerKeyChanged`](crate::Tampering::ServerKeyChanged), and only if the operator says
    /// that the server's keys were lost and replaced. A server that replaced the true one still learns neither the
    /// password nor any data. It can refuse service, and it can start another history.
    ///
    /// # Errors
    /// [`Error::Credentials`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, email, password) = (world.signed_in().await?, world.email, world.password);
    /// use synckit_client::{Error, Tampering};
    ///
    /// match client.authenticate(email, password).await {
    ///     // The operator has confirmed that the server's keys were lost and replaced.
    ///     Err(Error::Tampering(Tampering::ServerKeyChanged)) => client.danger_accept_new_server_key().await?,
    ///     other => drop(other?),
    /// }
    /// # client.danger_accept_new_server_key().await?;
    /// # client.authenticate(email, password).await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn danger_accept_new_server_key(&self) -> Result<()> {
        self.app.secrets.run(|secrets| secrets.delete(Record::ServerKey)).await
    }

    /// Ends the session on the server and forgets session and key on this device: in memory at once, and in the
    /// credential store. The data on the server stays.
    ///
    /// # Errors
    /// [`Error::Network`] if the server could not be reached; the device has forgotten session and key anyway.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// use synckit_client::Error;
    ///
    /// client.sign_out().await?;
    /// assert!(matches!(client.devices().await, Err(Error::NotSignedIn)));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn sign_out(&self) -> Result<()> {
        let stream = self.stream()?;
        self.end_session(&stream).await
    }
}

impl SyncKitClient {
    /// Ends a session on the server, and forgets the account on this device even if the server cannot be reached.
    pub(crate) async fn end_session(&self, stream: &Stream) -> Result<()> {
        let call = Call::new(Method::DELETE, "/api/sync/auth");
        let told = stream.connection.authorized_unit(call).await;
        self.forget(stream.scope().user_id).await?;
        match told {
            Ok(()) | Err(Error::SessionEnded | Error::AccountGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Forgets session and keys of a user, in memory and in the credential store.
    pub(crate) async fn forget(&self, user_id: UserId) -> Result<()> {
        if self.user_id() == Some(user_id) {
            self.end();
        }
        self.app
            .secrets
            .run(move |secrets| accounts::forget_account(secrets, user_id))
            .await
    }

    /// Makes a new session current, in memory and in the credential store.
    pub(crate) async fn install_signed_in(&self, signed_in: SignedIn, email: Option<&str>) -> Result<Arc<Stream>> {
        self.app.check_app(signed_in.app_id)?;
        let (app_id, user_id) = (signed_in.app_id, signed_in.user_id);
        let tokens = Tokens {
            token: signed_in.token,
            expires_at: signed_in.expires_at,
            refresh: signed_in.refresh,
        };
        // The list first: records of an account that is not listed would never be found again.
        let email = email.map(str::to_owned);
        self.app
            .secrets
            .run(move |secrets| accounts::use_account(secrets, user_id, email.as_deref()))
            .await?;
        let stream = self.begin(StreamScope { app_id, user_id }, tokens);
        if let Some(token) = signed_in.account_token {
            stream.connection.session.set_account_token(token, runtime::now());
        }
        stream.connection.save_session().await?;
        Ok(stream)
    }
}

async fn register(app: &App, email: &str, password: &str, invite: Option<SecretText>) -> Result<Registration> {
    password::check_new(password)?;
    let (registration, request) = ClientRegistration::start(password, &mut OsRng)?;
    let start = RegisterStart {
        email: email.to_owned(),
        suite: LOGIN_SUITE,
        request: request.into(),
        invite,
    };
    let started: RegisterStarted = app.api.call(Call::post("/api/accounts/start").body(&start)?).await?;
    let response = started.response.0.clone();
    let finished = runtime::blocking(move || registration.finish(&response, &mut OsRng)).await??;
    app.pin_server_key(finished.server_public_key).await?;
    let account_key = AccountKey::generate(&mut OsRng);
    let vault = Vault::create(&started.user_id, &finished.export_key, &account_key, &mut OsRng);
    let finish = RegisterFinish {
        registration: started.registration,
        record: finished.upload.into(),
        vault: vault.encode().into(),
    };
    let registered: Registered = app.api.call(Call::post("/api/accounts").body(&finish)?).await?;
    if registered.pending {
        app.pending.set(email);
        return Ok(Registration::Pending);
    }
    Ok(Registration::Complete(registered.user_id))
}
