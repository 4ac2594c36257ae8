//! Administration beside a running server.

use std::time::Duration;

use synckit_protocol::{AppId, wire::auth::SignedIn};
use synckit_server::admin::AdminError;

use crate::support::{PASSWORD, World};

#[tokio::test]
async fn app_created_beside_a_running_server_works() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    let admin = world.admin().await;
    let app = admin.create_app("Photos").await.unwrap();
    let user = world
        .sign_in_to(app.api_key.expose(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    assert_eq!(user.app_id, app.app_id);

    let apps = admin.apps().await.unwrap();
    let names: Vec<_> = apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["Notes", "Photos"]);
    assert_eq!(apps[1].keys[0].text, app.api_key.expose());
    assert_eq!(admin.account_of("ADA@example.com").await.unwrap(), Some(user.user_id));
    assert_eq!(admin.accounts().await.unwrap()[0].email, "ada@example.com");
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_the_overlap() {
    let world = World::start().await;
    world.register("ada@example.com", PASSWORD).await;
    let admin = world.admin().await;
    let sign_in = async |key: &str| world.sign_in_to(key, "ada@example.com", PASSWORD).await.map(|_| ());
    let old = world.api_key();
    let new = admin
        .rotate_api_key(world.app.app_id, Duration::from_secs(3600))
        .await
        .unwrap();
    sign_in(&old).await.unwrap();
    sign_in(new.expose()).await.unwrap();
    let newest = admin.rotate_api_key(world.app.app_id, Duration::ZERO).await.unwrap();
    assert_eq!(sign_in(&old).await.unwrap_err().code, "api_key_invalid");
    assert_eq!(sign_in(new.expose()).await.unwrap_err().code, "api_key_invalid");
    sign_in(newest.expose()).await.unwrap();
    assert_eq!(admin.apps().await.unwrap()[0].keys.len(), 1);
}

#[tokio::test]
async fn commands_that_make_no_sense_say_why() {
    let world = World::start().await;
    let admin = world.admin().await;
    for name in ["", " ", "a\u{7}", "a\u{202e}b", "\u{200b}", &"x".repeat(101)] {
        let refused = admin.create_app(name).await;
        assert!(matches!(refused, Err(AdminError::AppName(_))), "{name:?}");
        let refused = admin.rename_app(world.app.app_id, name).await;
        assert!(matches!(refused, Err(AdminError::AppName(_))), "{name:?}");
    }
    let nobody = AppId::from_bytes([9; 16]);
    let error = admin.rotate_api_key(nobody, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), format!("there is no app {nobody}"));
    assert_eq!(admin.account_of("nobody@example.com").await.unwrap(), None);
    assert_eq!(admin.account_of("nonsense").await.unwrap(), None);
}

#[tokio::test]
async fn embedded_keys_are_not_in_the_clear() {
    let mut world = World::start_with(|config| config.allow_password_login = true).await;
    world.register("ada@example.com", PASSWORD).await;
    let body = serde_json::json!({ "email": "ada@example.com", "password": PASSWORD, "api_key": world.api_key() });
    let signed_in: SignedIn = world.post("/api/sync/auth").json(&body).send().await.ok();
    let invite = world.admin().await.create_invite().await.unwrap();
    world.stop().await.unwrap();
    let database = std::fs::read(world.path().join("synckit.db")).unwrap();
    let contains = |text: &str| database.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("ada@example.com"), "the search works");
    for secret in [
        PASSWORD,
        signed_in.refresh.expose(),
        signed_in.token.expose(),
        invite.expose(),
    ] {
        assert!(!contains(secret));
    }
}
