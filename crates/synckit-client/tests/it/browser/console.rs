//! The console in a real Chromium: an app is made, and its quick start turns green by itself.

use synckit_client::{MemoryStore, SyncKitClient, SyncKitConfig};
use synckit_protocol::AppId;
use synckit_server::{Admin, billing::Plan};
use synckit_store::{Hour, Month};

use super::{
    EMAIL, PASSWORD,
    driver::{Browser, Look},
};
use crate::world::{User, World, changes};

const HEADING: &str = "//h1";

async fn sign_in(browser: &Browser, world: &World, user: &User) {
    browser.open(&format!("{}/console", world.url())).await;
    assert_eq!(browser.text(HEADING).await, "Sign in");
    browser.write(EMAIL, &user.email).await;
    browser.write(PASSWORD, &user.password).await;
    browser.click("//form[not(@hidden)]//button[@type='submit']").await;
    assert_eq!(browser.text("//h1[text()='Apps']").await, "Apps");
}

/// The steps that are green.
async fn green(browser: &Browser) -> String {
    let green =
        "return [...document.querySelectorAll('[data-step].done:has(.wait)')].map((step) => step.dataset.step).join()";
    browser.run(green, &[]).await.as_str().unwrap().to_owned()
}

/// Signs in to the app of a key as its first or a further device.
async fn device(url: String, key: &str, user: &User, name: &str) -> SyncKitClient {
    let config = SyncKitConfig {
        server_url: url,
        api_key: key.to_owned(),
    };
    let client = SyncKitClient::builder(config)
        .credential_store(MemoryStore::default())
        .build();
    client.authenticate(&user.email, &user.password).await.unwrap();
    if client.has_server_key().await.unwrap() {
        client.setup_encryption_existing(&user.password).await.unwrap();
    } else {
        client.setup_encryption_new(&user.password).await.unwrap();
    }
    client.register_device(name, "linux").await.unwrap();
    client
}

#[tokio::test]
async fn the_quick_start_turns_green_by_itself() {
    let world = World::start().await;
    let user = world.user().await;
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    let browser = Browser::start(Look::default()).await;
    sign_in(&browser, &world, &user).await;
    browser.seen("console-no-team-light-desktop").await;
    admin.create_team("Example Co", user_id).await.unwrap();
    browser.open(&format!("{}/console", world.url())).await;
    browser.seen("console-no-app-light-desktop").await;
    browser.write("//input[@name='name']", "Field Notes").await;
    browser.click("//button[text()='Create app']").await;
    assert_eq!(browser.text("//h1[text()='Field Notes']").await, "Field Notes");
    browser.seen("quick-start-light-desktop").await;
    assert_eq!(green(&browser).await, "");

    let apps = admin.apps().await.unwrap();
    let app = apps.iter().find(|app| app.name == "Field Notes").unwrap();
    let key = &app.keys[0].text;
    let shown = browser.text("//pre[@aria-label='src/main.rs']").await;
    assert!(shown.contains(&format!("api_key: \"{key}\".into()")), "{shown}");
    let laptop = device(world.url(), key, &user, "laptop").await;
    browser
        .text("//li[@data-step='signed_in'][contains(@class, 'done')]//h3")
        .await;
    let laptop_id = laptop.devices().await.unwrap()[0].id;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    browser
        .text("//li[@data-step='pushed'][contains(@class, 'done')]//h3")
        .await;
    assert_eq!(green(&browser).await, "signed_in,pushed");
    device(world.url(), key, &user, "phone").await;
    browser
        .text("//li[@data-step='second_device'][contains(@class, 'done')]//h3")
        .await;
    browser.seen("quick-start-done-light-desktop").await;
    assert!(
        browser.complaints().await.is_empty(),
        "{:?}",
        browser.complaints().await
    );
}

#[tokio::test]
async fn an_app_is_changed_and_deleted_in_a_browser() {
    let world = World::start().await;
    let user = world.user().await;
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    let team = admin.create_team("Example Co", user_id).await.unwrap();
    let app = admin.create_app_of(Some(team), "Field Notes").await.unwrap().app_id;
    let look = Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    };
    let browser = Browser::start(look).await;
    sign_in(&browser, &world, &user).await;
    browser.seen("console-dark-phone").await;
    browser.click("//a[contains(text(), 'Field Notes')]").await;
    browser.text("//pre[@aria-label='src/main.rs']").await;
    browser.seen("quick-start-dark-phone").await;
    browser.click("//a[text()='Settings']").await;
    browser.text("//h2[text()='Keys']").await;
    browser.seen("app-settings-dark-phone").await;

    browser
        .write("//input[@name='uri'][@id='uri']", "notes:/callback")
        .await;
    browser.click("//button[text()='Add']").await;
    assert_eq!(
        browser.text("//h3[text()='Nothing was changed']").await,
        "Nothing was changed"
    );
    browser.seen("app-settings-refused-dark-phone").await;
    browser
        .open(&format!("{}/console/apps/{app}/settings", world.url()))
        .await;
    browser
        .write("//input[@name='uri'][@id='uri']", "com.example.notes:/callback")
        .await;
    browser.click("//button[text()='Add']").await;
    browser.text("//p[text()='The return addresses are changed.']").await;
    assert_eq!(admin.redirects(app).await.unwrap(), ["com.example.notes:/callback"]);
    browser
        .open(&format!("{}/console/apps/{app}/settings", world.url()))
        .await;
    browser.click("//button[text()='Make a new key']").await;
    browser.text("//p[contains(text(), 'The app has a new key')]").await;
    browser.seen("app-settings-rotated-dark-phone").await;
    browser.click("//a[text()='Delete app…']").await;
    browser.text("//h1[text()='Delete Field Notes?']").await;
    browser.seen("delete-app-dark-phone").await;
    browser.write("//input[@id='typed']", "Field Notes").await;
    browser.click("//button[@id='delete']").await;
    browser.text("//h1[text()='Apps']").await;
    assert!(!admin.apps().await.unwrap().iter().any(|other| other.id == app));
    browser.open(&format!("{}/console/apps/{app}", world.url())).await;
    browser
        .text("//h1[text()='There is no such app or team for you']")
        .await;
    browser.seen("no-such-app-dark-phone").await;
    assert!(
        browser.complaints().await.is_empty(),
        "{:?}",
        browser.complaints().await
    );
}

/// Makes an app look as if it had been used for twelve days.
fn used(world: &World, app: AppId) {
    let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let hour = i64::try_from(Hour::of(now).0).unwrap();
    let app_key: i64 = database
        .query_row("SELECT app_key FROM apps WHERE app_id = ?1", [app.as_bytes()], |row| {
            row.get(0)
        })
        .unwrap();
    let stored = 21_300_000_000_i64;
    for day in 0..12 {
        let values = [
            app_key,
            hour - day * 24,
            900_000_000 * (day % 5 + 1),
            stored - 300_000_000 * day,
        ];
        let insert = "INSERT INTO usage_hours VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
        database.execute(insert, values).unwrap();
    }
    let month = i64::from(Month::of(now).0);
    let insert = "INSERT INTO usage_months VALUES (?1, ?2, ?3)
        ON CONFLICT DO UPDATE SET moved_bytes = excluded.moved_bytes";
    database.execute(insert, [app_key, month, 61_400_000_000]).unwrap();
    let update = "UPDATE streams SET blob_bytes = ?2, replaced_bytes = 1600000000 WHERE app_id = ?1";
    let changed = database.execute(update, rusqlite::params![app.as_bytes(), stored]);
    assert_eq!(changed, Ok(1));
}

#[tokio::test]
async fn the_usage_of_an_app_is_seen_beside_its_plan() {
    let world = World::start().await;
    let user = world.user().await;
    let admin = Admin::open(&world.data_dir()).unwrap();
    let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
    let team = admin.create_team("Example Co", user_id).await.unwrap();
    let app = admin.create_app_of(Some(team), "Field Notes").await.unwrap();
    let laptop = device(world.url(), app.api_key.expose(), &user, "laptop").await;
    let laptop_id = laptop.devices().await.unwrap()[0].id;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let page = format!("{}/console/apps/{}/usage", world.url(), app.app_id);
    let dark_phone = Look {
        is_dark: true,
        is_phone: true,
        ..Look::default()
    };
    for (look, name) in [(Look::default(), "light-desktop"), (dark_phone, "dark-phone")] {
        admin.write_plan(app.app_id, None).await.unwrap();
        let browser = Browser::start(look).await;
        sign_in(&browser, &world, &user).await;
        browser.click("//a[contains(text(), 'Field Notes')]").await;
        browser.click("//a[text()='Usage']").await;
        browser.text("//p[contains(text(), 'has no plan')]").await;
        browser.seen(&format!("app-usage-no-plan-{name}")).await;
        used(&world, app.app_id);
        let plan = Plan::new("25".parse().unwrap(), "5".parse().unwrap());
        admin.write_plan(app.app_id, Some(plan)).await.unwrap();
        browser.open(&page).await;
        let rung = browser.text("//li[@class='rung-on']//h3").await;
        assert_eq!(rung, "80 %: you and your app are told\nStorage is here");
        browser.seen(&format!("app-usage-{name}")).await;
        assert!(
            browser.complaints().await.is_empty(),
            "{:?}",
            browser.complaints().await
        );
    }
}
