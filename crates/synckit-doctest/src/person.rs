//! A person at the sign-in page, without a browser: what its script does, and the two clicks.

use std::error::Error;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::rngs::OsRng;
use reqwest::{Client, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};
use synckit_login::ClientLogin;
use synckit_protocol::{
    ApiKey, AppId, LOGIN_SUITE,
    wire::{
        auth::{LoginStart, LoginStarted},
        oauth::{BrowserSignIn, BrowserSignedIn, PageLoginFinish, PageLoginStart},
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

/// Signs in to the server's pages, types the code of a machine, and lets it sign in.
///
/// # Errors
/// The server refused a step, or could not be reached.
pub async fn allow_machine(page: &str, email: &str, password: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let url = Url::parse(page)?;
    let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
    let start = PageLoginStart {
        email: email.to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
    };
    let started: LoginStarted = post(&http, url.join("/account/sign-in/start")?, &start).await?;
    let finished = login.finish(AppId::from_bytes([0; 16]), &started.ke2.0, None, &mut OsRng)?;
    let finish = PageLoginFinish {
        login: started.login,
        ke3: finished.ke3.into(),
    };
    let sign_in = http.post(url.join("/account/sign-in")?);
    let sign_in = sign_in.header(CONTENT_TYPE, "application/json");
    let signed_in = sign_in.body(serde_json::to_string(&finish)?).send().await?;
    let cookie = signed_in.headers().get("set-cookie").ok_or("no cookie")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let shown = http.get(page).header("cookie", &cookie).send().await?.text().await?;
    let form = value_of(&shown, "form")?;
    let code = value_of(&shown, "user_code")?;
    let send = async |path: &str, fields: &[(&str, &str)]| {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("form", &form)
            .extend_pairs(fields)
            .finish();
        let call = http.post(url.join(path)?).header("cookie", &cookie);
        let call = call
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        Ok::<_, Box<dyn Error + Send + Sync>>(call.send().await?.error_for_status()?.text().await?)
    };
    let question = send("/oauth/device", &[("user_code", &code)]).await?;
    let asked = value_of(&question, "asked")?;
    let answer = [("asked", asked.as_str()), ("same", "yes"), ("answer", "yes")];
    send("/oauth/device/answer", &answer).await?;
    Ok(())
}

/// The value of a field of a page.
fn value_of(page: &str, name: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let input = page
        .split("<input ")
        .find(|input| input.contains(&format!("name=\"{name}\"")));
    let value = input.and_then(|input| input.split("value=\"").nth(1)?.split('"').next());
    Ok(value.ok_or_else(|| format!("no field {name} in the page"))?.to_owned())
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
