//! Forms whose body a client holds back, and who may change an address.

use http::StatusCode;
use synckit_server::Admin;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::account_page::{Browser, FORM, ask_for, encoded, text_of};
use crate::support::{PASSWORD, World};

const EMAIL: &str = "ada@example.com";

/// A form whose body is missing.
struct Held {
    connection: TcpStream,
    body: Vec<u8>,
}

impl Held {
    /// Sends the head. Returns when the server asks for the body (RFC 9110, section 10.1.1): it has looked at the head by then.
    async fn send(world: &World, browser: &Browser, path: &str, fields: &[(&str, &str)]) -> Self {
        let body = encoded(&browser.form(world).await, fields).into_bytes();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncookie: {}\r\n\
             content-type: {FORM}\r\ncontent-length: {}\r\n\r\n",
            browser.cookie(),
            body.len()
        );
        let mut connection = TcpStream::connect(world.address()).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; 25];
        connection.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked[..], b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { connection, body }
    }

    /// Sends the body. Returns the answer.
    async fn finish(mut self) -> String {
        self.connection.write_all(&self.body).await.unwrap();
        let mut answer = Vec::new();
        self.connection.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn names_and_keys(admin: &Admin) -> Vec<String> {
    let apps = admin.apps().await.unwrap().into_iter();
    apps.flat_map(|app| app.keys.into_iter().map(|key| key.text).chain([app.name]))
        .collect()
}

/// A thief holds a request back until the owner has ended every session: it must do nothing.
#[tokio::test]
async fn held_forms_of_ended_sessions_do_nothing() {
    let world = World::start().await;
    let admin = world.admin().await;
    let user = world.user(EMAIL).await;
    let team = admin.create_team("Example Co", user.user_id).await.unwrap();
    let app = admin.create_app_of(Some(team), "Field Notes").await.unwrap().app_id;
    let before = names_and_keys(&admin).await;
    let of_app = |rest: &str| format!("/console/apps/{app}{rest}");
    let forms: [(String, &[(&str, &str)]); 9] = [
        (of_app("/name"), &[("name", "Stolen")]),
        (of_app("/keys"), &[("days", "0")]),
        (
            of_app("/redirects"),
            &[("change", "add"), ("uri", "com.example.eve:/x")],
        ),
        (of_app("/user-limit"), &[("mb", "1"), ("burst", "1")]),
        (of_app("/delete"), &[("name", "Field Notes")]),
        ("/account/sessions".to_owned(), &[("session", "others")]),
        ("/account/address".to_owned(), &[("email", "eve@example.com")]),
        ("/account/delete".to_owned(), &[("email", EMAIL)]),
        ("/oauth/device".to_owned(), &[("user_code", "BCDF-GHJK")]),
    ];
    for (path, fields) in &forms {
        let browser = Browser::sign_in(&world, EMAIL).await;
        let held = Held::send(&world, &browser, path, fields).await;
        admin.end_sessions(user.user_id).await.unwrap();
        let answer = held.finish().await;
        assert!(
            answer.starts_with("HTTP/1.1 303") && answer.contains("location: /account/sign-in"),
            "{path}: {answer}"
        );
    }
    assert_eq!(names_and_keys(&admin).await, before);
    assert!(admin.redirects(app).await.unwrap().is_empty());
    assert_eq!(admin.usage(app).await.unwrap().user_limit, None);
    let texts = world
        .mails()
        .into_iter()
        .map(|mail| std::fs::read_to_string(mail).unwrap());
    assert!(texts.into_iter().all(|text| !text.contains("eve@example.com")));
    world.sign_in(EMAIL, PASSWORD).await.unwrap();
    // The control: of a session that lives.
    let browser = Browser::sign_in(&world, EMAIL).await;
    let held = Held::send(&world, &browser, &forms[0].0, forms[0].1).await;
    assert!(held.finish().await.contains("/settings?done=name"));
    assert!(names_and_keys(&admin).await.contains(&"Stolen".to_owned()));
}

/// What a session began ends with it.
#[tokio::test]
async fn held_code_of_an_ended_session_changes_nothing() {
    let world = World::start().await;
    let admin = world.admin().await;
    let user = world.user(EMAIL).await;
    let thief = Browser::sign_in(&world, EMAIL).await;
    let (_, asked) = ask_for(&world, &thief, "eve@example.com").await;
    let code = world.mailed_code("eve@example.com", "Confirm your new address").await;
    let fields = [("asked", asked.as_str()), ("code", code.as_str())];
    let held = Held::send(&world, &thief, "/account/address/confirm", &fields).await;
    admin.end_sessions(user.user_id).await.unwrap();
    assert!(held.finish().await.contains("location: /account/sign-in"));
    // Nor does another session take up what this one began.
    let again = Browser::sign_in(&world, EMAIL).await;
    let answer = again.post(&world, "/account/address/confirm", &fields).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(admin.account_of(EMAIL).await.unwrap(), Some(user.user_id));
}

/// A link in a mail cannot make the page say that something was done.
#[tokio::test]
async fn only_the_server_s_page_says_what_was_done() {
    let world = World::start().await;
    world.user(EMAIL).await;
    let browser = Browser::sign_in(&world, EMAIL).await;
    for (site, is_told) in [("same-origin", true), ("none", false), ("cross-site", false)] {
        let call = world.get("/account?done=address").header("sec-fetch-site", site);
        let page = text_of(&browser.with(call).send().await);
        assert_eq!(page.contains("The account has its new address"), is_told, "{site}");
    }
}

/// Somebody else changed the address: the operator sets it back.
#[tokio::test]
async fn operator_sets_an_address_back() {
    let world = World::start().await;
    let admin = world.admin().await;
    let user = world.user(EMAIL).await;
    world.user("other@example.com").await;
    admin.change_address(user.user_id, "thief@example.com").await.unwrap();
    assert_eq!(admin.account_of(EMAIL).await.unwrap(), None);
    let ended = admin.change_address(user.user_id, "ADA@example.com").await.unwrap();
    assert_eq!((ended, admin.account_of(EMAIL).await.unwrap()), (0, Some(user.user_id)));
    for (to, expected) in [
        ("ada", "\"ada\" is no e-mail address"),
        ("other@example.com", "another account has the address other@example.com"),
    ] {
        let refused = admin.change_address(user.user_id, to).await.unwrap_err();
        assert_eq!(refused.to_string(), expected);
    }
    // Its sessions have ended.
    assert!(admin.end_sessions(user.user_id).await.unwrap() == 0);
}
