//! A person at the sign-in page, without a browser: what its script does, and the two clicks.

use std::error::Error;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::rngs::OsRng;
use reqwest::{Client, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};
use synckit_login::ClientLogin;
use synckit_protocol::{
    ApiKey, LOGIN_SUITE,
    wire::{
        auth::{LoginStart, LoginStarted},
        oauth::{BrowserSignIn, BrowserSignedIn},
    },
};
use url::{Url, form_urlencoded};

/// Opens a sign-in page, proves the password, allows the app, and returns the address that leads back to the app.
///
/// # Errors
/// The server refused a step, or could not be reached.
pub async fn allow(page: &str, email: &str, password: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let url = Url::parse(page)?;
    let api_key = url
        .query_pairs()
        .find(|(name, _)| name == "client_id")
        .ok_or("no client_id")?
        .1;
    let html = http.get(page).send().await?.text().await?;
    let request = html
        .split("data-request=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
    let start = LoginStart {
        api_key: api_key.clone().into_owned(),
        email: email.to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
        code: None,
    };
    let started: LoginStarted = post(&http, url.join("/api/sync/auth/start")?, &start).await?;
    let app_id = ApiKey::publishable(&api_key)?.app_id();
    let finished = login.finish(app_id, &started.ke2.0, None, &mut OsRng)?;
    let finish = BrowserSignIn {
        request: URL_SAFE_NO_PAD.decode(request.ok_or("no request in the page")?)?.into(),
        login: started.login,
        ke3: finished.ke3.into(),
    };
    let signed_in: BrowserSignedIn = post(&http, url.join("/oauth/sign-in")?, &finish).await?;
    let answer = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant", &URL_SAFE_NO_PAD.encode(&signed_in.grant.0))
        .append_pair("answer", "yes")
        .finish();
    let decision = http.post(url.join("/oauth/authorize")?);
    let decision = decision
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(answer);
    let back = decision.send().await?;
    Ok(back
        .headers()
        .get("location")
        .ok_or("no way back")?
        .to_str()?
        .to_owned())
}

async fn post<T: DeserializeOwned>(
    http: &Client,
    url: Url,
    body: &impl Serialize,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    let request = http
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .body(serde_json::to_string(body)?);
    Ok(serde_json::from_str(&request.send().await?.text().await?)?)
}
