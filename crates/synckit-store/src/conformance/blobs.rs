//! Blobs, uploads and the sweep.

use crate::{
    Blob, NewUpload, PendingUpload, Store, StreamId, UploadBegin,
    rules::quotas::{self, Quota, Quotas},
};
use synckit_protocol::{
    BlobId, ObjectKey,
    limits::{
        BLOB_UNDELETE_SECONDS, PRESIGNED_URL_SECONDS, SECOND_SWEEP_SECONDS, UPLOAD_IN_PARTS_SECONDS,
        UPLOAD_SWEEP_SECONDS, UPLOAD_WHOLE_BYTES_MAX,
    },
    wire::UnixSeconds,
};

use crate::conformance::fixture::{HASH, KEY, NOW, blob_id, create_stream, new_upload, object_key, upload, upload_id};
use crate::conformance::whole_account::retain;

const MANY: u32 = 1000;

async fn sweepable(store: &dyn Store, now: UnixSeconds) -> Vec<ObjectKey> {
    let mut keys = store.sweepable_objects(now, MANY).await.unwrap();
    keys.sort();
    keys
}

async fn blob_bytes(store: &dyn Store, stream: StreamId) -> u64 {
    store.status(stream).await.unwrap().stored_bytes
}

pub async fn a_confirmed_upload_is_a_blob(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    assert_eq!(
        store.begin_upload(new_upload(stream, 1, 7)).await.unwrap(),
        UploadBegin::Begun
    );
    assert_eq!(store.blob(stream, blob_id(7)).await.unwrap(), None);
    assert!(store.confirm_upload(stream, upload_id(1), HASH, NOW + 5).await.unwrap());
    let expected = Blob {
        blob_id: blob_id(7),
        object_key: object_key(1),
        size: 1007,
        key_id: KEY,
        created_at: NOW + 5,
    };
    assert_eq!(store.blob(stream, blob_id(7)).await.unwrap(), Some(expected));
    assert_eq!(store.blobs(stream, None, MANY).await.unwrap(), [expected]);
}

pub async fn an_upload_is_confirmed_once(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    assert!(!store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
    store.begin_upload(new_upload(stream, 1, 7)).await.unwrap();
    assert!(!store.confirm_upload(other, upload_id(1), HASH, NOW).await.unwrap());
    assert!(store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
    assert!(!store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
    assert_eq!(blob_bytes(store, stream).await, 1007);
}

pub async fn a_blob_that_is_there_needs_no_upload(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    upload(store, stream, 1, 7).await;
    assert_eq!(
        store.begin_upload(new_upload(stream, 2, 7)).await.unwrap(),
        UploadBegin::AlreadyExists
    );
    assert!(
        store
            .pending_uploads(stream, blob_id(7), 1007, None)
            .await
            .unwrap()
            .is_empty()
    );
    let replacement = NewUpload {
        replace: true,
        ..new_upload(stream, 2, 7)
    };
    assert_eq!(store.begin_upload(replacement).await.unwrap(), UploadBegin::Begun);
    assert_eq!(
        store.blob(stream, blob_id(7)).await.unwrap().unwrap().object_key,
        object_key(1)
    );
    assert!(store.confirm_upload(stream, upload_id(2), HASH, NOW).await.unwrap());
    assert_eq!(
        store.blob(stream, blob_id(7)).await.unwrap().unwrap().object_key,
        object_key(2)
    );
}

pub async fn a_blob_in_one_stream_is_not_in_another(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other = create_stream(store, 2).await;
    upload(store, stream, 1, 7).await;
    assert_eq!(store.blob(other, blob_id(7)).await.unwrap(), None);
    assert!(store.blobs(other, None, MANY).await.unwrap().is_empty());
    assert!(!store.delete_blob(other, blob_id(7), NOW).await.unwrap());
    assert_eq!(
        store.begin_upload(new_upload(other, 2, 7)).await.unwrap(),
        UploadBegin::Begun
    );
    assert!(
        store
            .pending_uploads(stream, blob_id(7), 1007, None)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn pending_uploads_are_found_by_blob_and_size(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in [2, 1, 3] {
        store.begin_upload(new_upload(stream, n, 7)).await.unwrap();
    }
    store.begin_upload(new_upload(stream, 4, 8)).await.unwrap();
    let pending = |n| PendingUpload {
        upload_id: upload_id(n),
        blob_id: blob_id(7),
        object_key: object_key(n),
        size: 1007,
        expires_at: NOW + 3600,
        multipart_id: None,
        sealed_hash: Some(HASH),
    };
    let found = async |size, id| store.pending_uploads(stream, blob_id(7), size, id).await.unwrap();
    assert_eq!(found(1007, None).await, [3, 1, 2].map(pending));
    assert_eq!(found(1007, Some(upload_id(1))).await, [pending(1)]);
    assert!(found(1007, Some(upload_id(4))).await.is_empty());
    assert!(found(1008, None).await.is_empty());
}

pub async fn an_upload_is_named_once(store: &dyn Store) {
    let (stream, other) = (create_stream(store, 1).await, create_stream(store, 2).await);
    store.begin_upload(new_upload(stream, 1, 7)).await.unwrap();
    let name = async |stream, n, name: &str| {
        let named = store.name_multipart(stream, upload_id(n), name.to_owned());
        named.await.unwrap()
    };
    assert!(!name(other, 1, "theirs").await);
    assert!(!name(stream, 2, "unknown").await);
    assert!(name(stream, 1, "first").await);
    assert!(!name(stream, 1, "second").await);
    let found = store.upload(stream, upload_id(1)).await.unwrap().unwrap();
    assert_eq!(found.multipart_id.as_deref(), Some("first"));
    let pending = store.pending_uploads(stream, blob_id(7), 1007, None).await.unwrap();
    assert_eq!(pending, [found]);
    assert_eq!(store.upload(other, upload_id(1)).await.unwrap(), None);
    assert!(store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
    assert_eq!(store.upload(stream, upload_id(1)).await.unwrap(), None);
}

/// An upload in parts, for a week.
fn in_parts(stream: StreamId, n: u64, blob: u64) -> NewUpload {
    NewUpload {
        size: UPLOAD_WHOLE_BYTES_MAX + blob,
        expires_at: NOW + UPLOAD_IN_PARTS_SECONDS,
        ..new_upload(stream, n, blob)
    }
}

pub async fn an_ended_upload_is_kept_until_its_urls_end(store: &dyn Store) {
    let (stream, other) = (create_stream(store, 1).await, create_stream(store, 2).await);
    store.begin_upload(in_parts(stream, 1, 7)).await.unwrap();
    let end = async |stream, now| store.end_upload(stream, upload_id(1), now).await.unwrap();
    assert!(!end(other, NOW).await);
    let ended_at = NOW + 60;
    assert!(end(stream, ended_at).await);
    assert!(!end(stream, ended_at).await && !end(stream, ended_at + 60).await);
    let kept = store.upload(stream, upload_id(1)).await.unwrap().unwrap();
    assert_eq!(kept.expires_at, ended_at);
    assert!(
        !store
            .confirm_upload(stream, upload_id(1), HASH, ended_at)
            .await
            .unwrap()
    );
    let swept_at = ended_at + PRESIGNED_URL_SECONDS + UPLOAD_SWEEP_SECONDS;
    assert!(sweepable(store, swept_at - 1).await.is_empty());
    assert!(store.upload(stream, upload_id(1)).await.unwrap().is_some());
    assert_eq!(sweepable(store, swept_at).await, [object_key(1)]);
    assert_eq!(store.upload(stream, upload_id(1)).await.unwrap(), None);
}

pub async fn only_an_upload_in_parts_can_be_ended(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let whole = NewUpload {
        size: UPLOAD_WHOLE_BYTES_MAX,
        ..new_upload(stream, 1, 7)
    };
    store.begin_upload(whole).await.unwrap();
    assert!(!store.end_upload(stream, upload_id(1), NOW).await.unwrap());
    assert!(
        store
            .confirm_upload(stream, upload_id(1), HASH, whole.expires_at)
            .await
            .unwrap()
    );
    // The time of one in parts ends by itself, too.
    let parts = in_parts(stream, 2, 8);
    store.begin_upload(parts).await.unwrap();
    assert!(!store.end_upload(stream, upload_id(2), parts.expires_at).await.unwrap());
    assert!(
        !store
            .confirm_upload(stream, upload_id(2), HASH, parts.expires_at)
            .await
            .unwrap()
    );
    assert!(
        store
            .confirm_upload(stream, upload_id(2), HASH, parts.expires_at - 1)
            .await
            .unwrap()
    );
}

pub async fn an_upload_without_a_url_is_swept_at_once(store: &dyn Store) {
    let (stream, other) = (create_stream(store, 1).await, create_stream(store, 2).await);
    store.begin_upload(new_upload(stream, 1, 7)).await.unwrap();
    let end = async |stream| store.abandon_upload(stream, upload_id(1), NOW).await.unwrap();
    assert!(!end(other).await);
    assert!(sweepable(store, NOW).await.is_empty());
    assert!(end(stream).await);
    assert!(!end(stream).await);
    assert_eq!(sweepable(store, NOW).await, [object_key(1)]);
    assert!(!store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
}

pub async fn a_deleted_blob_is_brought_back_by_an_upload(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    assert!(!store.delete_blob(stream, blob_id(7), NOW).await.unwrap());
    upload(store, stream, 1, 7).await;
    assert!(store.delete_blob(stream, blob_id(7), NOW).await.unwrap());
    assert!(!store.delete_blob(stream, blob_id(7), NOW).await.unwrap());
    assert_eq!(store.blob(stream, blob_id(7)).await.unwrap(), None);
    assert!(store.blobs(stream, None, MANY).await.unwrap().is_empty());

    assert_eq!(
        store.begin_upload(new_upload(stream, 2, 7)).await.unwrap(),
        UploadBegin::AlreadyExists
    );
    assert_eq!(
        store.blob(stream, blob_id(7)).await.unwrap().unwrap().object_key,
        object_key(1)
    );
    assert!(sweepable(store, NOW + BLOB_UNDELETE_SECONDS).await.is_empty());
}

pub async fn replaced_objects_count_until_they_are_deleted(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let quota = quotas::for_files(&Quotas::default()).bytes;
    let large = |n, size| NewUpload {
        size,
        replace: true,
        ..new_upload(stream, n, 7)
    };
    // 90 % of the quota may be replaced once, not again and again.
    let size = quota / 10 * 9;
    for n in 1..=2 {
        assert_eq!(store.begin_upload(large(n, size)).await.unwrap(), UploadBegin::Begun);
        assert!(store.confirm_upload(stream, upload_id(n), HASH, NOW).await.unwrap());
    }
    let over = UploadBegin::OverQuota(Quota::Bytes);
    assert_eq!(store.begin_upload(large(3, size)).await.unwrap(), over);
    assert_eq!(
        store.begin_upload(large(3, quota / 10)).await.unwrap(),
        UploadBegin::Begun
    );
    assert!(store.abandon_upload(stream, upload_id(3), NOW).await.unwrap());
    // After a deletion it counts, too, and for another account it never does.
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    assert_eq!(store.begin_upload(large(3, size)).await.unwrap(), over);
    let other = create_stream(store, 2).await;
    let of_other = NewUpload {
        stream: other,
        ..large(4, size)
    };
    assert_eq!(store.begin_upload(of_other).await.unwrap(), UploadBegin::Begun);
    let later = NOW + PRESIGNED_URL_SECONDS;
    assert!(sweepable(store, later).await.contains(&object_key(1)));
    for _ in 0..2 {
        // A repeated deletion gives nothing back twice.
        store.objects_deleted(&[object_key(1)], later).await.unwrap();
    }
    assert_eq!(store.begin_upload(large(3, size)).await.unwrap(), UploadBegin::Begun);
}

pub async fn a_deleted_account_charges_nobody_for_its_replaced(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let quota = quotas::for_files(&Quotas::default()).bytes;
    let whole = |stream, n, replace| NewUpload {
        size: quota,
        replace,
        ..new_upload(stream, n, 7)
    };
    for n in 1..=2 {
        assert_eq!(
            store.begin_upload(whole(stream, n, true)).await.unwrap(),
            UploadBegin::Begun
        );
        assert!(store.confirm_upload(stream, upload_id(n), HASH, NOW).await.unwrap());
    }
    store.delete_account(stream.user_id).await.unwrap().unwrap();
    retain(store, NOW).await;
    // Its stream is gone, and the next one may have its key.
    let next = create_stream(store, 2).await;
    assert_eq!(
        store.begin_upload(whole(next, 3, false)).await.unwrap(),
        UploadBegin::Begun
    );
    let later = NOW + PRESIGNED_URL_SECONDS;
    assert!(sweepable(store, later).await.contains(&object_key(1)));
    store.objects_deleted(&[object_key(1)], later).await.unwrap();
    assert!(store.confirm_upload(next, upload_id(3), HASH, NOW).await.unwrap());
    // And nothing of it was given to the next one.
    let small = NewUpload {
        size: 1,
        ..new_upload(next, 4, 8)
    };
    let over = UploadBegin::OverQuota(Quota::Bytes);
    assert_eq!(store.begin_upload(small).await.unwrap(), over);
}

pub async fn a_replaced_object_is_swept_when_its_urls_are_over(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    upload(store, stream, 1, 7).await;
    upload(store, stream, 2, 7).await;
    assert!(sweepable(store, NOW + PRESIGNED_URL_SECONDS - 1).await.is_empty());
    assert_eq!(sweepable(store, NOW + PRESIGNED_URL_SECONDS).await, [object_key(1)]);
}

pub async fn an_abandoned_upload_is_swept_an_hour_after_its_url(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let upload = new_upload(stream, 1, 7);
    store.begin_upload(upload).await.unwrap();
    let end = upload.expires_at + UPLOAD_SWEEP_SECONDS;
    assert!(sweepable(store, end - 1).await.is_empty());
    assert_eq!(sweepable(store, end).await, [object_key(1)]);
    assert!(!store.confirm_upload(stream, upload_id(1), HASH, end).await.unwrap());
    assert!(
        store
            .pending_uploads(stream, blob_id(7), 1007, None)
            .await
            .unwrap()
            .is_empty()
    );
}

pub async fn a_deleted_blob_is_swept_after_thirty_days(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    upload(store, stream, 1, 7).await;
    upload(store, stream, 2, 8).await;
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    assert!(sweepable(store, NOW + BLOB_UNDELETE_SECONDS - 1).await.is_empty());
    assert_eq!(sweepable(store, NOW + BLOB_UNDELETE_SECONDS).await, [object_key(1)]);
}

pub async fn a_condemned_blob_cannot_be_brought_back(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    upload(store, stream, 1, 7).await;
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    let later = NOW + BLOB_UNDELETE_SECONDS;
    assert_eq!(sweepable(store, later).await, [object_key(1)]);
    // Its object may be gone already: the blob must be uploaded again, to an object of its own.
    assert_eq!(
        store.begin_upload(new_upload(stream, 2, 7)).await.unwrap(),
        UploadBegin::Begun
    );
    assert!(store.confirm_upload(stream, upload_id(2), HASH, later).await.unwrap());
    store.objects_deleted(&[object_key(1)], later).await.unwrap();
    assert_eq!(
        store.blob(stream, blob_id(7)).await.unwrap().unwrap().object_key,
        object_key(2)
    );
}

pub async fn an_object_is_swept_twice_and_forgotten(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in [1, 2, 3] {
        upload(store, stream, n, n).await;
        store.delete_blob(stream, blob_id(n), NOW).await.unwrap();
    }
    let deleted = async |keys: &[u64], now| {
        let keys: Vec<ObjectKey> = keys.iter().copied().map(object_key).collect();
        store.objects_deleted(&keys, now).await.unwrap()
    };
    let later = NOW + BLOB_UNDELETE_SECONDS;
    assert_eq!(sweepable(store, later).await, [1, 2, 3].map(object_key));
    assert_eq!(deleted(&[1, 3], later).await, 2);
    assert_eq!(sweepable(store, later).await, [object_key(2)]);
    assert_eq!(deleted(&[1, 2], later).await, 1);
    let again = later + SECOND_SWEEP_SECONDS;
    assert!(sweepable(store, again - 1).await.is_empty());
    assert_eq!(sweepable(store, again).await, [1, 2, 3].map(object_key));
    assert_eq!(deleted(&[1, 2, 3], again).await, 0);
    assert!(sweepable(store, again + SECOND_SWEEP_SECONDS).await.is_empty());
}

pub async fn a_hash_may_come_at_the_end(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let without = NewUpload {
        sealed_hash: None,
        ..new_upload(stream, 1, 7)
    };
    assert_eq!(store.begin_upload(without).await.unwrap(), UploadBegin::Begun);
    let pending = store.pending_uploads(stream, blob_id(7), 1007, None).await.unwrap();
    assert_eq!(
        pending.iter().map(|upload| upload.sealed_hash).collect::<Vec<_>>(),
        [None]
    );
    assert!(store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
}

pub async fn a_question_begins_no_upload(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let question = NewUpload {
        only_asks: true,
        ..new_upload(stream, 1, 7)
    };
    assert_eq!(store.begin_upload(question).await.unwrap(), UploadBegin::Needed);
    assert!(!store.confirm_upload(stream, upload_id(1), HASH, NOW).await.unwrap());
    upload(store, stream, 2, 7).await;
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    assert_eq!(store.begin_upload(question).await.unwrap(), UploadBegin::AlreadyExists);
    assert!(store.blob(stream, blob_id(7)).await.unwrap().is_some());
}

pub async fn only_condemned_objects_are_forgotten(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    upload(store, stream, 1, 7).await;
    upload(store, stream, 2, 7).await;
    store.begin_upload(new_upload(stream, 3, 8)).await.unwrap();
    assert_eq!(store.objects_deleted(&[1, 2, 3].map(object_key), NOW).await.unwrap(), 0);
    assert_eq!(
        store.blob(stream, blob_id(7)).await.unwrap().unwrap().object_key,
        object_key(2)
    );
    assert!(store.confirm_upload(stream, upload_id(3), HASH, NOW).await.unwrap());
    assert_eq!(sweepable(store, NOW + PRESIGNED_URL_SECONDS).await, [object_key(1)]);
}

pub async fn the_sweep_is_bounded(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in 1..=5 {
        upload(store, stream, n, n).await;
        store.delete_blob(stream, blob_id(n), NOW).await.unwrap();
        store.begin_upload(new_upload(stream, 10 + n, 10 + n)).await.unwrap();
    }
    let later = NOW + BLOB_UNDELETE_SECONDS;
    let mut swept = Vec::new();
    for _ in 0..4 {
        let keys = store.sweepable_objects(later, 3).await.unwrap();
        assert!(keys.len() <= 3);
        store.objects_deleted(&keys, later).await.unwrap();
        swept.extend(keys);
    }
    swept.sort();
    assert_eq!(swept, [1, 2, 3, 4, 5, 11, 12, 13, 14, 15].map(object_key));
}

pub async fn postponed_objects_hold_up_no_others(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in 1..=3 {
        store.begin_upload(new_upload(stream, n, n)).await.unwrap();
        assert!(store.abandon_upload(stream, upload_id(n), NOW).await.unwrap());
    }
    let page = async |now| store.sweepable_objects(now, 2).await.unwrap();
    assert_eq!(page(NOW).await, [1, 2].map(object_key));
    let until = NOW + 60;
    store.postpone_objects(&[1, 2].map(object_key), until).await.unwrap();
    assert_eq!(page(NOW).await, [object_key(3)]);
    // One that another node deleted, and one that is not condemned.
    assert_eq!(store.objects_deleted(&[object_key(3)], NOW).await.unwrap(), 1);
    store.postpone_objects(&[3, 4].map(object_key), until).await.unwrap();
    assert!(page(until - 1).await.is_empty());
    assert_eq!(page(until).await, [1, 2].map(object_key));
    assert_eq!(store.objects_deleted(&[1, 2].map(object_key), until).await.unwrap(), 2);
    assert_eq!(page(NOW + SECOND_SWEEP_SECONDS).await, [object_key(3)]);
}

pub async fn blobs_are_listed_in_pages(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    for n in [4, 2, 5, 1, 3] {
        upload(store, stream, n, n).await;
    }
    store.delete_blob(stream, blob_id(4), NOW).await.unwrap();
    let listed = async |after: Option<u64>, limit| -> Vec<BlobId> {
        let blobs = store.blobs(stream, after.map(blob_id), limit).await.unwrap();
        blobs.iter().map(|blob| blob.blob_id).collect()
    };
    assert_eq!(listed(None, 2).await, [1, 2].map(blob_id));
    assert_eq!(listed(Some(2), 2).await, [3, 5].map(blob_id));
    assert_eq!(listed(Some(4), 2).await, [blob_id(5)]);
    assert!(listed(Some(5), 2).await.is_empty());
}

pub async fn stored_bytes_count_a_blob_until_it_is_swept(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    store.begin_upload(new_upload(stream, 9, 9)).await.unwrap();
    assert_eq!(blob_bytes(store, stream).await, 0);
    upload(store, stream, 1, 7).await;
    upload(store, stream, 2, 8).await;
    upload(store, stream, 3, 7).await;
    assert_eq!(blob_bytes(store, stream).await, 1007 + 1008);
    store.delete_blob(stream, blob_id(7), NOW).await.unwrap();
    assert_eq!(blob_bytes(store, stream).await, 1007 + 1008);
    sweepable(store, NOW + BLOB_UNDELETE_SECONDS).await;
    assert_eq!(blob_bytes(store, stream).await, 1008);
}
