//! The account page in a real Chromium: what it shows, and what a person does there.

use synckit_client::{Cursor, DeviceId, RecoveryCode, SyncKitClient};

use super::{
    EMAIL, PASSWORD, REFUSAL, derived, device,
    driver::{Browser, Look},
    trace::Trace,
};
use crate::world::{User, World, changes};

const OLD_PASSWORD: &str = "//input[@id='old-password']";
const SUBMIT: &str = "//form[not(@hidden)]//button[@type='submit']";
const HEADING: &str = "//h1";
const NEW: &str = "four other words are strong";

/// A first device, which has pushed three changes.
async fn synced(world: &World, user: &User) -> (SyncKitClient, DeviceId) {
    let (laptop, laptop_id) = world.first_device(user).await;
    laptop.push(laptop_id, changes(3)).await.unwrap();
    (laptop, laptop_id)
}

async fn open(browser: &Browser, url: &str) {
    browser.open(&format!("{url}/account")).await;
}

/// Signs in at the page that the browser was sent to.
async fn sign_in(browser: &Browser, user: &User) {
    assert_eq!(browser.text(HEADING).await, "Sign in");
    browser.write(EMAIL, &user.email).await;
    browser.write(PASSWORD, &user.password).await;
    browser.click(SUBMIT).await;
    assert_eq!(browser.text("//h1[text()='Your account']").await, "Your account");
}

#[tokio::test]
async fn a_person_sees_and_revokes_devices() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = synced(&world, &user).await;
    let phone = device(world.url(), &world);
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.setup_encryption_existing(&user.password).await.unwrap();
    let phone_id = phone.register_device("Ada's phone", "android").await.unwrap().id;

    for (look, name) in [
        (Look::default(), "light-desktop"),
        (
            Look {
                is_dark: true,
                is_phone: true,
                ..Look::default()
            },
            "dark-phone",
        ),
    ] {
        let browser = Browser::start(look).await;
        open(&browser, &world.url()).await;
        browser.seen(&format!("account-sign-in-{name}")).await;
        sign_in(&browser, &user).await;
        browser.seen(&format!("account-{name}")).await;
        assert!(
            browser.complaints().await.is_empty(),
            "{:?}",
            browser.complaints().await
        );
        if look.is_phone {
            browser.click("//button[text()='Revoke']").await;
            browser.seen(&format!("account-revoke-{name}")).await;
            continue;
        }
        browser.click("//button[span[contains(text(), 'phone')]]").await;
        browser.click("//dialog[@open]//button[@type='button']").await;
        assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);
        browser.click("//button[span[contains(text(), 'phone')]]").await;
        browser.seen(&format!("account-revoke-{name}")).await;
        browser.click("//dialog[@open]//button[@type='submit']").await;
        // The page comes back without it.
        let devices = "return [...document.querySelectorAll('#devices h3')].map((h) => h.textContent).join()";
        browser.text("//nav[@class='tabs']").await;
        assert_eq!(browser.run(devices, &[]).await, "laptop");
        assert!(phone.pull(phone_id, Cursor::START).await.is_err());
    }
    assert!(laptop.pull(laptop_id, Cursor::START).await.is_ok());
}

#[tokio::test]
async fn a_password_changes_in_the_browser() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = synced(&world, &user).await;
    let trace = Trace::default();
    let url = trace.before(world.address()).await;
    let browser = Browser::start(Look::default()).await;
    open(&browser, &url).await;
    sign_in(&browser, &user).await;
    browser.click("//a[contains(@href, '/account/password')]").await;
    browser.seen("change-password-light-desktop").await;
    let change = async |old: &str, new: &str| {
        browser.write(OLD_PASSWORD, old).await;
        browser.write(PASSWORD, new).await;
        browser.click(SUBMIT).await;
    };
    change("another password", NEW).await;
    assert_eq!(browser.text(REFUSAL).await, "That address and password do not match");
    change(&user.password, "aaaaaaaaaa").await;
    assert_eq!(
        browser
            .text("//h2[@id='refusal-title'][contains(text(), 'stronger')]")
            .await,
        "Choose a stronger password"
    );
    change(&user.password, NEW).await;
    let done = browser.text("//section[@id='done'][not(@hidden)]/h2").await;
    assert_eq!(done, "The password is changed");
    assert!(browser.complaints().await.is_empty());
    // The page is signed in, the devices are not; the new password opens what the old one did.
    browser.click("//section[@id='done']//a").await;
    browser.text("//h1[text()='Your account']").await;
    assert!(laptop.pull(laptop_id, Cursor::START).await.is_err());
    let phone = device(world.url(), &world);
    assert!(phone.authenticate(&user.email, &user.password).await.is_err());
    phone.authenticate(&user.email, NEW).await.unwrap();
    phone.setup_encryption_existing(NEW).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);
    assert!(trace.contains(b"/api/account/password"));
    for secret in [user.password.as_str(), NEW].into_iter().flat_map(derived) {
        assert!(!trace.contains(&secret.1), "{} of a password was sent", secret.0);
    }
}

#[tokio::test]
async fn a_new_recovery_code_replaces_the_old_one() {
    let world = World::start().await;
    let user = world.user().await;
    synced(&world, &user).await;
    let trace = Trace::default();
    let url = trace.before(world.address()).await;
    let browser = Browser::start(Look {
        is_dark: true,
        ..Look::default()
    })
    .await;
    open(&browser, &url).await;
    sign_in(&browser, &user).await;
    let mut codes = Vec::new();
    for lost in [false, true] {
        browser.open(&format!("{url}/account/recovery-code")).await;
        browser.text("//h1[text()='A new recovery code']").await;
        if lost {
            // The first answer is lost: the write had arrived.
            let script = "
                const real = fetch;
                let lost = 0;
                globalThis.fetch = async (url, options) => {
                    const answered = await real(url, options);
                    if (options?.method === 'PUT' && lost++ === 0) throw new TypeError('cut');
                    return answered;
                };
            ";
            browser.run(script, &[]).await;
        }
        browser.write(OLD_PASSWORD, &user.password).await;
        browser.click(SUBMIT).await;
        browser.text("//ol[@id='words']/li[24]").await;
        let words = "return [...document.querySelectorAll('#words li')].map((li) => li.textContent).join(' ')";
        let words = browser.run(words, &[]).await;
        let words = words.as_str().unwrap().to_owned();
        assert!(!trace.contains(words.as_bytes()));
        codes.push(RecoveryCode::parse(&words).unwrap());
        browser.seen("new-recovery-code-dark-desktop").await;
        browser.click("//input[@id='stored']").await;
        browser.click("//button[text()='Continue']").await;
        let done = browser.text("//section[@id='done'][not(@hidden)]/h2").await;
        assert_eq!(done, "The recovery code is new");
    }
    assert!(browser.complaints().await.is_empty());
    let phone = device(world.url(), &world);
    phone.authenticate(&user.email, &user.password).await.unwrap();
    assert!(phone.setup_encryption_with_recovery(&codes[0]).await.is_err());
    phone.setup_encryption_with_recovery(&codes[1]).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);
}

#[tokio::test]
async fn an_unknown_end_is_told_as_one() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    laptop.sign_out().await.unwrap();
    let browser = Browser::start(Look::default()).await;
    open(&browser, &world.url()).await;
    sign_in(&browser, &user).await;
    // What is stored, and answered by a gateway that gave up; and nobody can look afterwards.
    let script = "
        const real = fetch;
        globalThis.fetch = async (url, options) => {
            const answered = await real(url, options);
            const writes = options?.method === 'PUT' || url.endsWith('/api/account/password');
            if (!writes && !(globalThis.wrote && url.endsWith('/vault'))) return answered;
            globalThis.wrote = true;
            return new Response(JSON.stringify({ code: 'store_unavailable' }), { status: 503 });
        };
    ";
    for (path, title) in [
        ("recovery-code", "Make a new code again"),
        ("password", "Try the new password"),
    ] {
        browser.open(&format!("{}/account/{path}", world.url())).await;
        browser.run(script, &[]).await;
        browser.write(OLD_PASSWORD, &user.password).await;
        if path == "password" {
            browser.write(PASSWORD, NEW).await;
        }
        browser.click(SUBMIT).await;
        assert_eq!(browser.text(REFUSAL).await, title);
    }
    device(world.url(), &world)
        .authenticate(&user.email, NEW)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_account_is_deleted_by_its_typed_address() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = synced(&world, &user).await;
    for is_scripted in [true, false] {
        let browser = Browser::start(Look::default()).await;
        open(&browser, &world.url()).await;
        sign_in(&browser, &user).await;
        browser.click("//a[contains(@href, '/account/delete')]").await;
        browser.text("//h1[text()='Delete your account?']").await;
        if is_scripted {
            // The button waits for the address.
            browser.seen("delete-account-light-desktop").await;
            let waits = "return document.getElementById('delete').disabled";
            assert_eq!(browser.run(waits, &[]).await, true);
            browser.write("//input[@id='typed']", "another@example.com").await;
            assert_eq!(browser.run(waits, &[]).await, true);
            // Who sends the form all the same is told.
            browser.run("document.forms[1].submit()", &[]).await;
            browser.text("//h2[text()='That is another address']").await;
            continue;
        }
        browser.write("//input[@id='typed']", &user.email.to_uppercase()).await;
        browser.click("//button[@id='delete']").await;
        let heading = browser.text("//h1[text()='Every device is signed out']").await;
        assert_eq!(heading, "Every device is signed out");
        browser.seen("account-deleted-light-desktop").await;
        open(&browser, &world.url()).await;
        assert_eq!(browser.text(HEADING).await, "Sign in");
    }
    assert!(laptop.pull(laptop_id, Cursor::START).await.is_err());
    // Until its day, a sign-in keeps everything.
    let phone = device(world.url(), &world);
    phone.authenticate(&user.email, &user.password).await.unwrap();
    phone.setup_encryption_existing(&user.password).await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(phone.pull(phone_id, Cursor::START).await.unwrap().0.len(), 3);
}

#[tokio::test]
async fn a_page_with_a_barrier_is_noticed() {
    let world = World::start().await;
    let browser = Browser::start(Look::default()).await;
    browser.open(&format!("{}/account/sign-in", world.url())).await;
    browser.text(HEADING).await;
    assert_eq!(browser.barriers().await, [""; 0]);
    let break_it = "document.querySelector('label').remove(); document.body.style.color = '#ccc';";
    browser.run(break_it, &[]).await;
    let found = browser.barriers().await;
    for rule in ["label:", "color-contrast:"] {
        assert!(found.iter().any(|text| text.starts_with(rule)), "{rule} {found:#?}");
    }
}

#[tokio::test]
async fn an_address_changes_in_the_browser() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = synced(&world, &user).await;
    let browser = Browser::start(Look::default()).await;
    open(&browser, &world.url()).await;
    sign_in(&browser, &user).await;
    browser.click("//a[contains(@href, '/account/address')]").await;
    browser.text("//h1[text()='Change the address']").await;
    browser.seen("change-address-light-desktop").await;
    let new = User {
        email: "new@example.com".to_owned(),
        ..user.clone()
    };
    browser.write("//input[@id='email']", &new.email).await;
    browser.click("//button[text()='Send a code']").await;
    browser.text("//h1[text()='Confirm the address']").await;
    browser.seen("confirm-address-light-desktop").await;
    let code = world.mailed_code(&new, "Confirm your new address").await;
    browser.write("//input[@id='code']", &code).await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.click("//button[text()='Change the address']").await;
    browser
        .text("//p[contains(text(), 'The account has its new address')]")
        .await;
    assert_eq!(laptop.pull(laptop_id, Cursor::START).await.unwrap().0.len(), 3);
    let phone = device(world.url(), &world);
    assert!(phone.authenticate(&user.email, &user.password).await.is_err());
    phone.authenticate(&new.email, &new.password).await.unwrap();
    phone.setup_encryption_existing(&new.password).await.unwrap();
}
