//! The page that lets a machine sign in, in a real Chromium.

use synckit_client::{Cursor, DeviceCode, Error, SyncKitClient};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    EMAIL, PASSWORD, device,
    driver::{Browser, Look},
};
use crate::world::{User, World, changes};

const USER_CODE: &str = "//input[@id='user-code']";
const SUBMIT: &str = "//form[not(@hidden)]//button[@type='submit']";
const ASKED: &str = "//h1[text()='Let a machine sign in to test app as you?']";

/// A machine that begins to sign in; returns what it shows, and the sign-in.
async fn begin(client: SyncKitClient) -> (DeviceCode, JoinHandle<Result<SyncKitClient, Error>>) {
    let (send, shown) = oneshot::channel();
    let signing_in = tokio::spawn(async move {
        let show = move |code: &DeviceCode| drop(send.send(code.clone()));
        client.login_with_device_code("rack 7", show).await?;
        Ok(client)
    });
    (shown.await.unwrap(), signing_in)
}

async fn sign_in(browser: &Browser, user: &User) {
    assert_eq!(browser.text("//h1").await, "Sign in");
    browser.write(EMAIL, &user.email).await;
    browser.write(PASSWORD, &user.password).await;
    browser.click(SUBMIT).await;
    browser.text("//h1[text()='Sign in a machine']").await;
}

#[tokio::test]
async fn a_person_lets_a_machine_sign_in() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    let (code, signing_in) = begin(device(world.url(), &world)).await;

    let browser = Browser::start(Look::default()).await;
    browser.open(&code.verification_uri_complete).await;
    sign_in(&browser, &user).await;
    let typed = "return document.getElementById('user-code').value";
    assert_eq!(browser.run(typed, &[]).await, code.user_code);
    browser.seen("device-code-light-desktop").await;
    browser.click(SUBMIT).await;
    browser.text(ASKED).await;
    let page = browser.text("//dl").await;
    for text in [&code.user_code, "test app", "rack 7", "127.0.0.1"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    browser.seen("device-consent-light-desktop").await;
    // The browser does not even send it without the word that the codes are equal.
    browser.click("//button[@value='yes']").await;
    browser.text(ASKED).await;
    browser.click("//input[@id='same']").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.click("//button[@value='yes']").await;
    browser.text("//h1[text()='Go back to your machine']").await;
    browser.seen("device-allowed-light-desktop").await;
    assert_eq!(browser.complaints().await, [""; 0]);

    let machine = signing_in.await.unwrap().unwrap();
    machine.setup_encryption_existing(&user.password).await.unwrap();
    let machine_id = machine.register_device("rack 7", "linux").await.unwrap().id;
    assert_eq!(machine.pull(machine_id, Cursor::START).await.unwrap().0.len(), 3);
}

#[tokio::test]
async fn a_person_refuses_a_machine() {
    let world = World::start().await;
    let user = world.user().await;
    let (code, signing_in) = begin(device(world.url(), &world)).await;
    let look = Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    };
    let browser = Browser::start(look).await;
    browser.open(&code.verification_uri).await;
    sign_in(&browser, &user).await;
    browser.seen("device-code-dark-phone").await;
    browser.write(USER_CODE, "bcdf ghjk").await;
    browser.click(SUBMIT).await;
    browser.text("//h2[text()='Nothing was shared']").await;
    browser.seen("device-code-refused-dark-phone").await;
    browser
        .run("document.getElementById('user-code').value = ''", &[])
        .await;
    browser.write(USER_CODE, &code.user_code.to_lowercase()).await;
    browser.click(SUBMIT).await;
    browser.text(ASKED).await;
    browser.seen("device-consent-dark-phone").await;
    browser.click("//button[@value='no']").await;
    browser.text("//h1[text()='Nothing was shared']").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    let refused = signing_in.await.unwrap();
    assert!(matches!(refused, Err(Error::DeviceSignInDenied)), "{refused:?}");
}
