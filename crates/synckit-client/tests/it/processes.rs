//! Processes that share a device's credentials without a word to each other, and processes that were killed.

use std::{
    fs::{self, File},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use synckit_client::SyncKitClient;
use synckit_protocol::{Problem, ProblemCode};

use crate::{
    interference::{Fate, Interference},
    world::{World, changes},
};

/// Refuses the token of the first so many questions for the status.
fn refusing_tokens(times: usize) -> Arc<Interference> {
    let refused = AtomicUsize::new(0);
    Interference::new(move |request| {
        if request.uri().path() == "/api/sync/status" && refused.fetch_add(1, Ordering::SeqCst) < times {
            let problem = Problem::new(ProblemCode::TokenInvalid);
            return Fate::Answered(401, serde_json::to_vec(&problem).unwrap());
        }
        Fate::Delivered
    })
}

/// Another process had refreshed the session; then the server's signing key was lost once more, and with it that token.
#[tokio::test]
async fn refused_shared_token_keeps_session() {
    // A token that another process stored and the server refuses too does not end the session.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let late = world.resumed_over(&user, refusing_tokens(2));
    let early = world.resumed_over(&user, refusing_tokens(1));
    early.status().await.unwrap();
    late.status().await.unwrap();
    early.status().await.unwrap();
}

/// The server lost its signing key between the sign-in and the call that needs its account token.
#[tokio::test]
async fn refused_account_token_keeps_session() {
    // An account token that the server refuses does not end the session.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let refused = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        if request.uri().path() == "/api/account/vault" && refused.fetch_add(1, Ordering::SeqCst) == 0 {
            let problem = Problem::new(ProblemCode::TokenInvalid);
            return Fate::Answered(401, serde_json::to_vec(&problem).unwrap());
        }
        Fate::Delivered
    });
    let client = world.resumed_over(&user, transport);
    client.setup_encryption_existing(&user.password).await.unwrap();
}

/// The envelope arrives, and before it is looked at, another process of the device changes the key.
#[tokio::test(flavor = "multi_thread")]
async fn key_changed_by_another_process_is_accepted() {
    // A key that another process changes meanwhile is no older envelope.
    let world = World::start().await;
    let user = world.user().await;
    let (_, device) = world.first_device(&user).await;
    let other = world.another_client(&user).await;
    let meanwhile = Arc::new(parking_lot::Mutex::new(Some((other.clone(), user.password.clone()))));
    let transport = Interference::new(move |request| {
        if request.uri().path() != "/api/sync/keys" {
            return Fate::Delivered;
        }
        let meanwhile = Arc::clone(&meanwhile);
        Fate::Changed(Box::new(move |body| {
            if let Some((other, password)) = meanwhile.lock().take() {
                change_key_elsewhere(other, password);
            }
            body
        }))
    });
    let client = world.resumed_over(&user, transport);
    client.setup_encryption_existing(&user.password).await.unwrap();
    client.setup_encryption_existing(&user.password).await.unwrap();
    client.push(device, changes(3)).await.unwrap();
    other.push(device, changes(3)).await.unwrap();
}

fn change_key_elsewhere(other: SyncKitClient, password: String) {
    let changing = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(other.rotate_keys(&password)).unwrap();
    });
    changing.join().unwrap();
}

#[tokio::test]
async fn next_download_removes_leftovers_of_a_killed_one() {
    // What a killed download left goes with the next to the same path.
    let world = World::start().await;
    let user = world.user().await;
    let (client, _) = world.first_device(&user).await;
    let hash = client.blob_put(vec![7; 1000], |_| {}).await.unwrap();
    let directory = world.file("downloads");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("photo");
    fs::write(directory.join(".photo.killed.synckit-part"), b"half").unwrap();
    let alive = directory.join(".photo.alive.synckit-part");
    let held = File::create(&alive).unwrap();
    held.lock().unwrap();
    fs::write(directory.join(".other.killed.synckit-part"), b"half").unwrap();

    client.blob_get(&hash, path.clone(), |_| {}).await.unwrap();
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [".other.killed.synckit-part", ".photo.alive.synckit-part", "photo"],
        "another process's download and another path's rest are not touched"
    );
    drop(held);
}

#[tokio::test]
async fn next_write_removes_leftovers_of_a_killed_one() {
    // Secrets that a killed write of credentials left go with the next write.
    let world = World::start().await;
    let user = world.user().await;
    let (client, _) = world.first_device(&user).await;
    let credentials = world.file(&format!("{} laptop.json", user.email));
    let name = credentials.file_name().unwrap().to_str().unwrap();
    let begin: String = name.chars().take(40).collect();
    let lock = fs::read_dir(credentials.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(&format!(".{begin}."))
        })
        .unwrap();
    let left = lock.with_extension("new-killed");
    fs::write(&left, b"secrets").unwrap();
    client.sign_out().await.unwrap();
    assert!(!left.exists());
}
