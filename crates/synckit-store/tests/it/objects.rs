//! The directory of objects: parts that cross each other, and the room that joining takes.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use synckit_protocol::{ObjectKey, Parts, SealedHash, SealedHasher, limits::UPLOAD_WHOLE_BYTES_MAX};
use synckit_store::objects::{ObjectDirectory, ObjectError, WrittenObject};

const KEY: ObjectKey = ObjectKey::from_bytes([7; 32]);
/// Eight whole parts, and one of a byte.
const SIZE: u64 = UPLOAD_WHOLE_BYTES_MAX + 1;

fn bytes_of(number: u32) -> Vec<u8> {
    let size = Parts::of(SIZE).unwrap().size_of(number).unwrap();
    vec![number as u8; size as usize]
}

fn hash_of_all() -> SealedHash {
    SealedHasher::of_parts((1..=9).map(|number| SealedHash::of(&bytes_of(number))))
}

/// Writes a part, which has not appeared yet.
async fn written(objects: &ObjectDirectory, number: u32, bytes: Vec<u8>) -> WrittenObject {
    let (size, hash) = (bytes.len() as u64, SealedHash::of(&bytes));
    let writer = objects.write_part(KEY, number, size, hash).await.unwrap();
    assert!(writer.put(bytes.into()).await);
    writer.finish().await.unwrap()
}

async fn write_all(objects: &ObjectDirectory) {
    for number in 1..=9 {
        let part = written(objects, number, bytes_of(number)).await;
        part.publish().await.unwrap();
    }
}

fn parts_of_all_uploads(root: &Path) -> usize {
    std::fs::read_dir(root.join("parts")).unwrap().count()
}

#[tokio::test]
async fn a_part_that_appears_after_the_join_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let objects = ObjectDirectory::open(root.path().to_owned()).unwrap();
    write_all(&objects).await;
    // Whole and on disk, when the others are joined and removed.
    let late = written(&objects, 9, bytes_of(9)).await;
    assert!(objects.join_parts(KEY, (SIZE, hash_of_all()), || Ok(())).await.unwrap());
    objects.remove_parts(KEY).await.unwrap();
    let error = late.publish().await.unwrap_err();
    assert!(matches!(error, ObjectError::Exists), "{error:?}");
    assert_eq!(objects.parts(KEY).await.unwrap(), []);
    assert_eq!(parts_of_all_uploads(root.path()), 0);
}

#[tokio::test]
async fn the_last_part_with_a_number_counts() {
    let root = tempfile::tempdir().unwrap();
    let objects = ObjectDirectory::open(root.path().to_owned()).unwrap();
    written(&objects, 9, vec![0]).await.publish().await.unwrap();
    write_all(&objects).await;
    assert_eq!(objects.parts(KEY).await.unwrap().len(), 9);
    assert!(objects.join_parts(KEY, (SIZE, hash_of_all()), || Ok(())).await.unwrap());
}

/// Else many confirmations of one account could reserve the whole disk.
#[tokio::test]
async fn only_a_join_that_copies_reserves_room() {
    let root = tempfile::tempdir().unwrap();
    let objects = ObjectDirectory::open(root.path().to_owned()).unwrap();
    let reserved = Arc::new(AtomicUsize::new(0));
    let held = Arc::new(());
    let join = async |hash, free: bool| {
        let (counter, held) = (Arc::clone(&reserved), Arc::clone(&held));
        let room = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            free.then_some(held)
                .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))
        };
        objects.join_parts(KEY, (SIZE, hash), room).await
    };
    let count = || reserved.load(Ordering::SeqCst);
    let (hash, other) = (hash_of_all(), SealedHash::of(b"other bytes"));
    assert!(!join(hash, true).await.unwrap());
    write_all(&objects).await;
    assert!(!join(other, true).await.unwrap());
    assert_eq!(count(), 0);
    assert!(matches!(join(hash, false).await, Err(ObjectError::Full(_))));
    assert_eq!(count(), 1);
    assert!(join(hash, true).await.unwrap());
    assert_eq!(count(), 2);
    // It is there, and needs no room.
    assert!(join(hash, false).await.unwrap());
    assert_eq!((count(), Arc::strong_count(&held)), (2, 1));
}

/// The sweep and other confirmations remove parts at any time.
#[tokio::test]
async fn a_part_that_vanishes_is_a_missing_part() {
    let root = tempfile::tempdir().unwrap();
    let objects = ObjectDirectory::open(root.path().to_owned()).unwrap();
    write_all(&objects).await;
    // After the list, and before the copy.
    let parts = root.path().join("parts");
    let vanish = move || std::fs::remove_dir_all(parts);
    assert!(!objects.join_parts(KEY, (SIZE, hash_of_all()), vanish).await.unwrap());
    // In the list, and already gone.
    #[cfg(unix)]
    {
        written(&objects, 9, bytes_of(9)).await.publish().await.unwrap();
        let mut uploads = std::fs::read_dir(root.path().join("parts")).unwrap();
        let of_upload = uploads.next().unwrap().unwrap().path();
        std::os::unix::fs::symlink("gone", of_upload.join("8")).unwrap();
        let listed = objects.parts(KEY).await.unwrap();
        assert_eq!(listed.iter().map(|part| part.number).collect::<Vec<_>>(), [9]);
    }
}
