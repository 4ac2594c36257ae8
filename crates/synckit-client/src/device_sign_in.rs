//! Sign-in of a machine without a browser, allowed in a browser elsewhere (RFC 8628).

use std::time::Duration;

use synckit_protocol::{
    AppId, UserId, check_name, limits,
    wire::oauth::{DeviceAuthorization, OAuthTokens},
};
use zeroize::Zeroizing;

use crate::{
    client::SyncKitClient,
    connection::{call::Call, retry::is_temporary},
    error::{Error, Result},
    runtime,
};

/// The longest pause between two polls, whatever happens.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest time that a server may let a sign-in wait, in seconds.
const EXPIRES_SECONDS_MAX: u64 = 3600;

/// What the person needs to let this machine sign in.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (_, client) = (world.signed_in().await?, world.client());
/// client
///     .login_with_device_code("build server", |code| {
///         assert!(code.verification_uri_complete.ends_with(&code.user_code));
/// #       world.allow_machine(&code.verification_uri_complete);
///     })
///     .await?;
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceCode {
    /// The code to show: eight letters with a hyphen in the middle. The page shows it, too; the person compares.
    pub user_code: String,
    /// The address of the page on which the person types it.
    pub verification_uri: String,
    /// The same address with the code in it, for a link or a QR code.
    pub verification_uri_complete: String,
    /// How long the person has: 10 minutes.
    pub expires_in: Duration,
}

impl SyncKitClient {
    /// Signs in a machine without a browser: `show` gets an address and a code, to be shown to the person, who opens the
    /// address elsewhere, signs in, and allows it. Returns when that has happened. `device_name` is shown there, beside the network
    /// address of this machine.
    ///
    /// Dropping the future cancels the sign-in. Afterwards encryption needs the password once
    /// ([`SyncKitClient::setup_encryption_existing`]), as on every new device.
    ///
    /// Asks the server every 5 seconds, and less often if the server wants that or cannot be reached. If the last answer is lost, the
    /// code is used up, and the error is [`Error::BrowserSignIn`] with `invalid_grant`: begin again.
    ///
    /// # Errors
    /// [`Error::DeviceSignInDenied`] if the person refused, [`Error::DeviceSignInExpired`] if nobody allowed it within 10 minutes,
    /// [`Error::BrowserSignIn`] if the account was deleted or its password replaced meanwhile, [`Error::RetryLater`] after many
    /// sign-ins from this network address, [`Error::ApiKeyUnusable`], [`Error::ApiKeyInvalid`],
    /// [`Tampering::OtherApp`](crate::Tampering::OtherApp), [`Error::InvalidArgument`] for a name of more than 100 bytes.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (laptop, _) = world.device("laptop").await?;
    /// # let (client, password) = (world.client(), world.password);
    /// let (user_id, _app_id) = client
    ///     .login_with_device_code("build server", |code| {
    ///         println!("Open {} and type {}", code.verification_uri, code.user_code);
    /// #       world.allow_machine(&code.verification_uri_complete);
    ///     })
    ///     .await?;
    /// client.setup_encryption_existing(password).await?; // the one password prompt of this machine
    /// assert_eq!(client.user_id(), Some(user_id));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn login_with_device_code(
        &self,
        device_name: &str,
        show: impl FnOnce(&DeviceCode),
    ) -> Result<(UserId, AppId)> {
        let app = &self.app;
        // A secret key that was put into an app by mistake must never leave the machine.
        app.app_id()?;
        check_name(device_name, limits::DEVICE_NAME_BYTES_MAX).map_err(|error| Error::InvalidArgument {
            argument: "device_name",
            reason: error.to_string(),
        })?;
        app.secrets.probe().await?;
        let call = Call::post("/oauth/device_authorization")
            .form(&[("client_id", &app.api_key), ("device_name", device_name)]);
        let asked: DeviceAuthorization = match app.api.send(&call).await {
            Err(Error::BrowserSignIn { code, .. }) if code == "invalid_client" => return Err(Error::ApiKeyInvalid),
            answer => checked(answer?.decode_json()?)?,
        };
        let until = runtime::now() + Duration::from_secs(asked.expires_in);
        show(&DeviceCode {
            user_code: asked.user_code,
            verification_uri: asked.verification_uri,
            verification_uri_complete: asked.verification_uri_complete,
            expires_in: Duration::from_secs(asked.expires_in),
        });
        let device_code = Zeroizing::new(asked.device_code.expose().to_owned());
        let poll = Call::post("/oauth/token").form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &app.api_key),
            ("device_code", &device_code),
        ]);
        let mut pause = Duration::from_secs(asked.interval);
        let tokens: OAuthTokens = loop {
            if runtime::now() + pause >= until {
                return Err(Error::DeviceSignInExpired);
            }
            runtime::sleep(pause).await;
            // Once: each attempt counts as a poll, and the pauses are the server's.
            match app.api.send(&poll.clone().once()).await {
                Ok(answer) => break answer.decode_json()?,
                Err(error) => pause = pause_after(error, pause)?,
            }
        };
        self.install_tokens(tokens).await
    }
}

/// The pause after a poll that brought no tokens, or the error that ends the sign-in.
fn pause_after(error: Error, pause: Duration) -> Result<Duration> {
    let longer = match &error {
        Error::BrowserSignIn { code, .. } => match code.as_str() {
            "authorization_pending" => pause,
            "slow_down" => pause + Duration::from_secs(limits::DEVICE_SLOW_DOWN_SECONDS),
            "access_denied" => return Err(Error::DeviceSignInDenied),
            "expired_token" => return Err(Error::DeviceSignInExpired),
            "invalid_client" => return Err(Error::ApiKeyInvalid),
            _ => return Err(error),
        },
        Error::RetryLater { retry_after, .. } => pause.max(*retry_after),
        // RFC 8628, section 3.5: a server that does not answer is asked half as often.
        error if is_temporary(error) => pause * 2,
        _ => return Err(error),
    };
    Ok(longer.min(PAUSE_MAX))
}

/// Checks what the server says before it is shown to anybody. A text may go to a terminal, which obeys control characters.
fn checked(asked: DeviceAuthorization) -> Result<DeviceAuthorization> {
    let texts = [
        &asked.user_code,
        &asked.verification_uri,
        &asked.verification_uri_complete,
    ];
    let is_good = (1..=EXPIRES_SECONDS_MAX).contains(&asked.expires_in)
        && (1..=PAUSE_MAX.as_secs()).contains(&asked.interval)
        && texts.iter().all(|text| {
            let is_short = (1..=2048).contains(&text.len());
            is_short && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
    is_good.then_some(asked).ok_or(Error::Protocol {
        status: 200,
        reason: "codes that can be shown, for up to an hour",
    })
}
