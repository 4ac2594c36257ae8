//! Tokens that do not count, tried against the honest server's own router. The forger here has broken into the server and
//! holds its signing key: so it is the claim that is refused, and not a bad signature.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use synckit_protocol::Problem;

use super::{
    Evidence,
    guesses::sign_in,
    stage::Stage,
    thief::{Thief, refused},
};
use crate::{endpoint::SERVER_URL, golden::Account};

const STATUS: &str = "/api/sync/status";
const VAULT: &str = "/api/account/vault";

/// The header and the claims of a token.
#[derive(Clone)]
struct Token {
    header: Value,
    claims: Value,
}

impl Token {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split('.');
        let mut next = || -> anyhow::Result<Value> {
            let part = parts.next().context("not a token")?;
            Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
        };
        Ok(Self {
            header: next()?,
            claims: next()?,
        })
    }

    fn with_header(&self, field: &str, value: Value) -> Self {
        let mut token = self.clone();
        token.header[field] = value;
        token
    }

    fn with_claim(&self, field: &str, value: Value) -> Self {
        let mut token = self.clone();
        token.claims[field] = value;
        token
    }

    fn unsigned(&self) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", encode(&self.header), encode(&self.claims))
    }

    fn signed(&self, key: &[u8]) -> anyhow::Result<String> {
        let message = self.unsigned();
        let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
        mac.update(message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        Ok(format!("{message}.{signature}"))
    }
}

/// The token of a device's session, as it was sent.
async fn token_of_a_device(stage: &Stage) -> anyhow::Result<String> {
    let thief = Thief::robbing(stage).await?;
    let token = thief.token().strip_prefix("Bearer ").context("not a bearer")?;
    Ok(token.to_owned())
}

/// The key that the server signs tokens with.
fn signing_key(stage: &Stage) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::read(stage.server.data_dir().join("keys/tokens.json"))?;
    let file: Value = serde_json::from_slice(&file)?;
    let secret = file["keys"][0]["secret"].as_str().context("no signing key")?;
    Ok(URL_SAFE_NO_PAD.decode(secret)?)
}

/// Calls the server with a token. `Err` is the server's refusal.
async fn call(stage: &Stage, method: Method, path: &str, token: &str) -> anyhow::Result<Result<(), Problem>> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{SERVER_URL}{path}"))
        .header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = stage.server.call(request.body(Body::empty())?).await?;
    if answer.head.status.is_success() {
        return Ok(Ok(()));
    }
    ensure!(
        answer.head.status == StatusCode::UNAUTHORIZED,
        "{path}: {}",
        answer.head.status
    );
    Ok(Err(serde_json::from_slice(&answer.body)?))
}

async fn read(stage: &Stage, path: &str, token: &str) -> anyhow::Result<Result<(), Problem>> {
    call(stage, Method::GET, path, token).await
}

async fn works(what: &'static str, stage: &Stage, path: &str, token: &str) -> anyhow::Result<()> {
    match read(stage, path, token).await? {
        Ok(()) => Ok(()),
        Err(problem) => bail!("{what} was refused: {}", problem.code),
    }
}

/// Tries forged tokens, and one that the same hands make without a change.
async fn forged(
    stage: Stage,
    forge: impl Fn(&Token, &[u8]) -> anyhow::Result<Vec<String>>,
    control: &str,
) -> anyhow::Result<Evidence> {
    let text = token_of_a_device(&stage).await?;
    works("the honest run", &stage, STATUS, &text).await?;
    let (token, key) = (Token::parse(&text)?, signing_key(&stage)?);
    let mut caught = String::new();
    for forged in forge(&token, &key)? {
        caught = refused(read(&stage, STATUS, &forged).await?, "token_invalid")?;
    }
    works("the control", &stage, STATUS, &token.signed(&key)?).await?;
    Ok(Evidence::new(caught, control))
}

pub(super) async fn no_algorithm(stage: Stage) -> anyhow::Result<Evidence> {
    let forge = |token: &Token, key: &[u8]| {
        let mut forged = Vec::new();
        for name in ["none", "None", "HS384", "HS512", "RS256"] {
            let token = token.with_header("alg", json!(name));
            forged.extend([token.unsigned(), format!("{}.", token.unsigned()), token.signed(key)?]);
        }
        Ok(forged)
    };
    forged(
        stage,
        forge,
        "with HS256 and the server's key, the same claims are believed",
    )
    .await
}

pub(super) async fn other_key(stage: Stage) -> anyhow::Result<Evidence> {
    let api_key = stage.golden.api_key.clone();
    // Anybody has these: nothing, an own key, and the key that every copy of the app contains.
    let forge = |token: &Token, _: &[u8]| {
        let keys: [&[u8]; 3] = [b"", b"another key, which is long enough", api_key.as_bytes()];
        keys.into_iter().map(|key| token.signed(key)).collect()
    };
    forged(stage, forge, "with the server's key, the same token is believed").await
}

pub(super) async fn other_app(stage: Stage) -> anyhow::Result<Evidence> {
    let other = stage.server.create_app("another").await?.app_id;
    let forge = |token: &Token, key: &[u8]| {
        let audiences = [json!(other), json!("account"), json!("*"), Value::Null];
        let forged = audiences
            .into_iter()
            .map(|aud| token.with_claim("aud", aud).signed(key));
        forged.collect()
    };
    forged(stage, forge, "for the app of its session, the same token is believed").await
}

pub(super) async fn other_type(stage: Stage) -> anyhow::Result<Evidence> {
    let forge = |token: &Token, key: &[u8]| {
        let types = [json!("JWT"), json!("account+jwt"), Value::Null];
        let forged = types.into_iter().map(|name| token.with_header("typ", name).signed(key));
        forged.collect()
    };
    forged(stage, forge, "with its own `typ`, the same token is believed").await
}

pub(super) async fn expired(stage: Stage) -> anyhow::Result<Evidence> {
    let token = token_of_a_device(&stage).await?;
    let expires_at = Token::parse(&token)?.claims["exp"].as_u64().context("no expiry")?;
    let clock = stage.server.clock().clone();
    works("the honest run", &stage, STATUS, &token).await?;
    clock.jump(Duration::from_secs(expires_at - 1 - clock.now()));
    works("the control", &stage, STATUS, &token).await?;
    clock.jump(Duration::from_secs(1));
    Ok(Evidence::new(
        refused(read(&stage, STATUS, &token).await?, "token_expired")?,
        "a second before, the same token is believed",
    ))
}

pub(super) async fn ended_session(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    let stolen = token_of_a_device(&stage).await?;
    works("the honest run", &stage, STATUS, &stolen).await?;
    // The user ends it from another session.
    let other = sign_in(&stage, email, password).await?;
    let account = other.account_token.context("no token for the account")?;
    let session = Token::parse(&stolen)?.claims["sid"].clone();
    let path = format!("/api/account/sessions/{}", session.as_str().context("no session")?);
    if let Err(problem) = call(&stage, Method::DELETE, &path, account.expose()).await? {
        bail!("the session was not ended: {}", problem.code);
    }
    let caught = refused(read(&stage, STATUS, &stolen).await?, "session_ended")?;
    works("the control", &stage, STATUS, other.token.expose()).await?;
    Ok(Evidence::new(caught, "the session that ended it continues"))
}

pub(super) async fn app_token_for_the_account(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    let user = sign_in(&stage, email, password).await?;
    let account = user.account_token.context("no token for the account")?;
    works("the honest run", &stage, STATUS, user.token.expose()).await?;
    let mut caught = String::new();
    for path in ["/api/account", "/api/account/export", "/api/account/sessions", VAULT] {
        caught = refused(read(&stage, path, user.token.expose()).await?, "fresh_login_required")?;
    }
    // Nor the other way round.
    refused(read(&stage, STATUS, account.expose()).await?, "token_invalid")?;
    works("the control", &stage, VAULT, account.expose()).await?;
    Ok(Evidence::new(
        caught,
        "with an account token of the last five minutes, the request is answered",
    ))
}
