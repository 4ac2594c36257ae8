//! The account as a whole: what is kept of it, its sessions, an export, its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use synckit_client::{Cursor, Error, MemoryStore, ProblemCode, SyncKitClient};

use crate::{
    interference::{Fate, Interference},
    world::{World, changes, pull_all},
};

#[tokio::test]
async fn account_opens_after_sign_in_or_confirmation() {
    // The account is open after a sign in and after the password was confirmed.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, device_id) = world.first_device(&user).await;
    laptop.push(device_id, changes(3)).await.unwrap();
    let account = laptop.account().await.unwrap();
    assert_eq!(account.email, user.email);
    assert_eq!(Some(account.user_id), laptop.user_id());
    let usage = &account.apps[0];
    assert_eq!(
        (usage.app_name.as_str(), usage.change_count, usage.devices),
        ("test app", 3, 1)
    );

    // Another start of the app has a session, and no proof of the password.
    let restarted = world.another_client(&user).await;
    for refused in [
        restarted.account().await.map(drop),
        restarted.sessions().await.map(drop),
        restarted.export_account(Vec::new()).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::FreshLoginRequired)), "{refused:?}");
    }
    let wrong = restarted.confirm_password("wrong").await;
    assert!(matches!(wrong, Err(Error::InvalidCredentials)), "{wrong:?}");
    restarted.confirm_password(&user.password).await.unwrap();
    assert_eq!(restarted.account().await.unwrap(), account);
}

#[tokio::test]
async fn a_session_is_revoked_from_another_device() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    let sessions = laptop.sessions().await.unwrap();
    let names: Vec<_> = sessions
        .iter()
        .map(|session| (session.device_name.as_deref(), session.current))
        .collect();
    assert_eq!(names, [(Some("phone"), false), (Some("laptop"), true)]);
    laptop.revoke_session(sessions[0].id).await.unwrap();
    let error = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded), "{error:?}");
    let error = laptop.revoke_session(sessions[0].id).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::SessionNotFound), "{error:?}");
    assert_eq!(laptop.sessions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_export_arrives_whole_or_is_an_error() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, device_id) = world.first_device(&user).await;
    laptop.push(device_id, changes(700)).await.unwrap();
    let mut written = Vec::new();
    let report = laptop.export_account(&mut written).await.unwrap();
    assert_eq!(report.bytes, written.len() as u64);
    let text = String::from_utf8(written).unwrap();
    assert_eq!(report.lines, text.lines().count() as u64);
    assert_eq!(text.matches(r#"{"kind":"batch","#).count(), 2);
    assert!(!text.contains("row 1"), "what is sealed stays sealed");

    type Cut = fn(Vec<u8>) -> Vec<u8>;
    let cuts: [Cut; 4] = [
        |_| Vec::new(),
        |whole| whole[..whole.len() - 1].to_vec(),
        // Without the last line.
        |whole| {
            whole[..whole[..whole.len() - 1]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .unwrap()
                + 1]
                .to_vec()
        },
        // Without a line in the middle.
        |whole| {
            let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
            lines.remove(2);
            lines.concat()
        },
    ];
    for cut in cuts {
        let client = world
            .signed_in_over(&user, Interference::changing("/api/account/export", cut))
            .await;
        let error = client.export_account(Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn deleted_account_is_gone_on_every_device() {
    // A deleted account is forgotten on this device and known as gone on others.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let (phone, phone_id) = world.next_device(&user, "phone").await;
    laptop.push(laptop_id, changes(3)).await.unwrap();

    let error = laptop.delete_account("wrong").await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");
    assert_eq!(pull_all(&phone, phone_id, Cursor::START).await.unwrap().0.len(), 3);

    laptop.delete_account(&user.password).await.unwrap();
    assert_eq!(laptop.user_id(), None);
    let restarted = world.client(&user, "laptop", None);
    let stored = restarted.try_load_key_from_keychain();
    assert!(matches!(stored, Err(Error::NoStoredKey)), "{stored:?}");

    let error = phone.pull(phone_id, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::AccountGone), "{error:?}");
    let error = phone.push(phone_id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::AccountGone), "{error:?}");
    // The key on the other device stays until its user says so: the server may have lost the account.
    world.client(&user, "phone", None).try_load_key_from_keychain().unwrap();
    phone.sign_out().await.unwrap();
    let error = phone.authenticate(&user.email, &user.password).await.unwrap_err();
    assert!(matches!(error, Error::InvalidCredentials), "{error:?}");

    laptop.create_account(&user.email, &user.password).await.unwrap();
    let (again, device_id) = world.first_device(&user).await;
    assert!(pull_all(&again, device_id, Cursor::START).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn repeated_deletion_after_lost_answer_succeeds() {
    // A deletion whose answer was lost is a success when it is repeated.
    let world = World::start().await;
    let user = world.user().await;
    let lost = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        let deletes = request.method() == http::Method::DELETE && request.uri().path() == "/api/account";
        // Every attempt of the first call.
        if deletes && lost.fetch_add(1, Ordering::SeqCst) < 4 {
            Fate::AnswerLost
        } else {
            Fate::Delivered
        }
    });
    let client = world.signed_in_over(&user, transport).await;
    let error = client.delete_account(&user.password).await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    client.delete_account(&user.password).await.unwrap();
    assert_eq!(client.user_id(), None);
    let stranger = SyncKitClient::builder(world.config())
        .credential_store(MemoryStore::default())
        .build();
    assert!(matches!(stranger.account().await, Err(Error::NotSignedIn)));
}
