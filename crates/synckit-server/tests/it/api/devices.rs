//! `/api/sync/devices`.

use reqwest::Method;
use synckit_protocol::wire::devices::{Device, DeviceList, Platform, RegisterDevice, RenameDevice};

use crate::support::{PASSWORD, User, World};

async fn names(world: &World, user: &User) -> Vec<String> {
    let list: DeviceList = world.get("/api/sync/devices").bearer(&user.token).send().await.ok();
    list.devices.into_iter().map(|device| device.device_name).collect()
}

#[tokio::test]
async fn registering_is_an_upsert_by_name() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let body = RegisterDevice {
        device_name: "MacBook".to_owned(),
        platform: Platform::Macos,
    };
    let answer = world
        .post("/api/sync/devices")
        .bearer(&user.token)
        .json(&body)
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".id" => "[id]" }, @r#"
    {
      "created_at": 1767225600,
      "device_name": "MacBook",
      "id": "[id]",
      "last_seen_at": 1767225600,
      "platform": "macos"
    }
    "#);
    let first: Device = answer.ok();
    let again = RegisterDevice {
        platform: Platform::Linux,
        ..body
    };
    let again: Device = world
        .post("/api/sync/devices")
        .bearer(&user.token)
        .cbor(&again)
        .send()
        .await
        .ok();
    assert_eq!((again.id, again.platform), (first.id, Platform::Linux));
    user.register_device(&world, "phone").await;
    assert_eq!(names(&world, &user).await, ["MacBook", "phone"]);
}

#[tokio::test]
async fn a_device_is_renamed_to_a_free_name_only() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let laptop = user.register_device(&world, "laptop").await;
    user.register_device(&world, "phone").await;
    let rename = async |name: &str| {
        let body = RenameDevice {
            device_name: name.to_owned(),
        };
        let path = format!("/api/sync/devices/{}", laptop.id);
        world
            .call(Method::PATCH, &path)
            .bearer(&user.token)
            .json(&body)
            .send()
            .await
    };
    let answer = rename("phone").await;
    assert_eq!(
        (answer.code().as_str(), answer.problem().field.as_deref()),
        ("invalid_value", Some("device_name"))
    );
    assert_eq!(rename("work laptop").await.ok::<Device>().device_name, "work laptop");
    assert_eq!(names(&world, &user).await, ["work laptop", "phone"]);
}

#[tokio::test]
async fn names_and_platforms_are_checked() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    for name in ["", "  ", "a\nb", &"x".repeat(101)] {
        let body = RegisterDevice {
            device_name: name.to_owned(),
            platform: Platform::Linux,
        };
        let answer = world
            .post("/api/sync/devices")
            .bearer(&user.token)
            .json(&body)
            .send()
            .await;
        assert_eq!(answer.code(), "invalid_value", "{name:?}");
    }
    let body = serde_json::json!({ "device_name": "fridge", "platform": "toaster" });
    let answer = world
        .post("/api/sync/devices")
        .bearer(&user.token)
        .json(&body)
        .send()
        .await;
    assert_eq!(answer.code(), "malformed_body");
    for path in [
        "/api/sync/devices/nonsense",
        "/api/sync/devices/00000000-0000-4000-8000-000000000000",
    ] {
        assert_eq!(
            world.call(Method::DELETE, path).bearer(&user.token).send().await.code(),
            "device_not_found"
        );
    }
}

#[tokio::test]
async fn revoked_device_loses_sessions_and_name_at_once() {
    let world = World::start().await;
    let owner = world.user("ada@example.com").await;
    let thief = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let stolen = thief.register_device(&world, "phone").await;
    assert_eq!(
        world.get("/api/sync/status").bearer(&thief.token).send().await.code(),
        "200"
    );

    let path = format!("/api/sync/devices/{}", stolen.id);
    world
        .call(Method::DELETE, &path)
        .bearer(&owner.token)
        .send()
        .await
        .empty();
    assert_eq!(
        world.get("/api/sync/status").bearer(&thief.token).send().await.code(),
        "session_ended"
    );
    let body = synckit_protocol::wire::auth::Refresh {
        refresh: thief.refresh.clone(),
    };
    assert_eq!(
        world.post("/api/sync/auth/refresh").json(&body).send().await.code(),
        "session_ended"
    );
    world
        .call(Method::DELETE, &path)
        .bearer(&owner.token)
        .send()
        .await
        .empty();
    assert_eq!(names(&world, &owner).await, Vec::<String>::new());

    let new = owner.register_device(&world, "phone").await;
    assert_ne!(new.id, stolen.id);
    let pull = synckit_protocol::wire::log::Pull {
        device_id: stolen.id,
        cursor: synckit_protocol::Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    let answer = world
        .post("/api/sync/pull")
        .bearer(&owner.token)
        .json(&pull)
        .send()
        .await;
    assert_eq!(answer.code(), "device_revoked");
}

#[tokio::test]
async fn an_account_has_a_hundred_devices_at_most() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    for n in 0..100 {
        user.register_device(&world, &format!("device {n}")).await;
    }
    let body = RegisterDevice {
        device_name: "one more".to_owned(),
        platform: Platform::Web,
    };
    let answer = world
        .post("/api/sync/devices")
        .bearer(&user.token)
        .json(&body)
        .send()
        .await;
    assert_eq!(answer.code(), "device_limit");
    user.register_device(&world, "device 7").await;
}
