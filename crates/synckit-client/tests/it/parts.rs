//! Large files go in parts, and an upload that was cut goes on with the missing ones, in either place.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use synckit_client::{BlobHash, BlobProgress, CredentialStore as _, Error, FileStore, ProblemCode, SyncKitClient};
use synckit_protocol::limits::{SEAL_OVERHEAD_BYTES, UPLOAD_PART_BYTES, UPLOAD_WHOLE_BYTES_MAX};
use synckit_testbucket::TestBucket;

use crate::{
    buckets::world_with,
    interference::{Fate, Interference},
    world::{User, World},
};

/// A file whose last part has a byte of the tag and nothing else: nine parts.
const SIZE: usize = UPLOAD_WHOLE_BYTES_MAX as usize + 1 - SEAL_OVERHEAD_BYTES;
const PARTS: usize = 9;

/// Where the objects of a world are.
#[derive(Clone, Copy)]
enum Place {
    Directory,
    Bucket,
}

/// Runs facts with both places.
macro_rules! on_both {
    ($($fact:ident),* $(,)?) => {
        mod in_directory {
            $(#[tokio::test] async fn $fact() { super::$fact(super::Place::Directory).await })*
        }
        mod in_bucket {
            $(#[tokio::test] async fn $fact() { super::$fact(super::Place::Bucket).await })*
        }
    };
}

on_both!(
    a_cut_upload_goes_on_with_the_missing_parts,
    a_changed_file_gets_another_nonce,
    no_changed_byte_meets_the_nonce_of_a_cut_upload,
    parts_are_tried_again,
    an_upload_that_the_server_lost_begins_again,
    a_damaged_part_ends_the_upload,
    another_process_may_confirm_parts,
    an_upload_under_an_older_key_begins_again,
    what_another_device_uploaded_is_not_sent,
    a_confirmation_before_the_last_part_loses_none,
    a_confirmation_ends_an_upload_that_is_not_needed,
    the_oldest_of_many_cut_uploads_is_ended,
);

/// A user with a device, and a large file of theirs.
struct Stage {
    bucket: Option<TestBucket>,
    world: World,
    user: User,
    file: PathBuf,
}

impl Stage {
    async fn new(place: Place) -> Self {
        let bucket = match place {
            Place::Directory => None,
            Place::Bucket => Some(TestBucket::start().await),
        };
        let world = match &bucket {
            None => World::start().await,
            Some(bucket) => world_with(bucket).await,
        };
        let user = world.user().await;
        world.first_device(&user).await;
        let file = world.file("large");
        std::fs::write(&file, contents()).unwrap();
        Self {
            bucket,
            world,
            user,
            file,
        }
    }

    /// The app, started again, and the count of the parts that arrive. After so many, the line is cut for good.
    fn app(&self, parts_max: usize) -> (SyncKitClient, Arc<AtomicUsize>) {
        let (client, sent, _) = self.app_that_ends(parts_max);
        (client, sent)
    }

    /// Also the count of the uploads that the app ends.
    fn app_that_ends(&self, parts_max: usize) -> (SyncKitClient, Arc<AtomicUsize>, Arc<AtomicUsize>) {
        let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counter, ends) = (Arc::clone(&sent), Arc::clone(&ended));
        let transport = Interference::new(move |request| {
            ends.fetch_add(usize::from(is_end(request)), Ordering::SeqCst);
            if !is_part(request.uri()) {
                return Fate::Delivered;
            }
            if counter.load(Ordering::SeqCst) >= parts_max {
                // No answer that is tried again.
                return Fate::Answered(400, Vec::new());
            }
            counter.fetch_add(1, Ordering::SeqCst);
            Fate::Delivered
        });
        (self.world.resumed_over(&self.user, transport), sent, ended)
    }

    /// Uploads this many parts, and then is cut.
    async fn cut_after(&self, parts: usize) {
        let (client, sent) = self.app(parts);
        let error = client.blob_put(&self.file, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { status: 400, .. }), "{error:?}");
        assert_eq!(sent.load(Ordering::SeqCst), parts);
    }

    /// Goes on in a new app, and returns how many parts it sent.
    async fn go_on(&self) -> usize {
        let (client, sent) = self.app(usize::MAX);
        client.blob_put(&self.file, |_| {}).await.unwrap();
        sent.load(Ordering::SeqCst)
    }

    /// The first bytes of each part with this number that was not joined yet.
    fn parts(&self, number: i32) -> Vec<Vec<u8>> {
        match &self.bucket {
            Some(bucket) => {
                let keys = bucket.uploads().into_iter().map(|(key, _)| key);
                let parts = keys.filter_map(|key| bucket.part(&key, number));
                parts.map(|part| part[..24].to_vec()).collect()
            }
            None => {
                let uploads = std::fs::read_dir(self.world.data_dir().join("blobs/parts"));
                let files = uploads
                    .into_iter()
                    .flatten()
                    .map(|upload| upload.unwrap().path().join(number.to_string()));
                let parts = files.filter_map(|file| std::fs::read(file).ok());
                parts.map(|part| part[..24].to_vec()).collect()
            }
        }
    }

    /// The nonce of the only object.
    async fn nonce(&self, hash: &BlobHash) -> Vec<u8> {
        let (client, _) = self.app(usize::MAX);
        let url = client.blob_download_url(hash).await.unwrap();
        assert!(client.blob_download(&url).await.unwrap() == std::fs::read(&self.file).unwrap());
        match &self.bucket {
            Some(bucket) => bucket.bytes(&bucket.keys()[0]).unwrap()[..24].to_vec(),
            None => {
                let blobs = std::fs::read_dir(self.world.data_dir().join("blobs")).unwrap();
                let mut shards = blobs.map(|shard| shard.unwrap().path());
                let shard = shards.find(|path| path.file_name().unwrap().len() == 2).unwrap();
                let object = std::fs::read_dir(shard).unwrap().next().unwrap().unwrap();
                std::fs::read(object.path()).unwrap()[..24].to_vec()
            }
        }
    }
}

fn contents() -> Vec<u8> {
    (0..SIZE).map(|place| (place / 1000 % 251) as u8).collect()
}

fn hash() -> BlobHash {
    BlobHash::of(&contents())
}

/// Whether a request ends an upload.
fn is_end<B>(request: &http::Request<B>) -> bool {
    request.method() == http::Method::DELETE && request.uri().path().contains("/blobs/uploads/")
}

/// Whether a request sends a part.
fn is_part(uri: &http::Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.contains("partNumber=") || query.contains("op=part")
}

async fn a_cut_upload_goes_on_with_the_missing_parts(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let nonce = stage.parts(1).pop().unwrap();
    stage.cut_after(2).await;
    let (client, sent) = stage.app(usize::MAX);
    let told = AtomicUsize::new(0);
    let progress = |progress: BlobProgress| {
        let before = told.swap(progress.done_bytes as usize, Ordering::SeqCst);
        assert!(progress.done_bytes as usize >= before && progress.total_bytes == SIZE as u64);
    };
    assert_eq!(client.blob_put(&stage.file, progress).await.unwrap(), hash());
    assert_eq!(told.into_inner(), SIZE);
    assert_eq!(sent.load(Ordering::SeqCst), PARTS - 5);
    assert_eq!(stage.nonce(&hash()).await, nonce);
    let (blobs, _) = client.blobs(None).await.unwrap();
    assert_eq!(blobs[0].size, SIZE as u64 + 40);
    // It is confirmed: nothing is sent, and nothing goes on.
    assert_eq!(stage.go_on().await, 0);
}

async fn a_changed_file_gets_another_nonce(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let nonce = stage.parts(1).pop().unwrap();
    let mut changed = contents();
    changed[SIZE - 1] ^= 1;
    std::fs::write(&stage.file, &changed).unwrap();
    assert_eq!(stage.go_on().await, PARTS);
    assert_ne!(stage.nonce(&BlobHash::of(&changed)).await, nonce);
}

async fn no_changed_byte_meets_the_nonce_of_a_cut_upload(place: Place) {
    // The place of the changed byte, and how many parts go out before it is read.
    for (changed_at, sent_before) in [(4 * UPLOAD_PART_BYTES as usize, 1), (SIZE - 1, 4)] {
        let stage = Stage::new(place).await;
        stage.cut_after(3).await;
        let sent = Arc::new(AtomicUsize::new(0));
        let (counter, path) = (Arc::clone(&sent), stage.file.clone());
        let transport = Interference::new(move |request| {
            if request.method() == http::Method::GET && request.uri().path().contains("/blobs/uploads/") {
                // The file was measured, and is the one of the cut upload. Now it changes.
                let mut changed = contents();
                changed[changed_at] ^= 1;
                std::fs::write(&path, changed).unwrap();
            }
            counter.fetch_add(usize::from(is_part(request.uri())), Ordering::SeqCst);
            Fate::Delivered
        });
        let client = stage.world.resumed_over(&stage.user, transport);
        let error = client.blob_put(&stage.file, |_| {}).await.unwrap_err();
        assert!(matches!(error, Error::FileChanged), "{changed_at}: {error:?}");
        assert_eq!(sent.load(Ordering::SeqCst), sent_before, "{changed_at}");
        // What is left of it is of no use to anybody: it was ended on both sides.
        std::fs::write(&stage.file, contents()).unwrap();
        stage.cut_after(1).await;
    }
}

async fn parts_are_tried_again(place: Place) {
    let stage = Stage::new(place).await;
    let attempts = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        if !is_part(request.uri()) {
            return Fate::Delivered;
        }
        match attempts.fetch_add(1, Ordering::SeqCst) {
            0 | 4 => Fate::RequestLost,
            1 | 6 => Fate::Answered(503, b"busy".to_vec()),
            2 => Fate::Answered(403, b"<Error><Code>AccessDenied</Code></Error>".to_vec()),
            // The part arrived, and the client does not know.
            8 => Fate::AnswerLost,
            _ => Fate::Delivered,
        }
    });
    let client = stage.world.resumed_over(&stage.user, transport);
    client.blob_put(&stage.file, |_| {}).await.unwrap();
    stage.nonce(&hash()).await;
}

async fn an_upload_that_the_server_lost_begins_again(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let nonce = stage.parts(1).pop().unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    // Before the device asks, and while it sends.
    for lost_at in [0, 2] {
        let ends = Arc::clone(&ended);
        let sent = AtomicUsize::new(0);
        let lost = AtomicUsize::new(0);
        let transport = Interference::new(move |request| {
            let path = request.uri().path();
            ends.fetch_add(usize::from(is_end(request)), Ordering::SeqCst);
            let is_of_upload = path.contains("/blobs/uploads/") && !is_end(request);
            let parts = sent.fetch_add(usize::from(is_part(request.uri())), Ordering::SeqCst);
            if is_of_upload && parts >= lost_at && lost.fetch_add(1, Ordering::SeqCst) == 0 {
                let problem = br#"{"type":"about:blank","title":"x","status":404,"code":"upload_not_found"}"#;
                return Fate::Answered(404, problem.to_vec());
            }
            // Cut again, so that there is something to go on with.
            if parts >= 5 {
                return Fate::Answered(400, Vec::new());
            }
            Fate::Delivered
        });
        let client = stage.world.resumed_over(&stage.user, transport);
        client.blob_put(&stage.file, |_| {}).await.unwrap_err();
    }
    // The server may still have an upload that its bucket has lost.
    assert_eq!(ended.load(Ordering::SeqCst), 2);
    let mut nonces = stage.parts(1);
    nonces.sort();
    nonces.dedup();
    // Each beginning has its own.
    assert_eq!(nonces.len(), 3);
    stage.go_on().await;
    assert_ne!(stage.nonce(&hash()).await, nonce);
}

async fn a_damaged_part_ends_the_upload(place: Place) {
    let stage = Stage::new(place).await;
    let damaged = AtomicUsize::new(0);
    let transport = Interference::new(move |request| {
        if is_part(request.uri()) && damaged.fetch_add(1, Ordering::SeqCst) < 1 {
            return Fate::Garbled;
        }
        Fate::Delivered
    });
    let client = stage.world.resumed_over(&stage.user, transport);
    let error = client.blob_put(&stage.file, |_| {}).await.unwrap_err();
    // Neither place takes other bytes than the signed ones.
    assert!(
        matches!(error, Error::Problem(_) | Error::Protocol { status: 400, .. }),
        "{error:?}"
    );
    assert_eq!(stage.parts(1), Vec::<Vec<u8>>::new());
    assert_eq!(stage.go_on().await, PARTS);
}

async fn another_process_may_confirm_parts(place: Place) {
    let stage = Stage::new(place).await;
    let (client, _) = stage.app(4);
    let ticket = client.blob_upload_url(&hash(), SIZE as u64).await.unwrap();
    client.blob_upload(&ticket.upload_url, contents()).await.unwrap_err();
    let (client, sent) = stage.app(usize::MAX);
    let ticket = client.blob_upload_url(&hash(), SIZE as u64).await.unwrap();
    client.blob_upload(&ticket.upload_url, contents()).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), PARTS - 4);
    let (client, _) = stage.app(0);
    client.blob_confirm(&hash(), SIZE as u64).await.unwrap();
    stage.nonce(&hash()).await;
}

async fn an_upload_under_an_older_key_begins_again(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let (client, _) = stage.app(usize::MAX);
    client
        .authenticate(&stage.user.email, &stage.user.password)
        .await
        .unwrap();
    client.rotate_keys(&stage.user.password).await.unwrap();
    assert_eq!(stage.go_on().await, PARTS);
}

async fn what_another_device_uploaded_is_not_sent(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let (phone, _) = stage.world.next_device(&stage.user, "phone").await;
    phone.blob_put(&stage.file, |_| {}).await.unwrap();
    assert_eq!(stage.go_on().await, 0);
}

/// An app may ask before the upload is through, perhaps in another process.
async fn a_confirmation_before_the_last_part_loses_none(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(4).await;
    let (client, _, ended) = stage.app_that_ends(0);
    let error = client.blob_confirm(&hash(), SIZE as u64).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::UploadIncomplete), "{error:?}");
    assert_eq!(ended.load(Ordering::SeqCst), 0);
    assert_eq!(stage.go_on().await, PARTS - 4);
}

async fn a_confirmation_ends_an_upload_that_is_not_needed(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(3).await;
    let (phone, _) = stage.world.next_device(&stage.user, "phone").await;
    phone.blob_put(&stage.file, |_| {}).await.unwrap();
    let (client, _, ended) = stage.app_that_ends(0);
    client.blob_confirm(&hash(), SIZE as u64).await.unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
    client.blob_confirm(&hash(), SIZE as u64).await.unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

async fn the_oldest_of_many_cut_uploads_is_ended(place: Place) {
    let stage = Stage::new(place).await;
    stage.cut_after(1).await;
    // As many notes as the device keeps, all of this upload.
    let file = stage.world.file(&format!("{} laptop.json", stage.user.email));
    let text = std::fs::read_to_string(&file).unwrap();
    let name = text.split('"').find(|name| name.ends_with("/uploads")).unwrap();
    let store = FileStore::new(file);
    let one = store.read(name).unwrap().unwrap();
    assert_eq!(one[0], 0x81, "a list of one");
    store
        .write(name, &[&[0x98, 32][..], &one[1..].repeat(32)].concat())
        .unwrap();
    let mut another = contents();
    another[0] ^= 1;
    std::fs::write(&stage.file, another).unwrap();
    let (client, _, ended) = stage.app_that_ends(1);
    client.blob_put(&stage.file, |_| {}).await.unwrap_err();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

/// The server has every part, and one has rotted: nothing that is sent would change that.
#[tokio::test]
async fn what_can_never_be_confirmed_begins_again() {
    let stage = Stage::new(Place::Directory).await;
    let (client, sent) = stage.app(usize::MAX);
    let ticket = client.blob_upload_url(&hash(), SIZE as u64).await.unwrap();
    client.blob_upload(&ticket.upload_url, contents()).await.unwrap();
    let mut uploads = std::fs::read_dir(stage.world.data_dir().join("blobs/parts")).unwrap();
    let part = uploads.next().unwrap().unwrap().path().join("1");
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let error = client.blob_confirm(&hash(), SIZE as u64).await.unwrap_err();
    assert_eq!(error.problem_code(), Some(ProblemCode::UploadIncomplete), "{error:?}");
    client.blob_upload(&ticket.upload_url, contents()).await.unwrap();
    assert_eq!(sent.load(Ordering::SeqCst), 2 * PARTS);
    client.blob_confirm(&hash(), SIZE as u64).await.unwrap();
    stage.nonce(&hash()).await;
}
