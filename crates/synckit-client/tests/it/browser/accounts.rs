//! Accounts that are made, and passwords that are replaced, in a real Chromium.

use synckit_client::{Cursor, Error, RecoveryCode, Registration, SyncKitClient};
use synckit_server::{Admin, config::Registration as Who};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    ALLOW, EMAIL, PASSWORD, REFUSAL, SIGNED_IN_AS, derived, device,
    driver::{Browser, Look},
    trace::Trace,
};
use crate::world::{World, changes};

const ADDRESS: &str = "new@example.com";
const SECRET: &str = "four random words are strong";
const UNDERSTOOD: &str = "//input[@id='know']";
const CREATE: &str = "//button[text()='Create account']";
const MAIL_CODE: &str = "//input[@id='mail-code']";
const CONTINUE: &str = "//button[text()='Continue']";

async fn begin(client: SyncKitClient) -> (String, JoinHandle<SyncKitClient>) {
    let (send, opened) = oneshot::channel();
    let signing_up = tokio::spawn(async move {
        let shown = move |url: &str| drop(send.send(url.to_owned()));
        client.sign_up_with_browser(shown).await.unwrap();
        client
    });
    (opened.await.unwrap(), signing_up)
}

async fn sign_up(browser: &Browser, email: &str, password: &str) {
    browser.write(EMAIL, email).await;
    browser.write(PASSWORD, password).await;
    browser.click(UNDERSTOOD).await;
    browser.click(CREATE).await;
}

/// The recovery code that a page shows; it goes on.
async fn stored_code(browser: &Browser) -> RecoveryCode {
    browser.text("//ol[@id='words']/li[24]").await;
    let words = "return [...document.querySelectorAll('#words li')].map((li) => li.textContent).join(' ')";
    let words = browser.run(words, &[]).await;
    let code = RecoveryCode::parse(words.as_str().unwrap()).unwrap();
    browser.click("//input[@id='stored']").await;
    browser.click(CONTINUE).await;
    code
}

/// What a page says that has no recovery code to show; it goes on.
async fn no_code(browser: &Browser) {
    let told = browser.text("//form[@id='no-code'][not(@hidden)]/h2").await;
    assert_eq!(told, "No recovery code here");
    browser.seen("no-recovery-code").await;
    browser.click("//form[@id='no-code']//button").await;
}

/// Lets the answers to the first `times` requests to a path be lost, or be replaced by what a hotel's portal says.
async fn lose(browser: &Browser, path: &str, times: u32, answer: Option<&str>) {
    let script = "
        const [path, times, answer] = arguments;
        const real = fetch;
        let lost = 0;
        globalThis.fetch = async (url, options) => {
            const answered = await real(url, options);
            if (!url.endsWith(path) || lost++ >= times) return answered;
            if (answer === null) throw new TypeError('cut');
            return new Response(answer, { status: 200 });
        };
    ";
    let script = script.replace(
        "= arguments;",
        &format!("= {};", serde_json::json!([path, times, answer])),
    );
    browser.run(&script, &[]).await;
}

#[tokio::test]
async fn lost_answers_lose_no_recovery_code() {
    let (with_mail, mail) = World::start_with_mail().await;
    let without = World::start().await;
    let browser = Browser::start(Look::default()).await;
    for (world, is_pending) in [(&with_mail, true), (&without, false)] {
        for (path, times) in [("/oauth/sign-in", 1), ("/oauth/sign-in", 2), ("/api/accounts", 1)] {
            let email = format!("lost{times}{}@example.com", path.len());
            let (page, signing_up) = begin(device(world.url(), world)).await;
            browser.open(&page).await;
            lose(&browser, path, times, None).await;
            sign_up(&browser, &email, SECRET).await;
            let confirm = async || browser.click("//button[text()='Confirm']").await;
            if is_pending {
                // A second mail for this address would be that of a registration that was made twice.
                let code = mail.code(&email, "Confirm your address", 1).await.unwrap();
                browser.write(MAIL_CODE, &code).await;
                confirm().await;
            }
            if times == 2 {
                assert_eq!(browser.text(REFUSAL).await, "No answer");
                if is_pending {
                    confirm().await;
                } else {
                    browser.write(PASSWORD, SECRET).await;
                    browser.click(CREATE).await;
                }
            }
            let code = stored_code(&browser).await;
            browser.click(ALLOW).await;
            let laptop = signing_up.await.unwrap();
            laptop.setup_encryption_new(SECRET).await.unwrap();
            let phone = device(world.url(), world);
            phone.authenticate(&email, SECRET).await.unwrap();
            phone.setup_encryption_with_recovery(&code).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_reset_loses_no_code() {
    let world = World::start().await;
    let user = world.user().await;
    let browser = Browser::start(Look::default()).await;
    for (times, answer) in [(1, None), (2, Some("<html>welcome</html>")), (2, Some("{}"))] {
        let password = format!("{SECRET} {times}");
        let client = device(world.url(), &world);
        client.request_password_reset(&user.email).await.unwrap();
        browser.open(&format!("{}/account/recover", world.url())).await;
        lose(&browser, "/api/accounts/reset", times, answer).await;
        browser.click("//a[@id='have-code']").await;
        let code = world.mailed_code(&user, "Reset your password").await;
        std::fs::remove_dir_all(world.data_dir().join("mail")).unwrap();
        browser.write(MAIL_CODE, &code).await;
        browser.write(PASSWORD, &password).await;
        browser.click(UNDERSTOOD).await;
        browser.click("//button[text()='Set the password']").await;
        if times == 1 {
            let code = stored_code(&browser).await;
            client.authenticate(&user.email, &password).await.unwrap();
            client.setup_encryption_new(&password).await.unwrap();
            let other = device(world.url(), &world);
            other.authenticate(&user.email, &password).await.unwrap();
            other.setup_encryption_with_recovery(&code).await.unwrap();
        } else {
            // Nobody knows here what became of it, so no words are shown.
            assert_eq!(browser.text(REFUSAL).await, "Try to sign in");
            browser.seen("recover-refused-light-desktop").await;
            let words = browser
                .run("return document.querySelectorAll('#words li').length", &[])
                .await;
            assert_eq!(words, 0);
            client.authenticate(&user.email, &password).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_account_is_made_in_the_browser() {
    let (world, mail) = World::start_with_mail().await;
    let trace = Trace::default();
    let url = trace.before(world.address()).await;
    let (page, signing_up) = begin(device(url, &world)).await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&page).await;
    browser.seen("sign-up-light-desktop").await;
    sign_up(&browser, ADDRESS, SECRET).await;

    assert_eq!(browser.text("//b[@id='mailed-to'][text()]").await, ADDRESS);
    browser.seen("sign-up-confirm-light-desktop").await;
    browser.write(MAIL_CODE, "a guess").await;
    browser.click("//button[text()='Confirm']").await;
    assert_eq!(browser.text(REFUSAL).await, "This code does not work");
    let code = mail.code(ADDRESS, "Confirm your address", 1).await.unwrap();
    browser
        .run("document.getElementById('mail-code').value = ''", &[])
        .await;
    browser.write(MAIL_CODE, &code).await;
    browser.click("//button[text()='Confirm']").await;
    browser.text("//ol[@id='words']/li[24]").await;
    browser.seen("recovery-code-light-desktop").await;
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    let recovery = stored_code(&browser).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, ADDRESS);
    browser.click(ALLOW).await;

    let laptop = signing_up.await.unwrap();
    laptop.setup_encryption_new(SECRET).await.unwrap();
    let laptop_id = laptop.register_device("laptop", "linux").await.unwrap().id;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    // What the page showed opens the account's data on a device that knows no password.
    let phone = device(world.url(), &world);
    phone.authenticate(ADDRESS, SECRET).await.unwrap();
    phone.setup_encryption_with_recovery(&recovery).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);

    assert!(trace.contains(ADDRESS.as_bytes()) && trace.contains(b"/api/accounts/start"));
    for (name, secret) in derived(SECRET).iter().chain(&derived(&recovery.words())) {
        assert!(!trace.contains(secret), "{name} of a secret was sent");
    }
    assert!(!trace.contains(recovery.expose_entropy()));
}

#[tokio::test]
async fn a_code_from_a_mail_works_on_a_new_page() {
    let (world, mail) = World::start_with_mail().await;
    let laptop = device(world.url(), &world);
    assert_eq!(
        laptop.create_account(ADDRESS, SECRET).await.unwrap(),
        Registration::Pending
    );
    let code = mail.code(ADDRESS, "Confirm your address", 1).await.unwrap();
    let (page, signing_up) = begin(device(world.url(), &world)).await;
    let look = Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    };
    let browser = Browser::start(look).await;
    browser.open(&page).await;
    browser.click("//a[@id='have-code']").await;
    browser.write("//input[@id='again-email']", ADDRESS).await;
    browser.write("//input[@id='again-password']", SECRET).await;
    // As a mail program may break it.
    browser
        .write(MAIL_CODE, &format!(" {} {}.", code[..9].to_uppercase(), &code[9..]))
        .await;
    browser.seen("sign-up-confirm-dark-phone").await;
    browser.click("//button[text()='Confirm']").await;
    // The app made this account, so the page knows no recovery code, and says so.
    no_code(&browser).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, ADDRESS);
    browser.click(ALLOW).await;
    signing_up.await.unwrap();
}

#[tokio::test]
async fn a_taken_address_gets_no_recovery_code() {
    let world = World::start().await;
    let user = world.user().await;
    let (page, signing_up) = begin(device(world.url(), &world)).await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&page).await;
    for (weak, minimum) in [("short", "8"), ("aaaaaaaaaa", "0")] {
        let script = format!("document.getElementById('password').minLength = {minimum}");
        browser.run(&script, &[]).await;
        browser.write(EMAIL, &user.email).await;
        browser.write(PASSWORD, weak).await;
        let state = "const field = document.getElementById('password'); return field.validity.tooShort";
        assert_eq!(browser.run(state, &[]).await, weak == "short");
        browser.run("document.forms[0].reset()", &[]).await;
    }
    sign_up(&browser, &user.email, "aaaaaaaaaa").await;
    assert_eq!(browser.text(REFUSAL).await, "Choose a stronger password");
    browser.seen("sign-up-refused-light-desktop").await;
    browser.write(PASSWORD, "another password").await;
    browser.click(CREATE).await;
    let taken = "//h2[@id='refusal-title'][text()='You may have an account already']";
    browser.text(taken).await;

    // Its own password signs it in, and the page shows no code, because the one it made opens nothing.
    browser.write(PASSWORD, &user.password).await;
    browser.click(CREATE).await;
    no_code(&browser).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, user.email);
    browser.click(ALLOW).await;
    let client = signing_up.await.unwrap();
    let admin = Admin::open(&world.data_dir()).unwrap();
    assert_eq!(client.user_id(), admin.account_of(&user.email).await.unwrap());
}

#[tokio::test]
async fn a_page_follows_who_may_register() {
    let world = World::start_with(|config| config.registration = Who::Invite).await;
    let (page, signing_up) = begin(device(world.url(), &world)).await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&page).await;
    browser.write("//input[@id='invite']", "a guess").await;
    sign_up(&browser, ADDRESS, SECRET).await;
    assert_eq!(browser.text(REFUSAL).await, "This invitation does not work");
    let invite = Admin::open(&world.data_dir()).unwrap().create_invite().await.unwrap();
    browser.run("document.getElementById('invite').value = ''", &[]).await;
    browser.write("//input[@id='invite']", invite.expose()).await;
    browser.write(PASSWORD, SECRET).await;
    browser.click(CREATE).await;
    stored_code(&browser).await;
    browser.click(ALLOW).await;
    signing_up.await.unwrap();

    let closed = World::start_with(|config| config.registration = Who::Closed).await;
    let client = device(closed.url(), &closed);
    let page = client.build_authorize_url(49152, "state", &"A".repeat(43));
    browser.open(&format!("{page}&prompt=create")).await;
    let told = browser.text("//div[@class='note warn'][not(ancestor::noscript)]").await;
    assert!(told.starts_with("No new accounts here."), "{told}");
    browser.seen("sign-up-closed-light-desktop").await;
    browser.click("//a[text()='Sign in']").await;
    assert_eq!(browser.text("//h1[text()='Sign in']").await, "Sign in");
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_in_the_browser() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    let old_code = laptop.recovery_code(&user.password).await.unwrap();

    let trace = Trace::default();
    let url = trace.before(world.address()).await;
    let (page, signing_in) = super::begin(device(url, &world)).await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&page).await;
    browser.click("//a[text()='Forgotten password?']").await;
    browser.seen("recover-light-desktop").await;
    browser.write(EMAIL, &user.email).await;
    browser.click("//button[text()='Send a code']").await;
    assert_eq!(browser.text("//b[@id='mailed-to'][text()]").await, user.email);
    browser.seen("recover-code-light-desktop").await;
    let code = world.mailed_code(&user, "Reset your password").await;
    browser.write(MAIL_CODE, &code).await;
    browser.write(PASSWORD, SECRET).await;
    browser.click(UNDERSTOOD).await;
    browser.click("//button[text()='Set the password']").await;
    let new_code = stored_code(&browser).await;
    assert_eq!(browser.text("//section[@id='done']/h2").await, "The password is set");
    browser.seen("recover-done-light-desktop").await;
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
    // Back to the sign-in that it began with.
    browser.click("//section[@id='done']//a").await;
    browser.write(EMAIL, &user.email).await;
    browser.write(PASSWORD, SECRET).await;
    browser.click(super::SIGN_IN).await;
    assert_eq!(browser.text(SIGNED_IN_AS).await, user.email);
    browser.click(ALLOW).await;

    // The new password alone opens no data; with it, the old code does.
    let phone = signing_in.await.unwrap().unwrap();
    let closed = phone.setup_encryption_existing(SECRET).await.unwrap_err();
    assert!(matches!(closed, Error::PasswordWasReset { .. }), "{closed:?}");
    phone.setup_encryption_with_recovery(&old_code).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);
    let tablet = device(world.url(), &world);
    tablet.authenticate(&user.email, SECRET).await.unwrap();
    tablet.setup_encryption_with_recovery(&new_code).await.unwrap();

    for (name, secret) in derived(SECRET).iter().chain(&derived(&new_code.words())) {
        assert!(!trace.contains(secret), "{name} of a secret was sent");
    }
    assert!(!trace.contains(new_code.expose_entropy()));
}

#[tokio::test]
async fn recovery_needs_no_app() {
    let world = World::start().await;
    let look = Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    };
    let browser = Browser::start(look).await;
    browser.open(&format!("{}/account/recover", world.url())).await;
    browser.text("//button[not(@disabled)][text()='Send a code']").await;
    browser.seen("recover-dark-phone").await;
    browser.click("//a[@id='have-code']").await;
    browser.write(MAIL_CODE, "a guess").await;
    browser.write(PASSWORD, SECRET).await;
    browser.click(UNDERSTOOD).await;
    browser.click("//button[text()='Set the password']").await;
    assert_eq!(browser.text(REFUSAL).await, "This code does not work");
}
