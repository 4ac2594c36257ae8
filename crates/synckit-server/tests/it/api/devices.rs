//! `/api/sync/devices`.

use reqwest::Method;
use synckit_protocol::{
    Cursor, DeviceId, InstallationId,
    wire::{
        devices::{Device, DeviceList, Platform, RegisterDevice, RenameDevice},
        log::Pull,
    },
};

use crate::support::{PASSWORD, User, World};

async fn names(world: &World, user: &User) -> Vec<String> {
    let list = list(world, user).await;
    list.devices.into_iter().map(|device| device.device_name).collect()
}

async fn list(world: &World, user: &User) -> DeviceList {
    world.get("/api/sync/devices").bearer(&user.token).send().await.ok()
}

/// The code of a pull in the name of a device.
async fn pull(world: &World, user: &User, device_id: DeviceId) -> String {
    let pull = Pull {
        device_id,
        cursor: Cursor::START,
        max_bytes: None,
        ahead: false,
        avoid_snapshot: false,
    };
    let answer = world
        .post("/api/sync/pull")
        .bearer(&user.token)
        .json(&pull)
        .send()
        .await;
    answer.code()
}

/// A registration of installation `n`.
fn installation(n: u8, name: &str) -> RegisterDevice {
    RegisterDevice {
        device_name: name.to_owned(),
        platform: Platform::Macos,
        installation_id: Some(InstallationId::from_bytes([n; 16])),
    }
}

#[tokio::test]
async fn a_session_belongs_to_one_device_for_good() {
    let world = World::start().await;
    let owner = world.user("ada@example.com").await;
    let phone: Device = owner.register(&world, &installation(1, "phone")).await.ok();
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let laptop = other.register_device(&world, "laptop").await;

    // The phone's token is stolen. Under no name is it the token of another device.
    for stolen in [
        installation(2, "phone"),
        installation(2, "new"),
        RegisterDevice {
            installation_id: None,
            ..installation(2, "laptop")
        },
    ] {
        let answer = owner.register(&world, &stolen).await;
        assert_eq!(answer.code(), "device_mismatch", "{stolen:?}");
    }
    assert_eq!(names(&world, &other).await, ["phone", "laptop"]);
    let again: Device = owner.register(&world, &installation(1, "phone")).await.ok();
    assert_eq!(again.id, phone.id);
    assert_eq!(pull(&world, &owner, phone.id).await, "200");
    for device_id in [laptop.id, DeviceId::from_bytes([9; 16])] {
        assert_eq!(pull(&world, &owner, device_id).await, "device_mismatch");
    }

    let path = format!("/api/sync/devices/{}", phone.id);
    let revoked = world.call(Method::DELETE, &path).bearer(&other.token).send().await;
    revoked.empty();
    assert_eq!(pull(&world, &owner, phone.id).await, "session_ended");
    assert_eq!(pull(&world, &other, laptop.id).await, "200");
}

/// Another process ended the session, and this one remembers it for a few seconds. A registration must not renew that memory.
#[tokio::test]
async fn an_ended_session_registers_no_device() {
    let world = World::start().await;
    let owner = world.user("ada@example.com").await;
    let _: Device = owner.register(&world, &installation(1, "phone")).await.ok();
    let admin = world.admin().await;
    assert_eq!(admin.end_sessions(owner.user_id).await.unwrap(), 1);
    for registration in [installation(1, "phone"), installation(2, "another")] {
        let answer = owner.register(&world, &registration).await;
        assert_eq!(answer.code(), "session_ended", "{registration:?}");
    }
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    assert_eq!(names(&world, &other).await, ["phone"]);
}

#[tokio::test]
async fn a_session_without_a_device_has_no_log() {
    let world = World::start().await;
    let owner = world.user("ada@example.com").await;
    let phone = owner.register_device(&world, "phone").await;
    let fresh = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    assert_eq!(pull(&world, &fresh, phone.id).await, "device_mismatch");
    assert_eq!(fresh.register_device(&world, "phone").await.id, phone.id);
    assert_eq!(pull(&world, &fresh, phone.id).await, "200");
}

#[tokio::test]
async fn an_installation_keeps_its_device() {
    let world = World::start().await;
    let first = world.user("ada@example.com").await;
    let device: Device = first.register(&world, &installation(1, "MacBook")).await.ok();
    let second = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let taken: Device = second.register(&world, &installation(2, "MacBook")).await.ok();
    assert_ne!(taken.id, device.id);
    assert_eq!(names(&world, &first).await, ["MacBook", "MacBook (2)"]);

    let body = RenameDevice {
        device_name: "kitchen".to_owned(),
    };
    let path = format!("/api/sync/devices/{}", device.id);
    let renamed = world
        .call(Method::PATCH, &path)
        .bearer(&second.token)
        .json(&body)
        .send()
        .await;
    renamed.ok::<Device>();
    let later = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let found: Device = later.register(&world, &installation(1, "MacBook")).await.ok();
    assert_eq!((found.id, found.device_name.as_str()), (device.id, "kitchen"));

    // A name of full length is cut to make room for the number.
    let long = "ä".repeat(50);
    for (n, expected) in [(3, long.clone()), (4, format!("{} (2)", "ä".repeat(48)))] {
        let session = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
        let device: Device = session.register(&world, &installation(n, &long)).await.ok();
        assert_eq!(device.device_name, expected);
    }
}

#[tokio::test]
async fn sessions_are_shown_beside_the_devices() {
    let world = World::start().await;
    let first = world.user("ada@example.com").await;
    let device = first.register_device(&world, "phone").await;
    let second = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    world.user("eve@example.com").await;
    let answer = world.get("/api/sync/devices").bearer(&second.token).send().await;
    insta::assert_json_snapshot!(
        answer.json()["sessions"],
        { "[].id" => "[id]", "[].device_id" => "[id]" },
        @r#"
    [
      {
        "created_at": 1767225600,
        "current": true,
        "id": "[id]",
        "refreshed_at": 1767225600
      },
      {
        "created_at": 1767225600,
        "current": false,
        "device_id": "[id]",
        "id": "[id]",
        "refreshed_at": 1767225600
      }
    ]
    "#);
    let sessions = list(&world, &second).await.sessions;
    let devices: Vec<_> = sessions.iter().map(|session| session.device_id).collect();
    assert_eq!(devices, [None, Some(device.id)]);
}

#[tokio::test]
async fn registering_is_an_upsert_by_name() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let body = RegisterDevice {
        device_name: "MacBook".to_owned(),
        platform: Platform::Macos,
        installation_id: None,
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
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    other.register_device(&world, "phone").await;
    assert_eq!(names(&world, &user).await, ["MacBook", "phone"]);
}

#[tokio::test]
async fn a_device_is_renamed_to_a_free_name_only() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let laptop = user.register_device(&world, "laptop").await;
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    other.register_device(&world, "phone").await;
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
    let unseen = rename("work\u{200e} laptop").await;
    assert_eq!(
        (unseen.code().as_str(), unseen.problem().field.as_deref()),
        ("invalid_value", Some("device_name"))
    );
    assert_eq!(rename("work laptop").await.ok::<Device>().device_name, "work laptop");
    assert_eq!(names(&world, &user).await, ["work laptop", "phone"]);
}

#[tokio::test]
async fn names_and_platforms_are_checked() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    for name in [
        "",
        "  ",
        "a\nb",
        "a\u{202e}b",
        "a\u{200b}b",
        "\u{2066}a",
        "\u{200d}",
        "\u{3164}",
        &"x".repeat(101),
    ] {
        let body = RegisterDevice {
            device_name: name.to_owned(),
            platform: Platform::Linux,
            installation_id: None,
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
    assert_eq!(pull(&world, &owner, stolen.id).await, "device_mismatch");
}

#[tokio::test]
async fn embedded_account_has_a_hundred_devices() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    // A hundred sign-ins would take minutes of Argon2id.
    let database = rusqlite::Connection::open(world.path().join("synckit.db")).unwrap();
    user.register_device(&world, "device 0").await;
    for n in 1..100_u8 {
        let insert = "INSERT INTO devices (stream_key, device_id, name, platform, created_at, last_seen_at)
             SELECT stream_key, ?1, 'device ' || ?2, platform, created_at, last_seen_at FROM devices LIMIT 1";
        database.execute(insert, rusqlite::params![[n; 16], n]).unwrap();
    }
    let other = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let answer = other.register(&world, &installation(1, "one more")).await;
    assert_eq!(answer.code(), "device_limit");
    other.register_device(&world, "device 7").await;
}
