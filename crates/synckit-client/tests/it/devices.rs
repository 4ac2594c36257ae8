//! Which device an installation is: through sign-ins, renames, and beside another machine of the same name.

use std::sync::Arc;

use synckit_client::{Cursor, DeviceId, Error, MemoryStore, ProblemCode, SyncKitClient};

use crate::{
    interference::{Fate, Interference},
    world::{User, World, changes},
};

/// The app on a machine, after a start and a sign-in.
async fn start(world: &World, user: &User, machine: &str) -> SyncKitClient {
    let client = world.client(user, machine, None);
    client.authenticate(&user.email, &user.password).await.unwrap();
    if client.has_server_key().await.unwrap() {
        client.setup_encryption_existing(&user.password).await.unwrap();
    } else {
        client.setup_encryption_new(&user.password).await.unwrap();
    }
    client
}

async fn names(client: &SyncKitClient) -> Vec<String> {
    let devices = client.devices().await.unwrap();
    devices.into_iter().map(|device| device.device_name).collect()
}

#[tokio::test]
async fn two_machines_of_one_name_are_two_devices() {
    let world = World::start().await;
    let user = world.user().await;
    let (first, second) = (start(&world, &user, "a").await, start(&world, &user, "b").await);
    let device = first.register_device("MacBook", "macos").await.unwrap();
    let other = second.register_device("MacBook", "macos").await.unwrap();
    assert_ne!(device.id, other.id);
    assert_eq!(other.device_name, "MacBook (2)", "the app can show it");

    first.revoke_device(other.id).await.unwrap();
    first.push(device.id, changes(1)).await.unwrap();
    let error = second.push(other.id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::SessionEnded), "{error:?}");
}

#[tokio::test]
async fn renamed_device_is_the_same_at_the_next_start() {
    let world = World::start().await;
    let user = world.user().await;
    let client = start(&world, &user, "a").await;
    let device = client.register_device("MacBook", "macos").await.unwrap();
    let other = start(&world, &user, "b").await;
    other.register_device("phone", "ios").await.unwrap();
    other.rename_device(device.id, "kitchen").await.unwrap();

    let same = async |client: &SyncKitClient| {
        let registered = client.register_device("MacBook", "macos").await.unwrap();
        assert_eq!((registered.id, registered.device_name.as_str()), (device.id, "kitchen"));
    };
    // With the stored session, and with a new one.
    let resumed = world.client(&user, "a", None);
    resumed.try_load_key_from_keychain().unwrap();
    same(&resumed).await;
    resumed.sign_out().await.unwrap();
    same(&start(&world, &user, "a").await).await;
    assert_eq!(names(&other).await, ["kitchen", "phone"]);
}

#[tokio::test]
async fn revoked_installation_becomes_another_device() {
    let world = World::start().await;
    let user = world.user().await;
    let client = start(&world, &user, "a").await;
    let device = client.register_device("MacBook", "macos").await.unwrap();
    client.revoke_device(device.id).await.unwrap();

    let client = start(&world, &user, "a").await;
    let error = client.pull(device.id, Cursor::START).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::DeviceMismatch), "{error:?}");
    let new = client.register_device("MacBook", "macos").await.unwrap();
    assert_ne!(new.id, device.id);
    client.pull(new.id, Cursor::START).await.unwrap();
}

#[tokio::test]
async fn new_sign_in_goes_on_with_the_device() {
    // With a file, and with a store that ends with the process.
    let world = World::start().await;
    let user = world.user().await;
    let in_memory = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    start(&world, &user, "file").await;
    for client in [world.client(&user, "file", None), in_memory] {
        client.authenticate(&user.email, &user.password).await.unwrap();
        client.setup_encryption_existing(&user.password).await.unwrap();
        let device = client.register_device("MacBook", "macos").await.unwrap();
        let renamed = client.rename_device(device.id, "kitchen").await.unwrap();
        assert_eq!(renamed.id, device.id);
        for _ in 0..2 {
            client.authenticate(&user.email, &user.password).await.unwrap();
            let (pushed, pulled) = tokio::join!(
                client.push(device.id, changes(1)),
                client.pull(device.id, Cursor::START)
            );
            pushed.unwrap();
            pulled.unwrap();
        }
        assert_eq!(names(&client).await, ["kitchen"]);
        client.revoke_device(device.id).await.unwrap();
    }
}

#[tokio::test]
async fn lost_answer_to_a_registration_leaves_one_device() {
    let world = World::start().await;
    let user = world.user().await;
    start(&world, &user, "a").await;
    let lossy = Interference::new(|request| match request.uri().path() {
        "/api/sync/devices" => Fate::AnswerLost,
        _ => Fate::Delivered,
    });
    let client = world.client(&user, "a", Some(lossy));
    client.try_load_key_from_keychain().unwrap();
    let error = client.register_device("MacBook", "macos").await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    // Renamed meanwhile, so that the name finds nothing.
    let other = start(&world, &user, "b").await;
    let lost = other.devices().await.unwrap().remove(0);
    other.rename_device(lost.id, "kitchen").await.unwrap();
    let client = start(&world, &user, "a").await;
    assert_eq!(client.register_device("MacBook", "macos").await.unwrap().id, lost.id);
}

#[tokio::test]
async fn device_of_another_session_cannot_be_used() {
    let world = World::start().await;
    let user = world.user().await;
    let (first, second) = (start(&world, &user, "a").await, start(&world, &user, "b").await);
    let device = first.register_device("laptop", "linux").await.unwrap();
    let other = second.register_device("phone", "ios").await.unwrap();
    for named in [other.id, DeviceId::from_bytes([9; 16])] {
        let pushed = first.push(named, changes(1)).await.unwrap_err().source;
        let pulled = first.pull(named, Cursor::START).await.unwrap_err();
        for error in [pushed, pulled] {
            assert_eq!(error.problem_code(), Some(ProblemCode::DeviceMismatch), "{error:?}");
        }
    }
    first.push(device.id, changes(1)).await.unwrap();
}

#[tokio::test]
async fn sessions_are_shown_with_their_devices() {
    let world = World::start().await;
    let user = world.user().await;
    let (first, second) = (start(&world, &user, "a").await, start(&world, &user, "b").await);
    let device = first.register_device("laptop", "linux").await.unwrap();
    let sessions = first.device_sessions().await.unwrap();
    let shown: Vec<_> = sessions
        .iter()
        .map(|session| (session.device_id, session.current))
        .collect();
    assert_eq!(shown, [(None, false), (Some(device.id), true)]);
    first.revoke_session(sessions[0].id).await.unwrap();
    assert!(matches!(second.devices().await, Err(Error::SessionEnded)));
    assert_eq!(first.device_sessions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn installation_is_sent_and_never_answered() {
    let world = World::start().await;
    let user = world.user().await;
    let sent = Arc::new(std::sync::Mutex::new(Vec::new()));
    let recorded = Arc::clone(&sent);
    let recorder = Interference::new(move |request| {
        if let ("/api/sync/devices", synckit_client::transport::RequestBody::Full(body)) =
            (request.uri().path(), request.body())
        {
            let body: synckit_protocol::wire::devices::RegisterDevice = minicbor_serde::from_slice(body).unwrap();
            recorded.lock().unwrap().push(body.installation_id);
        }
        Fate::Delivered
    });
    for machine in ["a", "a", "b"] {
        let client = world.client(&user, machine, Some(recorder.clone()));
        client.authenticate(&user.email, &user.password).await.unwrap();
        client.register_device("MacBook", "macos").await.unwrap();
    }
    let in_memory = world.signed_in_over(&user, recorder.clone()).await;
    in_memory.register_device("MacBook", "macos").await.unwrap();
    let sent = sent.lock().unwrap().clone();
    assert!(
        sent[0].is_some() && sent[0] == sent[1] && sent[1] != sent[2] && sent[2].is_some(),
        "{sent:?}"
    );
    assert_eq!(
        sent[3], None,
        "what ends with the process finds nothing at the next start"
    );
    let listed = serde_json::to_string(&in_memory.devices().await.unwrap()).unwrap();
    assert!(!listed.contains(&sent[0].unwrap().to_string()), "{listed}");
}
