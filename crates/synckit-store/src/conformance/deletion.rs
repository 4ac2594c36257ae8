//! The end of an account.

use crate::{
    AccountCreation, AppWrite, Append, CredentialOf, NewApp, NewSession, NewUpload, PageRead, RefreshUse, Store,
    StoreError, StreamId,
};
use synckit_protocol::{
    Cursor, SnapshotId,
    limits::{PRESIGNED_URL_SECONDS, UPLOAD_IN_PARTS_SECONDS, UPLOAD_SWEEP_SECONDS, UPLOAD_WHOLE_BYTES_MAX},
    wire::export::ExportLine,
};

use super::{
    fixture::{
        HASH, NO_BYTE_LIMIT, NOW, app_id, append, batch, blob_id, create_account, create_app, id16, key, new_account,
        new_device, new_envelope, new_key, new_pending, new_upload, object_key, open_session, page_request,
        ready_stream, register, secret, session_id, start, stream_of, upload, upload_id, user_id,
    },
    whole_account::{LATER, create_whole_account, retain},
};

/// The day of a scheduled deletion, after all that retention deletes of a whole account.
const DAY: u64 = LATER + 1000;

/// Whether a query finds anything of account `n`.
async fn finds_anything(store: &dyn Store, n: u64, stream: StreamId) -> bool {
    let user_id = user_id(n);
    let first = 1000 * n;
    let snapshot = SnapshotId::from_bytes(id16(first));
    let email = format!("{n}@example.org");
    store.credential(CredentialOf::Email(&email)).await.unwrap().is_some()
        || store.credential(CredentialOf::User(user_id)).await.unwrap().is_some()
        || store.account(user_id).await.unwrap().is_some()
        || store
            .accounts()
            .await
            .unwrap()
            .iter()
            .any(|account| account.user_id == user_id || account.email == email)
        || store.vault(user_id).await.unwrap().is_some()
        || store.export(user_id, None, 1000).await.unwrap().is_some()
        || store.start_reset(secret(first + 3), NOW).await.unwrap().is_some()
        || store.session(session_id(first + 1), NOW).await.unwrap().is_some()
        || !store.sessions(user_id, NOW).await.unwrap().is_empty()
        || store.advance_refresh(session_id(first + 1), 1, NOW).await.unwrap() != RefreshUse::Ended
        || !store.devices(stream).await.unwrap().is_empty()
        || store.envelope(stream).await.unwrap().is_some()
        || store.status(stream).await.unwrap().latest != start(stream)
        || store.status(stream).await.unwrap().stored_bytes != 0
        || store
            .page(page_request(stream, first + 1, Cursor::START, NO_BYTE_LIMIT))
            .await
            .unwrap()
            != PageRead::DeviceNotFound
        || store.snapshot(stream, snapshot).await.unwrap().is_some()
        || store.snapshot_part(stream, snapshot, 0).await.unwrap().is_some()
        || store.blob(stream, blob_id(first + 1)).await.unwrap().is_some()
        || !store.blobs(stream, None, 10).await.unwrap().is_empty()
        || !store
            .pending_uploads(stream, blob_id(first + 3), 1000 + first + 3, None)
            .await
            .unwrap()
            .is_empty()
}

pub async fn a_deleted_account_is_gone_at_once(store: &dyn Store) {
    create_app(store, 1).await;
    let stream = create_whole_account(store, 1, 1).await;
    assert!(finds_anything(store, 1, stream).await);
    let mut ended = store.delete_account(user_id(1)).await.unwrap().unwrap();
    ended.sort();
    assert_eq!(ended, [session_id(1001), session_id(1003)]);
    assert!(!finds_anything(store, 1, stream).await);
    retain(store, LATER).await;
    assert!(!finds_anything(store, 1, stream).await);
}

pub async fn a_deleted_app_is_gone_at_once(store: &dyn Store) {
    create_app(store, 1).await;
    create_whole_account(store, 1, 1).await;
    assert!(store.delete_app(app_id(1)).await.unwrap());
    assert!(!store.delete_app(app_id(1)).await.unwrap());
    assert!(store.apps(NOW).await.unwrap().is_empty());
    assert_eq!(store.app_of_key(key(1), NOW).await.unwrap(), None);
    assert!(!store.rotate_api_key(app_id(1), new_key(2), NOW).await.unwrap());
    let renamed = store.rename_app(app_id(1), "again".to_owned()).await.unwrap();
    assert_eq!(renamed, AppWrite::NoSuchApp);
    for session in [1001, 1003].map(session_id) {
        assert_eq!(store.session(session, NOW).await.unwrap(), None);
        let refreshed = store.advance_refresh(session, 1, NOW).await.unwrap();
        assert_eq!(refreshed, RefreshUse::Ended);
    }
    assert!(store.sessions(user_id(1), NOW).await.unwrap().is_empty());
    assert!(store.account(user_id(1)).await.unwrap().unwrap().apps.is_empty());
    // A sign-in that was under way.
    create_account(store, 2).await;
    let session = NewSession {
        id: session_id(9),
        stream: stream_of(1, 2),
        login: None,
        credential: None,
        now: NOW,
    };
    let refused = store.open_session(session).await;
    assert!(matches!(refused, Err(StoreError::NoSuchStream)), "{refused:?}");
    // Its name is free.
    create_app_named(store, 2, "app 1").await;
}

/// A stream with everything in it, and another without anything: after the sweep the app's row is gone, too.
pub async fn a_deleted_app_leaves_no_row_behind(store: &dyn Store) {
    create_app(store, 1).await;
    let stream = create_whole_account(store, 1, 1).await;
    let other = create_whole_account(store, 1, 2).await;
    store.delete_app(app_id(1)).await.unwrap();
    assert!(retain(store, LATER).await > 5, "in pieces");
    for stream in [stream, other] {
        assert!(store.devices(stream).await.unwrap().is_empty());
        assert!(store.envelope(stream).await.unwrap().is_none());
        assert_eq!(store.status(stream).await.unwrap().stored_bytes, 0);
    }
    assert_eq!(store.figures().await.unwrap().streams, 0);
    // The row of the app is gone: its id can be used again.
    create_app(store, 1).await;
    let credential = store.credential(CredentialOf::User(user_id(1))).await.unwrap();
    assert!(credential.is_some(), "accounts stay");
}

pub async fn a_deleted_app_leaves_other_apps_alone(store: &dyn Store) {
    create_app(store, 1).await;
    create_app(store, 2).await;
    create_whole_account(store, 1, 1).await;
    create_whole_account(store, 2, 2).await;
    let before = export(store, 2).await;
    store.delete_app(app_id(1)).await.unwrap();
    assert_eq!(export(store, 2).await, before);
    retain(store, LATER).await;
    assert_eq!(export(store, 2).await, before);
    assert!(store.session(session_id(2001), NOW).await.unwrap().is_some());
}

async fn create_app_named(store: &dyn Store, n: u64, name: &str) {
    let app = NewApp {
        id: app_id(n),
        name: name.to_owned(),
        team: None,
        key: new_key(n),
    };
    assert_eq!(store.create_app(app).await.unwrap(), AppWrite::Written);
}

pub async fn an_account_is_deleted_once(store: &dyn Store) {
    create_account(store, 1).await;
    assert_eq!(store.delete_account(user_id(1)).await.unwrap(), Some(Vec::new()));
    assert_eq!(store.delete_account(user_id(1)).await.unwrap(), None);
    assert_eq!(store.delete_account(user_id(2)).await.unwrap(), None);
}

pub async fn a_scheduled_deletion_waits_for_its_day(store: &dyn Store) {
    create_app(store, 1).await;
    let stream = create_whole_account(store, 1, 1).await;
    open_session(store, stream, 7).await;
    let ended = store.schedule_deletion(user_id(1), Some(DAY)).await.unwrap().unwrap();
    assert!(ended.contains(&session_id(7)));
    assert!(store.sessions(user_id(1), NOW).await.unwrap().is_empty());
    // The account is whole until then.
    retain(store, DAY - 1).await;
    assert!(finds_anything(store, 1, stream).await);
    assert!(!export(store, 1).await.is_empty());
    retain(store, DAY).await;
    assert!(!finds_anything(store, 1, stream).await);
    assert_eq!(store.schedule_deletion(user_id(1), Some(DAY)).await.unwrap(), None);
}

pub async fn a_sign_in_keeps_the_account(store: &dyn Store) {
    create_app(store, 1).await;
    for n in [1, 2] {
        create_whole_account(store, 1, n).await;
        store.schedule_deletion(user_id(n), Some(DAY)).await.unwrap().unwrap();
    }
    let session = NewSession {
        id: session_id(7),
        stream: stream_of(1, 1),
        login: None,
        credential: None,
        now: NOW,
    };
    assert!(store.open_session(session).await.unwrap(), "kept by this one");
    let second = NewSession {
        id: session_id(8),
        ..session
    };
    assert!(!store.open_session(second).await.unwrap());
    // The operator can keep one, too.
    create_whole_account(store, 1, 3).await;
    store.schedule_deletion(user_id(3), Some(DAY)).await.unwrap().unwrap();
    let listed = async || {
        let accounts = store.accounts().await.unwrap();
        accounts.iter().map(|account| account.delete_at).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [None, Some(DAY), Some(DAY)]);
    assert_eq!(
        store.schedule_deletion(user_id(3), None).await.unwrap(),
        Some(Vec::new())
    );
    assert_eq!(listed().await, [None, Some(DAY), None]);
    retain(store, DAY).await;
    let kept = store.accounts().await.unwrap();
    assert_eq!(
        kept.iter().map(|account| account.user_id).collect::<Vec<_>>(),
        [user_id(1), user_id(3)]
    );
}

pub async fn a_deletion_leaves_other_accounts_alone(store: &dyn Store) {
    create_app(store, 1).await;
    create_app(store, 2).await;
    let stream = create_whole_account(store, 1, 1).await;
    create_whole_account(store, 2, 2).await;
    create_whole_account(store, 1, 3).await;
    let exported = async |n| export(store, n).await;
    let before = (exported(1).await, exported(3).await);
    store.delete_account(user_id(2)).await.unwrap().unwrap();
    assert_eq!((exported(1).await, exported(3).await), before);
    assert!(retain(store, LATER).await > 5, "in pieces");
    assert_eq!((exported(1).await, exported(3).await), before);
    assert!(finds_anything(store, 1, stream).await);
    assert_eq!(store.accounts().await.unwrap().len(), 2);
}

async fn export(store: &dyn Store, n: u64) -> Vec<ExportLine> {
    let page = store.export(user_id(n), None, usize::MAX).await.unwrap().unwrap();
    assert_eq!(page.next, None);
    page.lines
}

pub async fn the_next_owner_of_an_address_finds_nothing(store: &dyn Store) {
    create_app(store, 1).await;
    create_whole_account(store, 1, 1).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    let mut next = new_account(2);
    next.email = new_account(1).email;
    assert_eq!(store.create_account(next).await.unwrap(), AccountCreation::Created);
    let stream = stream_of(1, 2);
    open_session(store, stream, 7).await;
    let found = export(store, 2).await;
    assert_eq!(found.len(), 3, "the account, its stream and its session: {found:#?}");
    assert_eq!(store.status(stream).await.unwrap().stored_bytes, 0);
    retain(store, LATER).await;
    assert_eq!(export(store, 2).await, found);
}

pub async fn a_deletion_reopens_no_invitation(store: &dyn Store) {
    create_app(store, 1).await;
    create_whole_account(store, 1, 1).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    assert!(!store.invite_is_open(secret(1000)).await.unwrap());
    let mut account = new_account(2);
    account.invite = Some(secret(1000));
    assert_eq!(
        store.create_account(account).await.unwrap(),
        AccountCreation::InviteInvalid
    );
}

/// Somebody who tried to register the address left it behind.
pub async fn a_deletion_takes_pending_accounts_along(store: &dyn Store) {
    create_account(store, 1).await;
    let mut again = new_pending(2);
    again.account.email = new_account(1).email;
    let of = CredentialOf::Pending {
        email: "1@example.org",
        code: again.code,
        now: NOW,
    };
    store.put_pending_account(again.clone()).await.unwrap();
    assert!(store.credential(of).await.unwrap().is_some());
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    assert!(store.credential(of).await.unwrap().is_none());
}

/// A request that was let in before the deletion must not bring anything of the account back.
pub async fn what_arrives_after_a_deletion_is_refused(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    let session = NewSession {
        id: session_id(9),
        stream,
        login: None,
        credential: None,
        now: NOW,
    };
    let refused =
        |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::NoSuchStream)), "{result:?}");
    refused(store.open_session(session).await.map(drop));
    refused(store.register_device(new_device(stream, 9)).await.map(drop));
    refused(store.put_envelope(new_envelope(stream, 0)).await.map(drop));
    refused(store.begin_upload(new_upload(stream, 9, 9)).await.map(drop));
    let pushed = store.append_batch(batch(stream, start(stream), 1, 9, 1, 10)).await;
    assert_eq!(pushed.unwrap(), Append::DeviceNotFound);
    retain(store, LATER).await;
    refused(store.open_session(session).await.map(drop));
}

pub async fn deleted_objects_are_swept_after_their_urls(store: &dyn Store) {
    create_app(store, 1).await;
    create_whole_account(store, 1, 1).await;
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    retain(store, LATER).await;
    // Two blobs, one of them deleted, and an upload whose URL ends an hour later.
    let end = NOW + PRESIGNED_URL_SECONDS + UPLOAD_SWEEP_SECONDS;
    assert!(store.sweepable_objects(end - 1, 10).await.unwrap().is_empty());
    let mut swept = store.sweepable_objects(end, 10).await.unwrap();
    swept.sort();
    assert_eq!(swept, [object_key(1001), object_key(1002), object_key(1003)]);
    assert_eq!(store.objects_deleted(&swept, end).await.unwrap(), 3);
    assert!(store.sweepable_objects(end + 1, 10).await.unwrap().is_empty());
    assert!(
        !store
            .confirm_upload(stream_of(1, 1), upload_id(1003), HASH, NOW)
            .await
            .unwrap()
    );
}

/// Unfinished parts do not stay for their week: nobody is given another URL.
pub async fn parts_of_the_deleted_go_after_two_hours(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let deleted_at = NOW + 60;
    // One that would go on, and one that was ended a minute before.
    for n in [1, 2] {
        let upload = NewUpload {
            size: UPLOAD_WHOLE_BYTES_MAX + n,
            expires_at: NOW + UPLOAD_IN_PARTS_SECONDS,
            ..new_upload(stream, n, n)
        };
        store.begin_upload(upload).await.unwrap();
    }
    assert!(store.end_upload(stream, upload_id(2), NOW).await.unwrap());
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    retain(store, deleted_at).await;
    let [ended, deleted] = [NOW, deleted_at].map(|at| at + PRESIGNED_URL_SECONDS + UPLOAD_SWEEP_SECONDS);
    for (now, swept) in [
        (ended - 1, vec![]),
        (ended, vec![object_key(2)]),
        (deleted - 1, vec![object_key(2)]),
        (deleted, vec![object_key(2), object_key(1)]),
    ] {
        assert_eq!(store.sweepable_objects(now, 10).await.unwrap(), swept, "{}", now - NOW);
    }
}

/// More than fits one piece, of everything that there can be many of.
pub async fn a_large_account_is_deleted_in_pieces(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let mut position = start(stream);
    for n in 1..=450 {
        let batch = batch(stream, position, 1, n, 1, 1000);
        position = append(store, &batch).await;
        upload(store, stream, n, n).await;
        if n % 2 == 0 {
            let device = register(store, stream, 1000 + n).await;
            store.revoke_device(stream, device, NOW).await.unwrap();
        }
    }
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    let pieces = retain(store, LATER).await;
    assert!((9..30).contains(&pieces), "{pieces}");
    let swept = store.sweepable_objects(LATER, 1000).await.unwrap();
    assert_eq!(swept.len(), 450);
}
