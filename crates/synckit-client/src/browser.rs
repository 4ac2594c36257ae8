//! Sign-in by browser, in which the app does not see the password: authorization code with PKCE (RFC 7636) and a loopback
//! redirect (RFC 8252).

use std::{io, net::Ipv4Addr, pin::pin, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt as _, stream};
use rand::{RngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};
use synckit_crypto::StreamScope;
use synckit_protocol::{
    AppId, UserId, limits,
    wire::{auth::SignedIn, oauth::OAuthTokens},
};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
    runtime::{self, AsyncReadExt as _, AsyncWriteExt as _, TcpListener, TcpStream},
};

/// Bytes of a request to the loopback listener. A browser sends some hundred.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// How long one connection may take to send its request: browsers open some that they do not use.
const REQUEST_SECONDS: u64 = 5;
/// Connections that are waited for at once. A browser opens two or three.
const CONNECTIONS_MAX: usize = 64;

impl SyncKitClient {
    /// Signs in by the browser: waits on a loopback port, lets `open` show the address to the user, and returns when the
    /// browser came back. `open` gets the URL of the sign-in page; it starts a browser, or prints the address.
    ///
    /// Dropping the future cancels the sign-in. Afterwards encryption needs the password once
    /// ([`SyncKitClient::setup_encryption_existing`]), as on every new device: the browser hands out no key.
    ///
    /// # Errors
    /// [`Error::BrowserSignIn`] if the user did not allow it or did not come back in time, [`Error::Io`] if no loopback
    /// port can be opened, and those of [`SyncKitClient::authenticate_with_code`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (_, client) = (world.signed_in().await?, world.client());
    /// # let open_in_browser = |url: &str| world.browse(url);
    /// let (user_id, _app_id) = client
    ///     .login_with_browser(|url| {
    ///         println!("Your browser opens. If it does not, open this address: {url}");
    ///         open_in_browser(url);
    ///     })
    ///     .await?;
    /// assert_eq!(client.user_id(), Some(user_id));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn login_with_browser(&self, open: impl FnOnce(&str)) -> Result<(UserId, AppId)> {
        self.by_browser(|url| open(&url)).await
    }

    /// As [`SyncKitClient::login_with_browser`], for somebody who has no account yet: the page begins with a new account, which
    /// it signs in. The first device of the account then sets encryption up ([`SyncKitClient::setup_encryption_new`]).
    ///
    /// # Errors
    /// Those of [`SyncKitClient::login_with_browser`].
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (_, client, password) = (world.signed_in().await?, world.client(), world.password);
    /// # let open_in_browser = |url: &str| world.browse(url);
    /// let (user_id, _app_id) = client
    ///     .sign_up_with_browser(|url| {
    ///         println!("Make an account at {url}");
    ///         open_in_browser(url);
    ///     })
    ///     .await?;
    /// client.setup_encryption_new(password).await?;
    /// assert_eq!(client.user_id(), Some(user_id));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn sign_up_with_browser(&self, open: impl FnOnce(&str)) -> Result<(UserId, AppId)> {
        self.by_browser(|url| open(&format!("{url}&prompt=create"))).await
    }

    async fn by_browser(&self, open: impl FnOnce(String)) -> Result<(UserId, AppId)> {
        self.app.app_id()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (verifier, state) = (random_text(), random_text());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        open(self.build_authorize_url(port, &state, &challenge));
        let patience = Duration::from_secs(limits::AUTHORIZATION_SECONDS + limits::CONSENT_SECONDS);
        let code = match runtime::timeout(patience, code_from(&listener, &state)).await {
            Some(code) => code?,
            None => {
                return Err(Error::BrowserSignIn {
                    code: "timeout".to_owned(),
                    reason: "the browser did not come back".to_owned(),
                });
            }
        };
        self.authenticate_with_code(&code, &verifier, port).await
    }

    /// The URL to open in the user's browser for a sign-in in which the app does not see the password. `port` is the
    /// loopback port on which the app waits for the redirect to `/callback`, `state` a random value to compare there,
    /// `challenge` the PKCE S256 challenge of a verifier that the app keeps. [`SyncKitClient::login_with_browser`] does all
    /// of it.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{SyncKitClient, SyncKitConfig};
    ///
    /// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
    /// let client = SyncKitClient::new(config);
    /// let url = client.build_authorize_url(49152, "random-state", "challenge-of-the-verifier");
    /// assert!(url.starts_with("https://sync.example.com/oauth/authorize?response_type=code&"));
    /// ```
    #[must_use]
    pub fn build_authorize_url(&self, port: u16, state: &str, challenge: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.app.api_key)
            .append_pair("redirect_uri", &redirect_uri(port))
            .append_pair("state", state)
            .append_pair("code_challenge", challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        match self.app.api.server() {
            Ok(server) => server.url(&format!("/oauth/authorize?{query}")),
            // An invalid configuration is an error of the calls that can fail; the browser shows this URL as broken.
            Err(_) => format!("/oauth/authorize?{query}"),
        }
    }

    /// Signs in with the code of a browser sign-in. `port` is the port of [`SyncKitClient::build_authorize_url`], `verifier`
    /// the one whose challenge stood there. A code is good for 60 seconds, once.
    ///
    /// # Errors
    /// [`Error::BrowserSignIn`] if the server refuses the code, [`Error::ApiKeyUnusable`],
    /// [`Tampering::OtherApp`](crate::Tampering::OtherApp).
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.client();
    /// use synckit_client::Error;
    ///
    /// // `code` came to the loopback port, `verifier` was kept by the app.
    /// let verifier = "43-to-128-characters-that-the-app-drew-at-random";
    /// let (code, port) = ("code from the redirect", 49152);
    /// let error = client.authenticate_with_code(code, verifier, port).await.unwrap_err();
    /// assert!(matches!(error, Error::BrowserSignIn { code, .. } if code == "invalid_grant")); // not one of this server
    /// # Ok(())
    /// # });
    /// ```
    pub async fn authenticate_with_code(&self, code: &str, verifier: &str, port: u16) -> Result<(UserId, AppId)> {
        let app = &self.app;
        // A secret key that was put into an app by mistake must never leave the machine.
        app.app_id()?;
        app.secrets.probe().await?;
        let redirect_uri = redirect_uri(port);
        let call = Call::post("/oauth/token").form(&[
            ("grant_type", "authorization_code"),
            ("client_id", &app.api_key),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", &redirect_uri),
        ]);
        // Once: a code that is sent again ends the session that it opened.
        let tokens: OAuthTokens = match app.api.send(&call.once()).await {
            Err(Error::BrowserSignIn { code, .. }) if code == "invalid_client" => return Err(Error::ApiKeyInvalid),
            answer => answer?.decode_json()?,
        };
        self.install_tokens(tokens).await
    }

    /// Takes the tokens of an OAuth grant.
    pub(crate) async fn install_tokens(&self, tokens: OAuthTokens) -> Result<(UserId, AppId)> {
        let signed_in = SignedIn {
            token: tokens.access_token,
            expires_at: tokens.expires_at,
            refresh: tokens.refresh_token,
            user_id: tokens.user_id,
            app_id: tokens.app_id,
            account_token: None,
        };
        let StreamScope { app_id, user_id } = self.install_signed_in(signed_in, None).await?.scope();
        Ok((user_id, app_id))
    }
}

/// Where the browser returns to. By address, because a name could lead elsewhere.
fn redirect_uri(port: u16) -> String {
    format!("http://127.0.0.1:{port}/callback")
}

/// 256 random bits as text.
fn random_text() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(&mut *bytes);
    Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes))
}

/// Answers requests until one is the redirect of this sign-in, and returns its code. Another program of the machine may
/// connect, too, but does not know the state.
async fn code_from(listener: &TcpListener, state: &str) -> Result<Zeroizing<String>> {
    let answered = stream::poll_fn(|context| listener.poll_accept(context).map(Some))
        .map(|accepted| async move {
            let (connection, _) = accepted?;
            Ok(outcome_on(connection, state).await)
        })
        // One that is silent holds up no other.
        .buffer_unordered(CONNECTIONS_MAX);
    let mut answered = pin!(answered);
    while let Some(answer) = answered.next().await {
        let answer: io::Result<Option<_>> = answer;
        if let Some(outcome) = answer? {
            return outcome;
        }
    }
    // Connections come for ever.
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// What a connection brings back of this sign-in, after it was answered.
async fn outcome_on(mut connection: TcpStream, state: &str) -> Option<Result<Zeroizing<String>>> {
    let patience = Duration::from_secs(REQUEST_SECONDS);
    let target = runtime::timeout(patience, request_of(&mut connection)).await??;
    let answer = Answer::of(&target, state);
    let (status, title, text) = match answer.as_ref().map(|answer| &answer.outcome) {
        None => (
            "404 Not Found",
            "Nothing is here",
            "This is not the way back from a sign-in.",
        ),
        Some(Ok(_)) => (
            "200 OK",
            "You are signed in",
            "Go back to the app. You can close this page.",
        ),
        Some(Err(_)) => (
            "200 OK",
            "You are not signed in",
            "Go back to the app. Nothing was shared.",
        ),
    };
    reply(&mut connection, status, title, text).await;
    answer.map(|answer| answer.outcome)
}

/// The target of a request, if the connection sends one.
async fn request_of(connection: &mut TcpStream) -> Option<Zeroizing<String>> {
    let mut head = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES_MAX));
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() == REQUEST_BYTES_MAX || connection.read_buf(&mut *head).await.ok()? == 0 {
            return None;
        }
    }
    let line = str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    Some(Zeroizing::new(target.to_owned()))
}

/// The way back of one sign-in.
struct Answer {
    outcome: Result<Zeroizing<String>>,
}

impl Answer {
    /// `None` for everything that is not the redirect of this sign-in.
    fn of(target: &str, state: &str) -> Option<Self> {
        let query = target.strip_prefix("/callback?")?;
        let field = |name: &str| {
            let mut fields = form_urlencoded::parse(query.as_bytes());
            fields
                .find(|(other, _)| other == name)
                .map(|(_, value)| value.into_owned())
        };
        // Both sides are random, so the time of the comparison tells nothing that can be used.
        if field("state")? != state {
            return None;
        }
        let outcome = match (field("code"), field("error")) {
            (Some(code), None) => Ok(Zeroizing::new(code)),
            (None, Some(code)) => Err(Error::BrowserSignIn {
                reason: field("error_description").unwrap_or_default(),
                code,
            }),
            _ => return None,
        };
        Some(Self { outcome })
    }
}

async fn reply(connection: &mut TcpStream, status: &str, title: &str, text: &str) {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{title}</title></head><body><h1>{title}</h1><p>{text}</p></body></html>"
    );
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n{page}",
        page.len()
    );
    // The browser may be gone; the code is here anyway.
    let _ = connection.write_all(answer.as_bytes()).await;
    let _ = connection.shutdown().await;
}
