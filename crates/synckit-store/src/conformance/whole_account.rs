//! An account with something of every kind that a store keeps.

use crate::{
    AccountCreation, CountedKey, NewAccount, NewMailCode, NewSnapshot, NewSnapshotPart, NewTeam, PasswordReset, Place,
    Retention, SnapshotPartWrite, SnapshotWrite, Store, StreamId, TeamCreation, UploadBegin, VersionedWrite,
    rules::quotas::PlanRoom,
};
use bytes::Bytes;
use synckit_protocol::{Cursor, Position, SnapshotId, TeamId};

use crate::conformance::fixture::{
    KEY, NO_BYTE_LIMIT, NOW, OWNER, append, batch, blob_id, id16, new_account, new_upload, open_session, page_request,
    password, register, secret, set_up_encryption, start, stream_of, upload, user_id,
};

const DAY: u64 = 24 * 3600;
/// When the account has all that it ever has.
pub const LATER: u64 = NOW + 15 * DAY;

/// The ages of the default configuration at `now`.
pub fn retention(now: u64) -> Retention {
    Retention {
        settled_before: now - 14 * DAY,
        active_since: now - 90 * DAY,
        unfinished_before: now - DAY,
        ended_until: now,
        now,
    }
}

/// Deletes all unneeded data. Returns the number of steps.
pub async fn retain(store: &dyn Store, now: u64) -> usize {
    for pieces in 0..10_000 {
        if !store.retain(retention(now)).await.unwrap() {
            return pieces;
        }
    }
    panic!("retention never ends");
}

async fn mail_code(store: &dyn Store, n: u64, code: u64) {
    let code = NewMailCode {
        user_id: user_id(n),
        email: format!("{n}@example.org"),
        code: secret(code),
        expires_at: NOW + 3600,
        now: NOW,
    };
    assert!(store.put_mail_code(code).await.unwrap());
}

async fn snapshot_part(store: &dyn Store, stream: StreamId, id: u64, part: u32, now: u64) {
    let part = NewSnapshotPart {
        stream,
        snapshot_id: SnapshotId::from_bytes(id16(id)),
        part,
        sealed: Bytes::from(vec![0x77; 1000]),
        room: PlanRoom::default(),
        now,
    };
    assert_eq!(store.put_snapshot_part(part).await.unwrap(), SnapshotPartWrite::Stored);
}

/// Compacts the stream at a position, and deletes the log before it.
async fn fold(store: &dyn Store, stream: StreamId, device: u64, id: u64, position: Position) {
    for part in 0..2 {
        snapshot_part(store, stream, id, part, NOW).await;
    }
    let snapshot = NewSnapshot {
        stream,
        snapshot_id: SnapshotId::from_bytes(id16(id)),
        key_id: KEY,
        position,
        parts: 2,
        manifest: Bytes::from_static(b"a sealed manifest"),
        signed_by: Some(OWNER),
        room: PlanRoom::default(),
        settled_before: NOW - 14 * DAY,
        now: NOW,
    };
    assert_eq!(store.put_snapshot(snapshot).await.unwrap(), SnapshotWrite::Stored);
    store
        .page(page_request(stream, device, Cursor::at(position), NO_BYTE_LIMIT))
        .await
        .unwrap();
    // Whatever a store does later, it has done before it finishes later work.
    store.check().await.unwrap();
    assert!(retain(store, LATER).await > 0);
}

/// Creates account `n` in an existing app. The numbers of its things begin at 1000 times `n`.
pub async fn create_whole_account(store: &dyn Store, app: u64, n: u64) -> StreamId {
    let (stream, first) = (stream_of(app, n), 1000 * n);
    store.create_invite(secret(first), NOW).await.unwrap();
    let account = NewAccount {
        invite: Some(secret(first)),
        ..new_account(n)
    };
    assert_eq!(store.create_account(account).await.unwrap(), AccountCreation::Created);
    mail_code(store, n, first + 1).await;
    let reset = PasswordReset {
        code: secret(first + 1),
        password: password(first + 1, format!("second record {n}").as_bytes()),
        vault: format!("second vault {n}").into_bytes(),
        expected_version: 1,
        now: NOW,
    };
    let written = store.reset_password(reset).await.unwrap();
    assert_eq!(written, Some(VersionedWrite::Written(2)));
    mail_code(store, n, first + 3).await;
    let place = Place {
        user_id: user_id(n),
        address: CountedKey([7; 16]),
    };
    store.note_place(place, NOW).await.unwrap();
    let team = NewTeam {
        id: TeamId::from_bytes(id16(first)),
        name: format!("team {n}"),
        owner: user_id(n),
        created_at: NOW,
    };
    assert_eq!(store.create_team(team).await.unwrap(), TeamCreation::Created);

    let (device, revoked) = (first + 1, first + 2);
    open_session(store, stream, device).await;
    open_session(store, stream, first + 3).await;
    register(store, stream, device).await;
    let revoked_id = register(store, stream, revoked).await;
    set_up_encryption(store, stream).await;
    let mut position = start(stream);
    // Small batches and larger ones are kept in different places.
    for (number, size) in (first..).zip([100, 2000, 100, 2000]) {
        let device = if number == first { revoked } else { device };
        position = append(store, &batch(stream, position, device, number, 5, size)).await;
        if number == first {
            store.revoke_device(stream, revoked_id, NOW).await.unwrap();
        }
        if number == first + 1 {
            fold(store, stream, device, first, position).await;
        }
    }
    snapshot_part(store, stream, first + 1, 0, LATER).await;

    upload(store, stream, first + 1, first + 1).await;
    upload(store, stream, first + 2, first + 2).await;
    assert!(store.delete_blob(stream, blob_id(first + 2), NOW).await.unwrap());
    let begun = store.begin_upload(new_upload(stream, first + 3, first + 3)).await;
    assert_eq!(begun.unwrap(), UploadBegin::Begun);
    stream
}
