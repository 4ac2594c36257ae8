//! The account page: who sees it, and what its forms need to change anything.

use http::StatusCode;
use rand::rngs::OsRng;
use synckit_login::{ClientLogin, ClientRegistration};
use synckit_protocol::{
    ApiKey, AppId, ByteString, LOGIN_SUITE, limits,
    wire::{
        accounts::{
            AccountInfo, PasswordChangeFinish, PasswordChangeStart, PasswordChanged, RegisterStarted, SessionList,
        },
        auth::{LoginFinish, LoginStart, LoginStarted, Refresh},
        devices::DeviceList,
        oauth::{PageLoginFinish, PageLoginStart, PageSignedIn},
    },
};
use url::form_urlencoded;

use crate::support::{Answer, Call, PASSWORD, User, World, vault};

pub(super) const FORM: &str = "application/x-www-form-urlencoded";
const PAGES: AppId = AppId::from_bytes([0; 16]);
/// Every page, and every form with what it names beside its proof.
const SHOWN: [&str; 6] = [
    "/account",
    "/account/password",
    "/account/recovery-code",
    "/account/address",
    "/account/export",
    "/account/delete",
];
const SENT: [(&str, &[(&str, &str)]); 6] = [
    ("/account/sign-out", &[]),
    ("/account/address/confirm", &[("asked", "x"), ("code", "y")]),
    ("/account/address", &[("email", "new@example.com")]),
    ("/account/sessions", &[("session", "others")]),
    (
        "/account/devices",
        &[
            ("app", "00000000-0000-0000-0000-000000000001"),
            ("device", "00000000-0000-0000-0000-000000000002"),
        ],
    ),
    ("/account/delete", &[("email", "ada@example.com")]),
];

/// A login for the pages whose last message is not sent yet.
struct Begun(PageLoginFinish);

impl Begun {
    async fn page(world: &World, email: &str, password: &str) -> Self {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng).unwrap();
        let start = PageLoginStart {
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
        };
        let started: LoginStarted = world.post("/account/sign-in/start").json(&start).send().await.ok();
        Self::of(login, PAGES, started)
    }

    async fn app(world: &World, email: &str) -> Self {
        let (login, ke1) = ClientLogin::start(PASSWORD, &mut OsRng).unwrap();
        let start = LoginStart {
            api_key: world.api_key(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: None,
        };
        let started: LoginStarted = world.post("/api/sync/auth/start").json(&start).send().await.ok();
        Self::of(login, ApiKey::publishable(&world.api_key()).unwrap().app_id(), started)
    }

    fn of(login: ClientLogin, app_id: AppId, started: LoginStarted) -> Self {
        let finished = login.finish(app_id, &started.ke2.0, None, &mut OsRng);
        let ke3: ByteString = finished.map_or(vec![0; 64], |finished| finished.ke3).into();
        Self(PageLoginFinish {
            login: started.login,
            ke3,
        })
    }
}

/// A browser that is signed in.
pub(super) struct Browser {
    cookie: String,
    account_token: String,
}

impl Browser {
    pub(super) async fn sign_in(world: &World, email: &str) -> Self {
        let begun = Begun::page(world, email, PASSWORD).await;
        Self::of(&world.post("/account/sign-in").json(&begun.0).send().await)
    }

    fn of(answer: &Answer) -> Self {
        let signed_in: PageSignedIn = answer.ok();
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        Self {
            cookie,
            account_token: signed_in.account_token.expose().to_owned(),
        }
    }

    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    pub(super) fn with(&self, call: Call) -> Call {
        call.header("cookie", &format!("theme=dark; {}; other=1", self.cookie))
    }

    pub(super) async fn get(&self, world: &World, path: &str) -> Answer {
        self.with(world.get(path)).send().await
    }

    /// What this browser's forms carry.
    pub(super) async fn form(&self, world: &World) -> String {
        let page = text_of(&self.get(world, "/account").await);
        let (_, after) = page.split_once("name=\"form\" value=\"").unwrap();
        after.split('"').next().unwrap().to_owned()
    }

    pub(super) async fn send(&self, world: &World, path: &str, form: &str, fields: &[(&str, &str)]) -> Answer {
        self.with(world.post(path))
            .text(FORM, encoded(form, fields))
            .send()
            .await
    }

    /// Sends a form as its page does.
    pub(super) async fn post(&self, world: &World, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(world, path, &self.form(world).await, fields).await
    }

    async fn is_signed_in(&self, world: &World) -> bool {
        let answer = self.get(world, "/account").await;
        assert!(answer.status == StatusCode::OK || answer.header("location").ends_with("/account/sign-in"));
        answer.status == StatusCode::OK
    }
}

pub(super) fn encoded(form: &str, fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("form", form)
        .extend_pairs(fields)
        .finish()
}

#[track_caller]
pub(super) fn text_of(page: &Answer) -> String {
    assert_eq!(
        page.header("content-type"),
        "text/html; charset=utf-8",
        "{}",
        page.status
    );
    String::from_utf8(page.body.clone()).unwrap().replace("&#x2f;", "/")
}

async fn sessions(world: &World, user: &User) -> SessionList {
    world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .send()
        .await
        .ok()
}

#[tokio::test]
async fn pages_send_strangers_to_the_sign_in_page() {
    let world = World::start().await;
    let forged = format!("__Host-synckit={}", "A".repeat(120));
    for cookie in ["", "__Host-synckit=", forged.as_str(), "synckit=x"] {
        for path in SHOWN {
            let answer = world.get(path).header("cookie", cookie).send().await;
            let to = path.strip_prefix("/account").unwrap().replacen('/', "?to=", 1);
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
            assert_eq!(answer.header("location"), format!("/account/sign-in{to}"));
        }
        for (path, fields) in SENT {
            let call = world.post(path).header("cookie", cookie);
            let answer = call.text(FORM, encoded("x", fields)).send().await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
            assert!(answer.header("location").starts_with("/account/sign-in"));
        }
    }
}

#[tokio::test]
async fn a_cookie_is_for_this_host_and_no_script() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    for header in ["x-forwarded-proto", "x-forwarded-host", "host", "forwarded"] {
        let begun = Begun::page(&world, "ada@example.com", PASSWORD).await;
        let call = world.post("/account/sign-in").header(header, "evil.example");
        let answer = call.json(&begun.0).send().await;
        let cookie = answer.header("set-cookie");
        assert!(cookie.starts_with("__Host-synckit="), "{cookie}");
        assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_sign_in_ends_the_browsers_session_before() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let first = Browser::sign_in(&world, "ada@example.com").await;
    let elsewhere = Browser::sign_in(&world, "ada@example.com").await;
    let begun = Begun::page(&world, "ada@example.com", PASSWORD).await;
    let second = first.with(world.post("/account/sign-in")).json(&begun.0).send().await;
    let second = Browser::of(&second);
    assert_ne!(first.cookie, second.cookie);
    assert!(!first.is_signed_in(&world).await);
    assert!(second.is_signed_in(&world).await && elsewhere.is_signed_in(&world).await);
    // A repeated last message opens nothing, and ends what it had opened.
    let answer = world.post("/account/sign-in").json(&begun.0).send().await;
    assert_eq!(
        (answer.code().as_str(), answer.header("set-cookie")),
        ("login_expired", "")
    );
    assert!(!second.is_signed_in(&world).await);
}

#[tokio::test]
async fn logins_of_pages_and_apps_are_apart() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let of_app = Begun::app(&world, "ada@example.com").await;
    let answer = world.post("/account/sign-in").json(&of_app.0).send().await;
    assert_eq!(
        (answer.code().as_str(), answer.header("set-cookie")),
        ("login_expired", "")
    );
    let of_page = Begun::page(&world, "ada@example.com", PASSWORD).await.0;
    let finish = LoginFinish {
        api_key: world.api_key(),
        login: of_page.login.clone(),
        ke3: of_page.ke3.clone(),
    };
    let answer = world.post("/api/sync/auth").json(&finish).send().await;
    assert_eq!(answer.code(), "api_key_invalid");
    // The control: each is good where it belongs.
    assert!(
        world
            .post("/account/sign-in")
            .json(&of_page)
            .send()
            .await
            .status
            .is_success()
    );
    let finish = LoginFinish {
        api_key: world.api_key(),
        login: of_app.0.login,
        ke3: of_app.0.ke3,
    };
    assert!(
        world
            .post("/api/sync/auth")
            .json(&finish)
            .send()
            .await
            .status
            .is_success()
    );
    for (email, password) in [("ada@example.com", "wrong"), ("nobody@example.com", PASSWORD)] {
        let begun = Begun::page(&world, email, password).await;
        let answer = world.post("/account/sign-in").json(&begun.0).send().await;
        assert_eq!(
            (answer.code().as_str(), answer.header("set-cookie")),
            ("invalid_credentials", "")
        );
    }
}

#[tokio::test]
async fn only_a_form_of_this_session_changes_anything() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    world.user("eve@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let other = Browser::sign_in(&world, "ada@example.com").await;
    let eve = Browser::sign_in(&world, "eve@example.com").await;
    let own = browser.form(&world).await;
    let foreign = [
        String::new(),
        other.form(&world).await,
        eve.form(&world).await,
        own[1..].to_owned(),
    ];
    for (path, fields) in SENT {
        for form in &foreign {
            let answer = browser.send(&world, path, form, fields).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert!(text_of(&answer).contains("Nothing was changed"));
        }
        for site in ["cross-site", "same-site"] {
            let call = browser.with(world.post(path)).header("sec-fetch-site", site);
            let answer = call.text(FORM, encoded(&own, fields)).send().await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
    assert!(browser.is_signed_in(&world).await && other.is_signed_in(&world).await);
    assert_eq!(sessions(&world, &ada).await.sessions.len(), 3);
    // The control: its own form does.
    let call = browser
        .with(world.post("/account/sessions"))
        .header("sec-fetch-site", "same-origin");
    let answer = call.text(FORM, encoded(&own, &[("session", "others")])).send().await;
    assert_eq!(answer.header("location"), "/account?done=sessions");
    assert!(browser.is_signed_in(&world).await && !other.is_signed_in(&world).await && eve.is_signed_in(&world).await);
    let answer = world.get("/api/account").bearer(&ada.account_token).send().await;
    assert_eq!(answer.code(), "session_ended");
}

#[tokio::test]
async fn a_change_needs_the_password_of_minutes_ago() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let form = browser.form(&world).await;
    world.clock.advance(limits::ACCOUNT_TOKEN_SECONDS - 1);
    assert_eq!(browser.get(&world, "/account/delete").await.status, StatusCode::OK);
    assert_eq!(browser.get(&world, "/account/export").await.status, StatusCode::OK);
    world.clock.advance(1);
    for (page, to) in [("/account/delete", "?to=delete"), ("/account/export", "?to=export")] {
        let answer = browser.get(&world, page).await;
        assert_eq!(answer.header("location"), format!("/account/sign-in{to}"));
    }
    for (path, fields) in SENT.into_iter().skip(2) {
        let answer = browser.send(&world, path, &form, fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(answer.header("location").starts_with("/account/sign-in"), "{path}");
    }
    assert!(world.sign_in("ada@example.com", PASSWORD).await.is_ok());
    // The page is shown for longer, and the sign-in page knows whom to ask.
    assert!(browser.is_signed_in(&world).await);
    let page = text_of(&browser.get(&world, "/account/sign-in?to=delete").await);
    assert!(page.contains("value=\"ada@example.com\"") && page.contains("data-to=\"/account/delete\""));
    // Nobody has to prove anything to leave.
    let answer = browser.post(&world, "/account/sign-out", &[]).await;
    assert_eq!(answer.header("location"), "/account/sign-in");
    assert!(answer.header("set-cookie").starts_with("__Host-synckit=;"));
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    assert!(!browser.is_signed_in(&world).await);
    let page = text_of(&browser.get(&world, "/account/sign-in").await);
    assert!(!page.contains("ada@example.com"));
}

#[tokio::test]
async fn a_page_session_ends_after_twelve_hours() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    world.clock.advance(limits::PAGE_SESSION_SECONDS - 1);
    assert!(browser.is_signed_in(&world).await);
    world.clock.advance(2);
    assert!(!browser.is_signed_in(&world).await);
    let ada = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let listed = sessions(&world, &ada).await;
    let names: Vec<_> = listed
        .sessions
        .iter()
        .map(|session| session.app_name.as_str())
        .collect();
    assert_eq!(names, ["Notes", "Notes"]);
}

#[tokio::test]
async fn a_page_session_is_listed_and_ends_like_others() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let listed = sessions(&world, &ada).await;
    let session = listed
        .sessions
        .iter()
        .find(|session| session.app_name == "Account page")
        .unwrap();
    let path = format!("/api/account/sessions/{}", session.id);
    world
        .call(http::Method::DELETE, &path)
        .bearer(&ada.account_token)
        .send()
        .await
        .empty();
    assert!(!browser.is_signed_in(&world).await);
    // It is a session, and no app: nowhere is one to be seen, kept or changed.
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let info: AccountInfo = world
        .get("/api/account")
        .bearer(&browser.account_token)
        .send()
        .await
        .ok();
    assert_eq!(info.apps.len(), 1);
    let admin = world.admin().await;
    assert_eq!(admin.apps().await.unwrap().len(), 1);
    assert!(admin.rename_app(PAGES, "mine").await.is_err());
    assert!(admin.add_redirect(PAGES, "https://evil.example/").await.is_err());
    assert!(browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn forms_reach_only_the_accounts_own_things() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let device = ada.register_device(&world, "Ada's laptop").await;
    let adas = Browser::sign_in(&world, "ada@example.com").await;
    let listed = sessions(&world, &ada).await;
    world.user("eve@example.com").await;
    let eve = Browser::sign_in(&world, "eve@example.com").await;
    let (app, id) = (world.app.app_id.to_string(), device.id.to_string());
    let fields = [("app", app.as_str()), ("device", id.as_str())];
    let unknown = [
        ("app", app.as_str()),
        ("device", "00000000-0000-0000-0000-000000000002"),
    ];
    let told = eve.post(&world, "/account/devices", &fields).await;
    assert_eq!(told.body, eve.post(&world, "/account/devices", &unknown).await.body);
    for session in &listed.sessions {
        eve.post(&world, "/account/sessions", &[("session", &session.id.to_string())])
            .await;
    }
    eve.post(&world, "/account/sessions", &[("session", "others")]).await;
    assert!(adas.is_signed_in(&world).await);
    let devices: DeviceList = world.get("/api/sync/devices").bearer(&ada.token).send().await.ok();
    assert_eq!((devices.devices.len(), devices.sessions.len()), (1, 1));
    // The control: Ada's own form revokes it.
    let answer = adas.post(&world, "/account/devices", &fields).await;
    assert_eq!(answer.header("location"), "/account?done=device");
    let answer = world.get("/api/sync/devices").bearer(&ada.token).send().await;
    assert_eq!(answer.code(), "session_ended");
    assert_eq!(told.status, StatusCode::BAD_REQUEST);
    // What was done is told after the form, and by no link of another site.
    for (site, is_told) in [("same-origin", true), ("cross-site", false)] {
        let page = adas
            .with(world.get("/account?done=device"))
            .header("sec-fetch-site", site);
        let page = text_of(&page.send().await);
        assert_eq!(page.contains("The device is revoked"), is_told, "{site}");
    }
    // What is no id is told, and changes nothing.
    for (path, fields) in [
        ("/account/devices", [("app", "x"), ("device", "x")]),
        ("/account/sessions", [("session", "x"), ("x", "x")]),
        ("/account/sessions", [("x", "x"), ("y", "x")]),
    ] {
        assert_eq!(adas.post(&world, path, &fields).await.status, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_page_shows_devices_apps_and_sizes() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(&world, 2, 1_000).await;
    let evil = "<script>alert(1)</script>";
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    other.register_device(&world, evil).await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let page = text_of(&browser.get(&world, "/account").await);
    assert!(
        page.contains("&lt;script&gt;alert(1)") && !page.contains("<script>alert"),
        "{page}"
    );
    for part in [
        "ada@example.com",
        "kB</span>",
        "this session",
        "This page, in a browser",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let policy = browser
        .get(&world, "/account")
        .await
        .header("content-security-policy")
        .to_owned();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self';"] {
        assert!(policy.contains(part), "{policy}");
    }
    world.clock.advance(70 * 24 * 3600);
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    assert!(text_of(&browser.get(&world, "/account").await).contains("Not seen for 70 days"));
}

#[tokio::test]
async fn a_sign_in_leads_only_to_pages_of_the_account() {
    let world = World::start().await;
    for (to, path) in [
        ("password", "/account/password"),
        ("export", "/account#leave"),
        ("", "/account"),
        ("//evil.example", "/account"),
        ("https://evil.example", "/account"),
        ("sign-out", "/account"),
        ("..", "/account"),
    ] {
        let page = world
            .get(&format!("/account/sign-in?{}", encoded("", &[("to", to)])))
            .send()
            .await;
        assert!(text_of(&page).contains(&format!("data-to=\"{path}\"")), "{to}");
    }
    assert_eq!(
        world.get("/account/sign-in?to=a&to=b").send().await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_export_of_the_page_is_that_of_the_api() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    ada.push(&world, 2, 100).await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let exported = browser.get(&world, "/account/export").await;
    let wanted = "attachment; filename=\"synckit-export.jsonl\"";
    assert_eq!(exported.header("content-disposition"), wanted);
    assert_eq!(exported.header("content-type"), "application/x-ndjson");
    let call = world.get("/api/account/export").bearer(&browser.account_token);
    assert_eq!(exported.body, call.send().await.body);
}

#[tokio::test]
async fn a_typed_address_deletes_the_account() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    for typed in ["", "eve@example.com", "ada@example.co", "ada"] {
        let page = browser.post(&world, "/account/delete", &[("email", typed)]).await;
        assert!(text_of(&page).contains("That is another address"), "{typed}");
    }
    assert!(browser.is_signed_in(&world).await);
    let page = browser
        .post(&world, "/account/delete", &[("email", " ADA@example.com ")])
        .await;
    // 14 days after the first of January.
    assert!(text_of(&page).contains("15 Jan 2026, 00:00 UTC"));
    assert!(page.header("set-cookie").contains("Max-Age=0"));
    assert!(!browser.is_signed_in(&world).await);
    let answer = world.get("/api/account").bearer(&ada.account_token).send().await;
    assert_eq!(answer.code(), "session_ended");
    let mail = world.mail_to("ada@example.com", "Your account will be deleted").await;
    assert!(mail.contains("On 15 January 2026 (UTC)"), "{mail}");
    // A sign-in before that day keeps it, and a mail says so: perhaps it was somebody else's.
    let listed = world.admin().await.accounts().await.unwrap();
    assert!(listed[0].delete_at.is_some());
    world.clock.advance(limits::ACCOUNT_DELETION_SECONDS - 1);
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    world.mail_to("ada@example.com", "Your account is kept").await;
    assert_eq!(world.admin().await.accounts().await.unwrap()[0].delete_at, None);
    world.clock.advance(2);
    assert!(browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn a_cookie_of_another_kind_opens_no_page() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let begun = Begun::page(&world, "ada@example.com", PASSWORD).await;
    let sealed = serde_json::to_value(&begun.0.login).unwrap();
    let mut cookies = vec![
        ada.token.clone(),
        ada.account_token.clone(),
        ada.refresh.expose().to_owned(),
    ];
    cookies.push(sealed.as_str().unwrap().to_owned());
    for cookie in cookies {
        let browser = Browser {
            cookie: format!("__Host-synckit={cookie}"),
            account_token: String::new(),
        };
        assert!(!browser.is_signed_in(&world).await, "{cookie}");
    }
    // And the page's is no token.
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let value = browser.cookie.split_once('=').unwrap().1;
    assert_eq!(
        world.get("/api/account").bearer(value).send().await.code(),
        "token_invalid"
    );
}

#[tokio::test]
async fn a_page_session_reaches_no_app() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let (registration, request) = ClientRegistration::start("a new password", &mut OsRng).unwrap();
    let start = PasswordChangeStart {
        suite: LOGIN_SUITE,
        request: request.into(),
    };
    let call = world.post("/api/account/password/start").bearer(&browser.account_token);
    let started: RegisterStarted = call.json(&start).send().await.ok();
    let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
    let finish = PasswordChangeFinish {
        registration: started.registration,
        record: finished.upload.into(),
        vault: vault(1, 2).into(),
        expected_version: 1,
    };
    let call = world.post("/api/account/password").bearer(&browser.account_token);
    let changed: PasswordChanged = call.json(&finish).send().await.ok();
    // What it returns for the next refresh refreshes nothing.
    let refresh = Refresh {
        refresh: changed.refresh,
    };
    let answer = world.post("/api/sync/auth/refresh").json(&refresh).send().await;
    assert_eq!(answer.code(), "session_ended");
    assert!(browser.is_signed_in(&world).await);
}

#[tokio::test]
async fn cookies_of_others_hide_no_session() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let own = browser.cookie.as_bytes();
    for other in [
        "lang=日本; ".as_bytes(),
        b"name=J\xf6rg; ",
        b"=; ;; a; ",
        b"__Host-synckitx=1; ",
    ] {
        let value = http::HeaderValue::from_bytes(&[other, own].concat()).unwrap();
        let url = format!("{}/account", world.url);
        let answer = reqwest::Client::new()
            .get(url)
            .header("cookie", value)
            .send()
            .await
            .unwrap();
        assert!(answer.url().path().ends_with("/account"), "{other:?}");
    }
}

#[tokio::test]
async fn a_clock_set_back_makes_no_proof_fresh() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    world.clock.advance(3600);
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    world.clock.set_back(3600);
    let answer = browser.get(&world, "/account/delete").await;
    assert_eq!(answer.header("location"), "/account/sign-in?to=delete");
}

/// Asks for another address, and returns the page that asks for its code, and what that carries.
pub(super) async fn ask_for(world: &World, browser: &Browser, email: &str) -> (String, String) {
    let answer = browser.post(world, "/account/address", &[("email", email)]).await;
    let page = text_of(&answer);
    let (_, after) = page.split_once("name=\"asked\" value=\"").unwrap();
    let asked = after.split('"').next().unwrap().to_owned();
    (page, asked)
}

#[tokio::test]
async fn an_address_changes_by_a_mailed_code() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let (page, asked) = ask_for(&world, &browser, " New@Example.com ").await;
    assert!(page.contains("new@example.com") && page.contains("ada@example.com"));
    let code = world.mailed_code("new@example.com", "Confirm your new address").await;
    assert!(!page.contains(&code));
    // A mail takes longer than a proof of the password lasts.
    world.clock.advance(limits::ACCOUNT_TOKEN_SECONDS + 1);
    let confirm = async |code: &str| {
        let fields = [("asked", asked.as_str()), ("code", code)];
        browser.post(&world, "/account/address/confirm", &fields).await
    };
    for wrong in ["", "00000000000000000000000000000000"] {
        assert!(text_of(&confirm(wrong).await).contains("That is not the code"));
    }
    world
        .sign_in_to(&world.api_key(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    let answer = confirm(&format!(" {code} ")).await;
    assert_eq!(answer.header("location"), "/account?done=address");
    let shown = text_of(&browser.get(&world, "/account?done=address").await);
    assert!(shown.contains("new@example.com, confirmed") && shown.contains("The account has its new address"));
    let told = world
        .mailed_code("ada@example.com", "Your account has another address")
        .await;
    assert_eq!(told, "new@example.com");
    let begun = Begun::page(&world, "ada@example.com", PASSWORD).await;
    let refused = world.post("/account/sign-in").json(&begun.0).send().await;
    assert_eq!(refused.code(), "invalid_credentials");
    let again = world
        .sign_in_to(&world.api_key(), "new@example.com", PASSWORD)
        .await
        .unwrap();
    assert_eq!(again.user_id, user.user_id);
    // Devices stay signed in, and the code is of no further use.
    assert_eq!(
        world.get("/api/sync/status").bearer(&user.token).send().await.status,
        StatusCode::OK
    );
    assert_eq!(confirm(&code).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn only_the_mailbox_learns_of_another_account() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    world.user("eve@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let without = |page: String, email: &str, asked: &str| {
        let form = page
            .split("name=\"form\" value=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned();
        page.replace(email, "").replace(asked, "").replace(&form, "")
    };
    let (free, asked) = ask_for(&world, &browser, "new@example.com").await;
    let free = without(free, "new@example.com", &asked);
    let (taken, asked) = ask_for(&world, &browser, "eve@example.com").await;
    assert_eq!(without(taken, "eve@example.com", &asked), free);
    let mail = world.mail_to("eve@example.com", "You already have an account").await;
    assert!(!mail.contains("code"), "{mail}");
    let same = browser
        .post(&world, "/account/address", &[("email", "ADA@example.com")])
        .await;
    assert!(text_of(&same).contains("That is the address of the account already"));
    let none = browser.post(&world, "/account/address", &[("email", "ada")]).await;
    assert!(text_of(&none).contains("That is no e-mail address"));
}

#[tokio::test]
async fn a_change_of_address_is_for_one_account_and_hour() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    world.user("eve@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let eve = Browser::sign_in(&world, "eve@example.com").await;
    let (_, asked) = ask_for(&world, &browser, "new@example.com").await;
    let code = world.mailed_code("new@example.com", "Confirm your new address").await;
    let fields = [("asked", asked.as_str()), ("code", code.as_str())];
    let answer = eve.post(&world, "/account/address/confirm", &fields).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    world.clock.advance(limits::RESET_CODE_SECONDS + 1);
    let answer = browser.post(&world, "/account/address/confirm", &fields).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    // Somebody else took the address meanwhile.
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    world.clear_mail();
    let (_, asked) = ask_for(&world, &browser, "new@example.com").await;
    let code = world.mailed_code("new@example.com", "Confirm your new address").await;
    world.register("new@example.com", PASSWORD).await;
    let fields = [("asked", asked.as_str()), ("code", code.as_str())];
    let answer = browser.post(&world, "/account/address/confirm", &fields).await;
    assert!(text_of(&answer).contains("Another account has the address by now"));
    world
        .sign_in_to(&world.api_key(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
}

#[tokio::test]
async fn one_mailbox_gets_few_mails_of_changes() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let browser = Browser::sign_in(&world, "ada@example.com").await;
    let mut pages = 0;
    loop {
        let answer = browser
            .post(&world, "/account/address", &[("email", "new@example.com")])
            .await;
        if text_of(&answer).contains("Enough mails were asked for") {
            break;
        }
        pages += 1;
        assert!(pages < 20);
    }
    assert!(pages > 0);
}
