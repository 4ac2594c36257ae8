//! Sign-in by browser, in a real Chromium.

mod account;
mod accounts;
mod console;
mod driver;
mod machine;
mod trace;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};
use synckit_client::{Cursor, Error, MemoryStore, SyncKitClient, SyncKitConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

use self::{
    driver::{Browser, Look},
    trace::Trace,
};
use crate::world::{User, World, changes};

const EMAIL: &str = "//input[@id='email']";
const PASSWORD: &str = "//input[@id='password']";
const SIGN_IN: &str = "//button[@id='submit']";
const REFUSAL: &str = "//h2[@id='refusal-title'][text()]";
/// Whom the consent page asks.
const SIGNED_IN_AS: &str = "//h1[starts-with(text(), 'Let ')]/following-sibling::p[@class='lede']/b";
const ALLOW: &str = "//button[@value='yes']";

fn device(url: String, world: &World) -> SyncKitClient {
    let config = SyncKitConfig {
        server_url: url,
        api_key: world.api_key.clone(),
    };
    SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .build()
}

/// Begins a sign-in by browser; returns the page to open, and the sign-in.
async fn begin(client: SyncKitClient) -> (String, tokio::task::JoinHandle<Result<SyncKitClient, Error>>) {
    let (send, opened) = oneshot::channel();
    let signing_in = tokio::spawn(async move {
        client
            .login_with_browser(move |url| drop(send.send(url.to_owned())))
            .await?;
        Ok(client)
    });
    (opened.await.unwrap(), signing_in)
}

async fn fill_in(browser: &Browser, user: &User) {
    browser.write(EMAIL, &user.email).await;
    browser.write(PASSWORD, &user.password).await;
    browser.click(SIGN_IN).await;
}

#[tokio::test]
async fn a_browser_signs_a_device_in() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();

    let trace = Trace::default();
    let url = trace.before(world.address()).await;
    let (page, signing_in) = begin(device(url, &world)).await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&page).await;
    assert_eq!(browser.text("//p[@class='lede']").await, "to continue to test app");
    browser.seen("sign-in-light-desktop").await;
    fill_in(&browser, &user).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, user.email);
    browser.seen("consent-light-desktop").await;
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    browser.click(ALLOW).await;
    assert_eq!(
        browser.text("//h1[text()='You are signed in']").await,
        "You are signed in"
    );

    // A session alone opens nothing: the password does, in the app.
    let phone = signing_in.await.unwrap().unwrap();
    assert!(matches!(
        phone.pull(laptop_id, Cursor::START).await,
        Err(Error::EncryptionNotSetUp)
    ));
    phone.setup_encryption_existing(&user.password).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);

    // The control: the trace has what both sides say.
    assert!(trace.contains(user.email.as_bytes()) && trace.contains(b"/oauth/sign-in"));
    for (name, secret) in derived(&user.password) {
        assert!(!trace.contains(&secret), "{name} of the password was sent");
    }
}

/// A password, and what follows from it without guessing.
fn derived(password: &str) -> Vec<(&'static str, Vec<u8>)> {
    let plain = password.as_bytes();
    let utf16: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (short, long) = (Sha256::digest(plain), Sha512::digest(plain));
    let hex = |bytes: &[u8]| -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|byte| format!("{byte:02x}").into_bytes())
            .collect()
    };
    vec![
        ("the text", plain.to_vec()),
        ("the form", password.replace(' ', "+").into_bytes()),
        ("the query", password.replace(' ', "%20").into_bytes()),
        ("UTF-16", utf16),
        ("base64", STANDARD_NO_PAD.encode(plain).into_bytes()),
        ("base64url", URL_SAFE_NO_PAD.encode(plain).into_bytes()),
        ("SHA-256", short.to_vec()),
        ("SHA-256 as text", hex(&short)),
        ("SHA-512", long.to_vec()),
        ("SHA-512 as text", hex(&long)),
    ]
}

#[tokio::test]
async fn a_wrong_password_is_told_and_asked_for_again() {
    let world = World::start().await;
    let user = world.user().await;
    let (page, signing_in) = begin(device(world.url(), &world)).await;
    let browser = Browser::start(Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    })
    .await;
    browser.open(&page).await;
    browser.seen("sign-in-dark-phone").await;
    let wrong = User {
        password: "a typing mistake".to_owned(),
        ..user.clone()
    };
    fill_in(&browser, &wrong).await;
    assert_eq!(browser.text(REFUSAL).await, "That address and password do not match");
    browser.seen("sign-in-refused-dark-phone").await;
    let state = "return [document.activeElement.id, document.getElementById('password').value, document.getElementById('email').value]";
    assert_eq!(browser.run(state, &[]).await, json!(["refusal", "", user.email]));

    browser.write(PASSWORD, &user.password).await;
    browser.click(SIGN_IN).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, user.email);
    browser.seen("consent-dark-phone").await;
    browser.click("//button[@value='no']").await;
    assert_eq!(
        browser.text("//h1[text()='You are not signed in']").await,
        "You are not signed in"
    );
    let refused = signing_in.await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, Error::BrowserSignIn { code, .. } if code == "access_denied"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn without_scripts_the_page_says_why() {
    let world = World::start().await;
    let client = device(world.url(), &world);
    let page = client.build_authorize_url(49152, "state", &URL_SAFE_NO_PAD.encode([7; 32]));
    let browser = Browser::start(Look {
        has_no_scripts: true,
        ..Look::default()
    })
    .await;
    browser.open(&page).await;
    let text = browser.text("//noscript").await;
    assert!(text.contains("JavaScript is off."), "{text}");
    browser.seen("sign-in-no-script").await;
    assert_eq!(browser.text("//button[@id='submit'][@disabled]").await, "Sign in");
}

#[tokio::test]
async fn a_foreign_return_address_is_refused() {
    let world = World::start().await;
    let client = device(world.url(), &world);
    let page = client.build_authorize_url(49152, "state", &URL_SAFE_NO_PAD.encode([7; 32]));
    let browser = Browser::start(Look::default()).await;
    browser.open(&page.replace("127.0.0.1%3A49152", "evil.example")).await;
    assert_eq!(browser.text("//h1").await, "This request cannot go on");
    browser.seen("refused-light-desktop").await;
}

/// The vectors of a registration and of a login, in the page, with the randomness of the vectors in place of the browser's.
#[tokio::test]
async fn the_vectors_of_a_login_hold_in_the_page() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../../vectors/login.json")).unwrap();
    let text = |of: &str, name: &str| json!(vectors[of][name].as_str().unwrap());
    let password = vectors["password"].as_str().unwrap();
    let world = World::start().await;
    let client = device(world.url(), &world);
    let browser = Browser::start(Look::default()).await;
    let page = client.build_authorize_url(49152, "state", &URL_SAFE_NO_PAD.encode([7; 32]));
    browser.open(&page).await;
    let script = "
        const [password, appId, drawn, ke2, drawnFirst, drawnThen, response] = arguments_;
        const bytes = (hex) => Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16));
        const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
        const file = await (await fetch(document.getElementById('gate').dataset.wasm)).arrayBuffer();
        let rest = bytes(drawn);
        let exports;
        const random = (at, length) => {
            new Uint8Array(exports.memory.buffer, at, length).set(rest.slice(0, length));
            rest = rest.slice(length);
        };
        exports = (await WebAssembly.instantiate(file, { page: { random } })).instance.exports;
        const call = (name, input) => {
            const at = exports.input(input.length);
            new Uint8Array(exports.memory.buffer, at, input.length).set(input);
            const failure = exports[name]();
            return failure || hex(new Uint8Array(exports.memory.buffer, exports.output(), exports.output_length()));
        };
        const ke1 = call('login_start', new TextEncoder().encode(password));
        const ke3 = call('login_finish', new Uint8Array([...bytes(appId), ...bytes(ke2)]));
        const left = rest.length;
        const again = call('login_finish', bytes(appId));
        rest = bytes(drawnFirst);
        const request = call('register_start', new TextEncoder().encode(password));
        // The account key, the recovery code and the vault draw more.
        rest = new Uint8Array([...bytes(drawnThen), ...new Uint8Array(500).fill(7)]);
        const made = call('register_finish', new Uint8Array([...bytes(appId), 0, 0, 0, 1, ...bytes(response)]));
        const record = made.slice(4, 4 + 2 * parseInt(made.slice(0, 4), 16));
        return [ke1, ke3, again, left, request, record];
    ";
    let script = format!("const arguments_ = [...arguments_of]; {script}");
    let arguments = [
        json!(password),
        vectors["app_id"].clone(),
        text("login", "client_random"),
        text("login", "ke2"),
        text("registration", "client_start_random"),
        text("registration", "client_finish_random"),
        text("registration", "response"),
    ];
    let script = script.replace("arguments_of", &json!(arguments).to_string());
    let found = browser.run(&script, &[]).await;
    // A second end of the same login is refused: 4.
    let (request, record) = (text("registration", "request"), text("registration", "upload"));
    let (ke1, ke3) = (text("login", "ke1"), text("login", "ke3"));
    assert_eq!(found, json!([ke1, ke3, 4, 0, request, record]));
}

/// Browsers open connections before they know what for.
#[tokio::test]
async fn a_silent_connection_holds_up_no_other() {
    let world = World::start().await;
    let (page, signing_in) = begin(device(world.url(), &world)).await;
    let page = url::Url::parse(&page).unwrap();
    let field = |name: &str| {
        page.query_pairs()
            .find(|(field, _)| field == name)
            .unwrap()
            .1
            .into_owned()
    };
    let back = url::Url::parse(&field("redirect_uri")).unwrap();
    let port = back.port().unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut other = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let answer = ask(&mut other, "/favicon.ico").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    // The silent one was first, and was not given up for the other.
    let denied = format!("/callback?error=access_denied&state={}", field("state"));
    let answer = ask(&mut silent, &denied).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let error = signing_in.await.unwrap().unwrap_err();
    assert!(
        matches!(&error, Error::BrowserSignIn { code, .. } if code == "access_denied"),
        "{error:?}"
    );
}

/// The whole answer to a request, after which the connection ends.
async fn ask(connection: &mut TcpStream, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}
