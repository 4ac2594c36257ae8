//! Files: stored once, verified before they are released, in constant memory.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use synckit_client::{BlobHash, BlobProgress, BlobSource, BlobTarget, Error, ProblemCode, Tampering};

use crate::{
    interference::{Fate, Interference},
    world::World,
};

/// Bytes that are no two times the same and the same in every run.
fn random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(length as u64).fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn a_file_of_any_size_comes_back_byte_for_byte() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (phone, _) = world.next_device(&user, "phone").await;
    for size in [
        0,
        1,
        15,
        16,
        17,
        63,
        64,
        65,
        256 * 1024 - 1,
        256 * 1024,
        256 * 1024 + 1,
        1_000_000,
    ] {
        let data = random(size);
        let (from, to) = (world.file("from"), world.file("to"));
        std::fs::write(&from, &data).unwrap();
        let hash = laptop.blob_put(&from, |_| {}).await.unwrap();
        assert_eq!(hash, BlobHash::of(&data));
        assert_eq!(phone.blob_get(&hash, &to, |_| {}).await.unwrap(), size as u64);
        assert_eq!(std::fs::read(&to).unwrap(), data, "{size} bytes");
    }
}

#[tokio::test]
async fn streams_go_both_ways_and_progress_is_told() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let data = random(3_000_000);
    let last = AtomicU64::new(0);
    let progress = |progress: BlobProgress| {
        assert_eq!(progress.total_bytes, 3_000_000);
        assert!(progress.done_bytes <= progress.total_bytes);
        last.store(progress.done_bytes, Ordering::SeqCst);
    };
    let source = BlobSource::reader(std::io::Cursor::new(data.clone()));
    let hash = laptop.blob_put(source, progress).await.unwrap();
    assert_eq!(last.swap(0, Ordering::SeqCst), 3_000_000);
    let mut received = Vec::new();
    laptop
        .blob_get(&hash, BlobTarget::writer(&mut received), progress)
        .await
        .unwrap();
    assert_eq!(last.load(Ordering::SeqCst), 3_000_000);
    assert_eq!(received, data);
}

#[tokio::test]
async fn every_listed_file_comes_back_under_its_hash() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let mut sizes = std::collections::BTreeMap::new();
    for size in [0, 17, 300_000] {
        let data = random(size);
        sizes.insert(laptop.blob_put(data, |_| {}).await.unwrap(), size as u64);
    }
    let directory = world.file("all");
    std::fs::create_dir(&directory).unwrap();
    let (listed, has_more) = laptop.blobs(None).await.unwrap();
    assert!(!has_more);
    for blob in listed {
        let (hash, size) = laptop.blob_get_by_id(blob.hash, &directory, |_| {}).await.unwrap();
        assert_eq!(sizes.remove(&hash), Some(size));
        let data = std::fs::read(directory.join(hash.to_string())).unwrap();
        assert_eq!(BlobHash::of(&data), hash);
    }
    assert!(sizes.is_empty(), "{sizes:?}");
}

#[tokio::test]
async fn equal_files_are_shared_within_one_user_only() {
    // An equal file is stored once for a user and apart for another.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let transport = Interference::new(|_| Fate::Delivered);
    let (phone, _) = world.device_over(&user, "phone", transport.clone()).await;
    let data = random(1000);
    let hash = laptop.blob_put(data.clone(), |_| {}).await.unwrap();
    let before = transport.requests();
    assert_eq!(phone.blob_put(data.clone(), |_| {}).await.unwrap(), hash);
    assert_eq!(transport.requests() - before, 1, "asked, and nothing sent");
    assert_eq!(laptop.blobs(None).await.unwrap().0.len(), 1);
    assert_eq!(
        laptop.blobs(None).await.unwrap().0[0].hash,
        laptop.blob_id(&hash).unwrap()
    );

    let other = world.user().await;
    let (theirs, _) = world.first_device(&other).await;
    assert_ne!(theirs.blob_id(&hash).unwrap(), laptop.blob_id(&hash).unwrap());
    let error = theirs.blob_download_url(&hash).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::BlobNotFound), "{error:?}");
}

#[tokio::test]
async fn a_deleted_file_is_gone_until_it_is_uploaded_again() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let hash = laptop.blob_put(random(1000), |_| {}).await.unwrap();
    laptop.blob_delete(&hash).await.unwrap();
    let error = laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::BlobNotFound), "{error:?}");
    laptop.blob_put(random(1000), |_| {}).await.unwrap();
    assert_eq!(laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap(), 1000);
}

/// What a server makes of an object.
type Lie = fn(Vec<u8>) -> Vec<u8>;

#[tokio::test]
async fn a_damaged_object_is_never_released() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let hash = laptop.blob_put(random(100_000), |_| {}).await.unwrap();
    let lies: [(&str, Lie); 7] = [
        ("first byte", |mut sealed| {
            sealed[0] ^= 1;
            sealed
        }),
        ("middle", |mut sealed| {
            sealed[50_000] ^= 1;
            sealed
        }),
        ("last byte", |mut sealed| {
            *sealed.last_mut().unwrap() ^= 1;
            sealed
        }),
        ("truncated", |mut sealed| {
            sealed.truncate(99_999);
            sealed
        }),
        ("empty", |_| Vec::new()),
        ("extended", |mut sealed| {
            sealed.push(0);
            sealed
        }),
        ("two ranges swapped", |mut sealed| {
            let (left, right) = sealed.split_at_mut(50_000);
            left[1_000..2_000].swap_with_slice(&mut right[1_000..2_000]);
            sealed
        }),
    ];
    for (name, lie) in lies {
        let transport = Interference::new(move |request| {
            if request.uri().path().starts_with("/blobs/") {
                Fate::Changed(Box::new(lie))
            } else {
                Fate::Delivered
            }
        });
        let client = world.resumed_over(&user, transport);
        let target = world.file("target");
        let error = client.blob_get(&hash, &target, |_| {}).await.unwrap_err();
        assert!(
            matches!(error, Error::Tampering(Tampering::BlobForged { .. })),
            "{name}: {error:?}"
        );
        assert!(!target.exists(), "{name}");
        let url = client.blob_download_url(&hash).await.unwrap();
        assert!(
            matches!(
                client.blob_download(&url).await,
                Err(Error::Tampering(Tampering::BlobForged { .. }))
            ),
            "{name}"
        );
    }
    assert!(laptop.blob_get(&hash, world.file("target"), |_| {}).await.is_ok());
}

#[tokio::test]
async fn damaged_object_is_replaced_from_the_file() {
    // A damaged object is mended by a device that has the file.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let data = random(10_000);
    let hash = laptop.blob_put(data.clone(), |_| {}).await.unwrap();
    for object in world.objects() {
        let mut sealed = std::fs::read(&object).unwrap();
        sealed[5_000] ^= 1;
        std::fs::write(&object, sealed).unwrap();
    }
    let error = laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::BlobForged { .. })),
        "{error:?}"
    );
    laptop.blob_put(data.clone(), |_| {}).await.unwrap();
    assert!(
        laptop.blob_get(&hash, world.file("x"), |_| {}).await.is_err(),
        "the server still says that it has it"
    );
    assert_eq!(laptop.blob_replace(data.clone(), |_| {}).await.unwrap(), hash);
    laptop.blob_get(&hash, world.file("x"), |_| {}).await.unwrap();
    assert_eq!(std::fs::read(world.file("x")).unwrap(), data);
}

#[tokio::test]
async fn swapped_files_of_one_user_are_refused() {
    // Another file of the same user is not taken for the one that was asked for.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let (wanted, other) = (random(1_000), random(1_001)[..1_000].to_vec());
    let hash = laptop.blob_put(wanted, |_| {}).await.unwrap();
    let stored: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = Arc::clone(&stored);
    let recorder = Interference::new(move |request| {
        let keep = Arc::clone(&keep);
        if request.uri().path().starts_with("/blobs/") && request.method() == http::Method::GET {
            Fate::Changed(Box::new(move |body| {
                *keep.lock().unwrap() = body.clone();
                body
            }))
        } else {
            Fate::Delivered
        }
    });
    let client = world.resumed_over(&user, recorder);
    let other_hash = client.blob_put(other, |_| {}).await.unwrap();
    client.blob_get(&other_hash, world.file("other"), |_| {}).await.unwrap();
    let swapped = stored.lock().unwrap().clone();
    let transport = Interference::new(move |request| {
        if request.uri().path().starts_with("/blobs/") {
            Fate::Answered(200, swapped.clone())
        } else {
            Fate::Delivered
        }
    });
    let client = world.resumed_over(&user, transport);
    let error = client.blob_get(&hash, world.file("x"), |_| {}).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::BlobForged { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn file_changed_during_upload_is_not_stored() {
    // A file that changes while it is uploaded is not stored.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let file = world.file("changing");
    for (name, after) in [
        ("other bytes", random(500_001)[..500_000].to_vec()),
        ("shorter", random(10)),
        ("longer", random(500_002)),
    ] {
        std::fs::write(&file, random(500_000)).unwrap();
        let (path, after) = (file.clone(), after);
        // The file changes after it was hashed, when the URL is asked for.
        let transport = Interference::new(move |request| {
            if request.uri().path() == "/api/sync/blobs/upload" {
                std::fs::write(&path, &after).unwrap();
            }
            Fate::Delivered
        });
        let client = world.resumed_over(&user, transport);
        let error = client.blob_put(&file, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::FileChanged), "{name}: {error:?}");
        assert_eq!(client.blobs(None).await.unwrap().0.len(), 0, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_is_damaged_on_the_way_is_not_stored() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let transport = Interference::new(|request| match request.uri().path().starts_with("/blobs/") {
        true => Fate::Garbled,
        false => Fate::Delivered,
    });
    let client = world.resumed_over(&user, transport);
    let error = client.blob_put(random(300_000), |_| {}).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::UploadIncomplete), "{error:?}");
    assert_eq!(client.blobs(None).await.unwrap().0.len(), 0);
}

#[tokio::test]
async fn uploads_and_downloads_are_tried_again() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let attempts = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        if !request.uri().path().starts_with("/blobs/") {
            return Fate::Delivered;
        }
        match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Fate::RequestLost,
            1 => Fate::Answered(503, b"busy".to_vec()),
            // The object arrived whole, and the client does not know.
            2 => Fate::AnswerLost,
            4 => Fate::AnswerLost,
            _ => Fate::Delivered,
        }
    });
    let client = world.resumed_over(&user, transport);
    let hash = client.blob_put(random(70_000), |_| {}).await.unwrap();
    assert_eq!(client.blob_get(&hash, world.file("x"), |_| {}).await.unwrap(), 70_000);
    assert_eq!(std::fs::read(world.file("x")).unwrap(), random(70_000));
}

#[tokio::test]
async fn the_page_s_calls_check_what_they_are_given() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let data = random(100);
    let hash = BlobHash::of(&data);
    let error = laptop.blob_upload_url(&hash, 500_000_001).await.unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "size", .. }),
        "{error:?}"
    );
    let error = laptop.blob_confirm(&hash, u64::MAX).await.unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "size", .. }),
        "{error:?}"
    );
    let ticket = laptop.blob_upload_url(&hash, 100).await.unwrap();
    let error = laptop
        .blob_upload(&ticket.upload_url, random(101)[..100].to_vec())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::InvalidArgument { argument: "data", .. }),
        "{error:?}"
    );
    let error = laptop.blob_confirm(&hash, 100).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::UploadIncomplete), "{error:?}");
    laptop.blob_upload(&ticket.upload_url, data.clone()).await.unwrap();
    laptop.blob_confirm(&hash, 100).await.unwrap();
    // Idempotent, also by a client that never asked for the URL.
    world
        .another_client(&user)
        .await
        .blob_confirm(&hash, 100)
        .await
        .unwrap();
    assert!(
        !format!("{ticket:?}").contains("http"),
        "a presigned URL is a secret while it is valid"
    );
}

#[tokio::test]
async fn a_url_in_the_clear_or_with_the_token_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, _) = world.first_device(&user).await;
    let hash = laptop.blob_put(random(100), |_| {}).await.unwrap();
    let transport = Interference::new(|request| {
        assert!(
            !request.uri().path().starts_with("/blobs/") || request.headers().get("authorization").is_none(),
            "the token never goes to a presigned URL"
        );
        if request.uri().path() == "/api/sync/blobs/download" {
            Fate::Changed(Box::new(|body| {
                let mut answer: synckit_protocol::wire::blobs::BlobDownloadAnswer =
                    minicbor_serde::from_slice(&body).unwrap();
                answer.download_url = answer.download_url.replace("127.0.0.1", "192.0.2.1");
                minicbor_serde::to_vec(&answer).unwrap()
            }))
        } else {
            Fate::Delivered
        }
    });
    let client = world.resumed_over(&user, transport);
    client.blob_put(random(200), |_| {}).await.unwrap();
    let error = client.blob_get(&hash, world.file("x"), |_| {}).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::UnsafeUrl { .. })),
        "{error:?}"
    );
}
