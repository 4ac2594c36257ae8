//! The master key: made once, opened by password or recovery code, never made twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use synckit_client::{Cursor, Error, MemoryStore, ProblemCode, RecoveryCode, SyncKitClient, SyncKitConfig, Tampering};
use synckit_server::Admin;

use crate::{
    interference::{Fate, Interference},
    world::{World, change, changes, pull_all},
};

#[tokio::test]
async fn the_first_device_makes_the_key_and_only_the_first() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    assert!(laptop.has_server_key().await.unwrap());
    let error = laptop.setup_encryption_new(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::KeyAlreadyExists), "{error:?}");
}

#[tokio::test]
async fn two_first_devices_end_with_one_key() {
    // Two devices that are first at once end with one key.
    let world = World::start().await;
    let user = world.user().await;
    let clients: Vec<SyncKitClient> = (0..2)
        .map(|_| {
            SyncKitClient::builder(world.config())
                .credential_store(MemoryStore::default())
                .build()
        })
        .collect();
    for client in &clients {
        client.authenticate(&user.email, &user.password).await.unwrap();
    }
    let (first, second) = tokio::join!(
        clients[0].setup_encryption_new(&user.password),
        clients[1].setup_encryption_new(&user.password)
    );
    let lost = match (&first, &second) {
        (Ok(()), Err(Error::KeyAlreadyExists)) => &clients[1],
        (Err(Error::KeyAlreadyExists), Ok(())) => &clients[0],
        other => panic!("{other:?}"),
    };
    lost.setup_encryption_existing(&user.password).await.unwrap();
    let mut ids = Vec::new();
    for (client, name) in clients.iter().zip(["a", "b"]) {
        let device = client.register_device(name, "linux").await.unwrap();
        client.push(device.id, vec![change("t", name)]).await.unwrap();
        ids.push(device.id);
    }
    assert_eq!(pull_all(&clients[0], ids[0], Cursor::START).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn a_lost_answer_to_the_first_envelope_is_a_success() {
    let world = World::start().await;
    let user = world.user().await;
    let lose = std::sync::atomic::AtomicBool::new(true);
    let transport = Interference::new(move |request| {
        let put = request.method() == http::Method::PUT && request.uri().path() == "/api/sync/keys";
        if put && lose.swap(false, std::sync::atomic::Ordering::SeqCst) {
            Fate::AnswerLost
        } else {
            Fate::Delivered
        }
    });
    let client = world.signed_in_over(&user, transport).await;
    client.setup_encryption_new(&user.password).await.unwrap();
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(1)).await.unwrap();
}

#[tokio::test]
async fn the_wrong_password_opens_nothing() {
    let world = World::start().await;
    let user = world.user().await;
    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    let error = client.authenticate(&user.email, "wrong").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    let error = client
        .authenticate("nobody@example.com", &user.password)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    client.authenticate(&user.email, &user.password).await.unwrap();
    let error = client.setup_encryption_new("wrong").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    assert!(!client.has_server_key().await.unwrap());
}

#[tokio::test]
async fn setup_after_sign_in_needs_no_second_login() {
    // Setting up right after signing in asks the server for no second login.
    let world = World::start().await;
    let user = world.user().await;
    let transport = Interference::new(|_| Fate::Delivered);
    let client = world.signed_in_over(&user, transport.clone()).await;
    let before = transport.requests();
    client.setup_encryption_new(&user.password).await.unwrap();
    // The vault and the envelope.
    assert_eq!(transport.requests() - before, 2);
}

#[tokio::test]
async fn changed_password_opens_the_same_data() {
    // A changed password opens the same data and the old one nothing.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let (phone, phone_id) = world.next_device(&user, "phone").await;

    let error = laptop.change_password("wrong", "new pass").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    laptop.change_password(&user.password, "new password").await.unwrap();

    // The device that changed it goes on, every other has to sign in again.
    laptop.push(laptop_id, changes(1)).await.unwrap();
    let error = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded), "{error:?}");
    let error = phone.authenticate(&user.email, &user.password).await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    phone.authenticate(&user.email, "new password").await.unwrap();
    phone.setup_encryption_existing("new password").await.unwrap();
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 3);
    // And once more, from the password that was just set.
    laptop.change_password("new password", &user.password).await.unwrap();
}

#[tokio::test]
async fn the_recovery_code_opens_what_the_password_opens() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let first = laptop.recovery_code(&user.password).await.unwrap();
    let code = laptop.recovery_code(&user.password).await.unwrap();
    let words = code.words().to_string();
    assert_eq!(words.split(' ').count(), 24);

    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    client.authenticate(&user.email, &user.password).await.unwrap();
    let error = client.setup_encryption_with_recovery(&first).await.unwrap_err();
    assert!(
        matches!(error, Error::WrongRecoveryCode),
        "an earlier code stops working: {error:?}"
    );
    // As somebody would type it.
    let typed = RecoveryCode::parse(&format!("  {}\n", words.to_uppercase().replace(' ', "  "))).unwrap();
    client.setup_encryption_with_recovery(&typed).await.unwrap();
    let client_id = client.register_device("another laptop", "linux").await.unwrap().id;
    assert_eq!(pull_all(&client, client_id, Cursor::START).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn recovery_code_survives_a_password_change() {
    // The recovery code survives a change of the password.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let code = laptop.recovery_code(&user.password).await.unwrap();
    laptop.change_password(&user.password, "new pass").await.unwrap();
    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    client.authenticate(&user.email, "new pass").await.unwrap();
    client.setup_encryption_with_recovery(&code).await.unwrap();
    client.setup_encryption_existing("new pass").await.unwrap();
}

#[tokio::test]
async fn recovery_code_after_reset_enables_new_password() {
    // After a reset the recovery code opens the data and the new password from then on.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let code = laptop.recovery_code(&user.password).await.unwrap();

    let client = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    client.request_password_reset(&user.email).await.unwrap();
    let mailed = world.mailed_code(&user, "Reset your password").await;
    client.reset_password(&mailed, "new pass").await.unwrap();
    let used = client.reset_password(&mailed, "newer").await.unwrap_err();
    assert_eq!(used.problem_code(), Some(ProblemCode::MailCodeInvalid), "{used:?}");

    let error = client.authenticate(&user.email, &user.password).await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    client.authenticate(&user.email, "new pass").await.unwrap();
    let error = client.setup_encryption_existing("new pass").await.unwrap_err();
    let Error::PasswordWasReset {
        envelope_generation,
        vault_generation,
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(envelope_generation < vault_generation);
    let error = client.setup_encryption_new("new pass").await.unwrap_err();
    assert!(
        matches!(error, Error::KeyAlreadyExists),
        "a reset never leads to a second key: {error:?}"
    );

    client.setup_encryption_with_recovery(&code).await.unwrap();
    let client_id = client.register_device("another laptop", "linux").await.unwrap().id;
    assert_eq!(pull_all(&client, client_id, Cursor::START).await.unwrap().0.len(), 2);
    // The envelope was wrapped anew, so the next device needs the password only.
    let tablet = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    tablet.authenticate(&user.email, "new pass").await.unwrap();
    tablet.setup_encryption_existing("new pass").await.unwrap();
    let tablet_id = tablet.register_device("tablet", "android").await.unwrap().id;
    assert_eq!(pull_all(&tablet, tablet_id, Cursor::START).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn device_with_the_key_rewraps_it_after_a_reset() {
    // After a reset a device that holds the key wraps it for the others.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    laptop.request_password_reset(&user.email).await.unwrap();
    let mailed = world.mailed_code(&user, "Reset your password").await;
    laptop.reset_password(&mailed, "new pass").await.unwrap();
    let error = laptop.pull(laptop_id, Cursor::START).await.unwrap_err();
    assert!(
        matches!(error, Error::SessionEnded),
        "a reset ends every session: {error:?}"
    );

    laptop.authenticate(&user.email, "new pass").await.unwrap();
    laptop.setup_encryption_existing("new pass").await.unwrap();
    let phone = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    phone.authenticate(&user.email, "new pass").await.unwrap();
    phone.setup_encryption_existing("new pass").await.unwrap();
    let phone_id = phone.register_device("phone", "android").await.unwrap().id;
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn vault_that_was_rolled_back_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let replaced = laptop.recovery_code(&user.password).await.unwrap();
    // A liar's copies of the vault and the envelope from before the next code, which it shows from then on.
    let kept: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    let lies: Arc<Mutex<Vec<&str>>> = Arc::default();
    let (keeping, lying) = (Arc::clone(&kept), Arc::clone(&lies));
    let liar = Interference::new(move |request| {
        let path = request.uri().path().to_owned();
        if request.method() != http::Method::GET {
            return Fate::Delivered;
        }
        if lying.lock().unwrap().contains(&path.as_str()) {
            return Fate::Answered(200, keeping.lock().unwrap()[&path].clone());
        }
        let keeping = Arc::clone(&keeping);
        Fate::Changed(Box::new(move |body| {
            keeping.lock().unwrap().entry(path).or_insert_with(|| body.clone());
            body
        }))
    });
    let (phone, _) = world.device_over(&user, "phone", liar.clone()).await;
    let code = laptop.recovery_code(&user.password).await.unwrap();

    // A device that knows no newer one has the edition from the envelope.
    lies.lock().unwrap().push("/api/account/vault");
    let is_replaced =
        |error: &Error| matches!(error, Error::Tampering(Tampering::VaultReplaced { known, found }) if found < known);
    let error = phone.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(is_replaced(&error), "{error:?}");
    let fresh = world.signed_in_over(&user, liar.clone()).await;
    let error = fresh.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(is_replaced(&error), "{error:?}");
    // A device that has seen the newer vault remembers it, whatever envelope it is shown.
    lies.lock().unwrap().clear();
    phone.setup_encryption_existing(&user.password).await.unwrap();
    lies.lock().unwrap().extend(["/api/account/vault", "/api/sync/keys"]);
    for error in [
        phone.change_password(&user.password, "new password").await.unwrap_err(),
        phone.recovery_code(&user.password).await.unwrap_err(),
        phone.rotate_keys(&user.password).await.unwrap_err(),
        phone.setup_encryption_with_recovery(&replaced).await.unwrap_err(),
    ] {
        assert!(is_replaced(&error), "{error:?}");
    }
    // So the user's own code is still the good one.
    lies.lock().unwrap().clear();
    phone.setup_encryption_with_recovery(&code).await.unwrap();
    let error = phone.setup_encryption_with_recovery(&replaced).await.unwrap_err();
    assert!(matches!(error, Error::WrongRecoveryCode), "{error:?}");
}

#[tokio::test]
async fn vault_of_a_restored_backup_is_the_users_decision() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    laptop.push(laptop_id, changes(1)).await.unwrap();
    let backup = world.backup();
    laptop.recovery_code(&user.password).await.unwrap();
    let world = world.restore(backup).await;
    let error = laptop.recovery_code(&user.password).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::VaultReplaced { .. })),
        "{error:?}"
    );
    laptop.restore_envelope(&user.password).await.unwrap();
    let code = laptop.recovery_code(&user.password).await.unwrap();
    let fresh = world
        .signed_in_over(&user, Interference::new(|_| Fate::Delivered))
        .await;
    fresh.setup_encryption_with_recovery(&code).await.unwrap();
    let fresh_id = fresh.register_device("fresh", "linux").await.unwrap().id;
    assert_eq!(pull_all(&fresh, fresh_id, Cursor::START).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn replaced_account_key_ends_the_old_one() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(laptop_id, changes(2)).await.unwrap();
    let code = laptop.recovery_code(&user.password).await.unwrap();
    // Another app of the same account, with a device of its own.
    let other = Admin::open(&world.data_dir())
        .unwrap()
        .create_app("another app")
        .await
        .unwrap();
    let config = SyncKitConfig {
        api_key: other.api_key.expose().to_owned(),
        ..world.config()
    };
    let in_other_app = async |is_first: bool| {
        let client = SyncKitClient::builder(config.clone())
            .credential_store(MemoryStore::default())
            .build();
        client.authenticate(&user.email, &user.password).await.unwrap();
        if is_first {
            client.setup_encryption_new(&user.password).await.unwrap();
        }
        client
    };
    let holder = in_other_app(true).await;

    laptop.replace_account_key(&user.password).await.unwrap();
    laptop.push(laptop_id, changes(1)).await.unwrap();
    let error = phone.push(phone_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::KeyRotated { .. }), "{error:?}");
    phone.setup_encryption_existing(&user.password).await.unwrap();
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 3);
    world.next_device(&user, "tablet").await;
    // The old code opens the old vault, and no key of this app is under that any more.
    let fresh = world
        .signed_in_over(&user, Interference::new(|_| Fate::Delivered))
        .await;
    let error = fresh.setup_encryption_with_recovery(&code).await.unwrap_err();
    assert!(matches!(error, Error::WrongRecoveryCode), "{error:?}");

    // The other app continues: by the old code, or by a device that holds its keys.
    let joining = in_other_app(false).await;
    let error = joining.setup_encryption_existing(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::PasswordWasReset { .. }), "{error:?}");
    joining.setup_encryption_with_recovery(&code).await.unwrap();
    in_other_app(false)
        .await
        .setup_encryption_existing(&user.password)
        .await
        .unwrap();
    laptop.replace_account_key(&user.password).await.unwrap();
    holder.setup_encryption_existing(&user.password).await.unwrap();
    in_other_app(false)
        .await
        .setup_encryption_existing(&user.password)
        .await
        .unwrap();
}
