//! A bucket for tests: a real S3 protocol server on loopback that checks every signature, with its objects in memory.
//!
//! It checks what the blobs of a server rely on (the signed length, the SHA-256, and the rules for uploads in parts), and can
//! stop to: a test shows with it what happens while a store is down, damaged, or too simple.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::{
    Method, Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    auth::SimpleAuth,
    config::{S3Config, StaticConfigProvider},
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput,
        DeleteObjectOutput, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
        ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part,
        PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput, UploadPartOutput,
    },
    s3_error,
    service::S3ServiceBuilder,
};
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

/// The access key id of every test bucket.
pub const ACCESS_KEY: &str = "TESTACCESSKEY";
/// The secret access key of every test bucket.
pub const SECRET_KEY: &str = "a secret key of tests";
/// The name of every test bucket.
const NAME: &str = "files";
/// The smallest part but the last, as Amazon has it.
const PART_BYTES_MIN: usize = 5 * 1024 * 1024;
/// The highest number of a part.
const PARTS_MAX: i32 = 10_000;

/// How a store behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// It answers every request with 503.
    Busy,
    /// It closes every connection without an answer.
    Gone,
    /// It neither checks nor keeps checksums.
    WithoutChecksums,
    /// It answers a question for a missing object or for unfinished uploads with 403, as to keys that may not list the bucket.
    WithoutListing,
}

/// How a store treats the deletion of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstruction {
    /// It answers with 403.
    Refused,
    /// It closes the connection without an answer.
    Unanswered,
}

/// A running server with one bucket. It stops when it is dropped.
#[derive(Debug)]
pub struct TestBucket {
    address: SocketAddr,
    contents: Arc<Contents>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Contents {
    objects: Mutex<BTreeMap<String, Object>>,
    uploads: Mutex<Uploads>,
    mood: Mutex<Mood>,
    next_list: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
    obstructions: Mutex<BTreeMap<String, Obstruction>>,
    obstructed: AtomicUsize,
}

/// A list of parts that the store answers late.
#[derive(Debug)]
pub struct LateList {
    asked: oneshot::Receiver<()>,
    answer: oneshot::Sender<()>,
}

impl LateList {
    /// Waits until somebody asks for it, does this, and then answers.
    pub async fn after(self, work: impl Future<Output = ()>) {
        self.asked.await.unwrap();
        work.await;
        self.answer.send(()).unwrap();
    }
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    /// As the client named it; the store has checked it.
    checksum: Option<String>,
}

/// Uploads in parts that are neither joined nor ended.
#[derive(Debug, Default)]
struct Uploads {
    /// By their names.
    running: BTreeMap<String, Upload>,
    begun: u32,
}

#[derive(Debug)]
struct Upload {
    key: String,
    /// Whether it was begun with SHA-256 as its checksum.
    has_checksums: bool,
    parts: BTreeMap<i32, Object>,
}

impl TestBucket {
    /// Starts a server on a free port of loopback.
    pub async fn start() -> Self {
        let contents = Arc::new(Contents {
            objects: Mutex::default(),
            uploads: Mutex::default(),
            mood: Mutex::new(Mood::Well),
            next_list: Mutex::default(),
            obstructions: Mutex::default(),
            obstructed: AtomicUsize::new(0),
        });
        let mut config = S3Config::default();
        // The clock of a test may be ahead of this machine's.
        config.presigned_url_max_skew_time_secs = u32::MAX;
        let mut service = S3ServiceBuilder::new(Operations(Arc::clone(&contents)));
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let service = service.build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&contents);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (service, shared) = (service.clone(), Arc::clone(&shared));
                let answer = service_fn(move |request: Request<Incoming>| {
                    let (service, shared) = (service.clone(), Arc::clone(&shared));
                    async move {
                        let unanswered = shared.obstruct(&request) == Some(Obstruction::Unanswered);
                        if unanswered || *shared.mood.lock() == Mood::Gone {
                            return Err(io::Error::other("the store is gone"));
                        }
                        Service::call(&service, request)
                            .await
                            .map_err(|error| io::Error::other(format!("{error:?}")))
                    }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), answer));
            }
        });
        Self {
            address,
            contents,
            serving,
        }
    }

    /// The address of the bucket, as the setting `blobs` takes it.
    pub fn address(&self) -> String {
        format!(
            "s3://{NAME}?endpoint=http://{}&region=test&prefix=synckit",
            self.address
        )
    }

    /// Changes the behaviour of the store.
    pub fn set_mood(&self, mood: Mood) {
        *self.contents.mood.lock() = mood;
    }

    /// Changes whether an object can be deleted.
    pub fn obstruct_deletion(&self, key: &str, obstruction: Option<Obstruction>) {
        let mut obstructions = self.contents.obstructions.lock();
        match obstruction {
            Some(obstruction) => obstructions.insert(key.to_owned(), obstruction),
            None => obstructions.remove(key),
        };
    }

    /// How many deletions were obstructed.
    pub fn obstructed(&self) -> usize {
        self.contents.obstructed.load(Ordering::SeqCst)
    }

    /// Answers the next question for the parts of an upload late.
    pub fn answer_next_list_late(&self) -> LateList {
        let ((asking, asked), (answer, answered)) = (oneshot::channel(), oneshot::channel());
        *self.contents.next_list.lock() = Some((asking, answered));
        LateList { asked, answer }
    }

    /// The keys of all objects, in order.
    pub fn keys(&self) -> Vec<String> {
        self.contents.objects.lock().keys().cloned().collect()
    }

    /// The bytes of an object.
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.contents.objects.lock().get(key).map(|object| object.bytes.clone())
    }

    /// Replaces the bytes of an object behind the back of its clients, with a checksum that fits.
    pub fn replace(&self, key: &str, bytes: Vec<u8>) {
        let checksum = Some(checksum(&bytes));
        let bytes = bytes.into();
        let object = Object { bytes, checksum };
        self.contents.objects.lock().insert(key.to_owned(), object);
    }

    /// The uploads in parts that run: the key of each, and the numbers of its parts.
    pub fn uploads(&self) -> Vec<(String, Vec<i32>)> {
        let uploads = self.contents.uploads.lock();
        let all = uploads.running.values();
        all.map(|upload| (upload.key.clone(), upload.parts.keys().copied().collect()))
            .collect()
    }

    /// The bytes of a part that was not joined yet.
    pub fn part(&self, key: &str, number: i32) -> Option<Bytes> {
        let uploads = self.contents.uploads.lock();
        let upload = uploads.running.values().find(|upload| upload.key == key)?;
        Some(upload.parts.get(&number)?.bytes.clone())
    }

    /// Loses an object.
    pub fn lose(&self, key: &str) {
        self.contents.objects.lock().remove(key);
    }
}

impl Drop for TestBucket {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn checksum(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

impl Contents {
    /// Whether a request is the deletion of an object that cannot be deleted. Counts it.
    fn obstruct<B>(&self, request: &Request<B>) -> Option<Obstruction> {
        let key = request.uri().path().strip_prefix(&format!("/{NAME}/"))?;
        let is_deletion = request.method() == Method::DELETE;
        let found = self.obstructions.lock().get(key).copied();
        let found = found.filter(|_| is_deletion);
        self.obstructed
            .fetch_add(usize::from(found.is_some()), Ordering::SeqCst);
        found
    }
}

/// The operations of the protocol that the server and its clients use.
struct Operations(Arc<Contents>);

impl Operations {
    /// Whether the store checks checksums, unless it answers nothing at all.
    fn checks(&self) -> S3Result<bool> {
        match *self.0.mood.lock() {
            Mood::Busy | Mood::Gone => Err(s3_error!(SlowDown)),
            Mood::WithoutChecksums => Ok(false),
            Mood::Well | Mood::WithoutListing => Ok(true),
        }
    }

    fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.checks()?;
        if bucket != NAME {
            return Err(s3_error!(NoSuchBucket));
        }
        let found = self.0.objects.lock().get(key).cloned();
        found.ok_or_else(|| match *self.0.mood.lock() {
            Mood::WithoutListing => s3_error!(AccessDenied),
            _ => s3_error!(NoSuchKey),
        })
    }
}

/// A whole body, of the announced length and with the named checksum.
async fn received(
    (body, length, named): (Option<StreamingBlob>, Option<i64>, &Option<String>),
    checks: bool,
) -> S3Result<Bytes> {
    let mut bytes = Vec::new();
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
        }
    }
    if length.is_some_and(|length| length as usize != bytes.len()) {
        return Err(s3_error!(IncompleteBody));
    }
    if checks && named.as_ref().is_some_and(|named| *named != checksum(&bytes)) {
        return Err(s3_error!(BadDigest));
    }
    Ok(bytes.into())
}

fn etag_of(bytes: &[u8]) -> ETag {
    let mut text = checksum(bytes);
    text.truncate(12);
    ETag::Strong(text)
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let checks = self.checks()?;
        if input.bucket != NAME {
            return Err(s3_error!(NoSuchBucket));
        }
        let body = (input.body, input.content_length, &input.checksum_sha256);
        let bytes = received(body, checks).await?;
        let object = Object {
            bytes,
            checksum: input.checksum_sha256.filter(|_| checks),
        };
        self.0.objects.lock().insert(input.key, object);
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(&request.input.bucket, &request.input.key)?;
        let wanted = request.input.checksum_mode.is_some();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.bytes.len() as i64),
            checksum_sha256: object.checksum.filter(|_| wanted),
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let bytes = self.object(&request.input.bucket, &request.input.key)?.bytes;
        let size = bytes.len();
        let (part, content_range) = match request.input.range {
            None => (bytes, None),
            Some(range) => {
                let range = range.check(size as u64)?;
                let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                (bytes.slice(range.start as usize..range.end as usize), Some(text))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(part.len() as i64),
            accept_ranges: Some("bytes".to_owned()),
            content_range,
            body: Some(StreamingBlob::wrap(stream::iter([Ok::<_, io::Error>(part)]))),
            ..GetObjectOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.checks()?;
        if self.0.obstructions.lock().contains_key(&request.input.key) {
            return Err(s3_error!(AccessDenied));
        }
        self.0.objects.lock().remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.checks()?;
        if input.bucket != NAME {
            return Err(s3_error!(NoSuchBucket));
        }
        let mut uploads = self.0.uploads.lock();
        uploads.begun += 1;
        // Names of stores have letters that a query and a document must escape.
        let upload_id = format!("up&load/{}+=<{}>", uploads.begun, input.key.len());
        let upload = Upload {
            key: input.key.clone(),
            has_checksums: input
                .checksum_algorithm
                .is_some_and(|algorithm| algorithm.as_str() == "SHA256"),
            parts: BTreeMap::new(),
        };
        uploads.running.insert(upload_id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let checks = self.checks()?;
        if !(1..=PARTS_MAX).contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument));
        }
        let body = (input.body, input.content_length, &input.checksum_sha256);
        let bytes = received(body, checks).await?;
        let mut uploads = self.0.uploads.lock();
        let upload = uploads.running.get_mut(&input.upload_id);
        let upload = upload.filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        if input.checksum_sha256.is_some() != upload.has_checksums {
            return Err(s3_error!(InvalidRequest));
        }
        let e_tag = Some(etag_of(&bytes));
        let checksum = input.checksum_sha256.filter(|_| checks);
        upload.parts.insert(input.part_number, Object { bytes, checksum });
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..UploadPartOutput::default()
        }))
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        self.checks()?;
        let late = self.0.next_list.lock().take();
        if let Some((asking, answered)) = late {
            // The test that no longer waits has failed by itself.
            let _ = asking.send(());
            let _ = answered.await;
        }
        let uploads = self.0.uploads.lock();
        let upload = uploads.running.get(&input.upload_id);
        let upload = upload.filter(|upload| upload.key == input.key);
        let parts = upload.ok_or_else(|| s3_error!(NoSuchUpload))?.parts.iter();
        let parts = parts.map(|(number, part)| Part {
            part_number: Some(*number),
            e_tag: Some(etag_of(&part.bytes)),
            size: Some(part.bytes.len() as i64),
            checksum_sha256: part.checksum.clone(),
            ..Part::default()
        });
        Ok(S3Response::new(ListPartsOutput {
            parts: Some(parts.collect()),
            is_truncated: Some(false),
            ..ListPartsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let checks = self.checks()?;
        let mut uploads = self.0.uploads.lock();
        let upload = uploads.running.get(&input.upload_id);
        let upload = upload.filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = input
            .multipart_upload
            .and_then(|upload| upload.parts)
            .unwrap_or_default();
        let (mut bytes, mut hashes, mut last) = (Vec::new(), Sha256::new(), 0);
        for (place, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            if number <= last {
                return Err(s3_error!(InvalidPartOrder));
            }
            last = number;
            let stored = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            let is_named_as_stored =
                part.e_tag == Some(etag_of(&stored.bytes)) && (!checks || part.checksum_sha256 == stored.checksum);
            if !is_named_as_stored {
                return Err(s3_error!(InvalidPart));
            }
            if place + 1 < named.len() && stored.bytes.len() < PART_BYTES_MIN {
                return Err(s3_error!(EntityTooSmall));
            }
            bytes.extend_from_slice(&stored.bytes);
            hashes.update(Sha256::digest(&stored.bytes));
        }
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        let composite = format!("{}-{}", STANDARD.encode(hashes.finalize()), named.len());
        let object = Object {
            bytes: bytes.into(),
            checksum: (upload.has_checksums && checks).then_some(composite),
        };
        uploads.running.remove(&input.upload_id);
        self.0.objects.lock().insert(input.key.clone(), object);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.checks()?;
        if *self.0.mood.lock() == Mood::WithoutListing {
            return Err(s3_error!(AccessDenied));
        }
        let prefix = request.input.prefix.unwrap_or_default();
        let uploads = self.0.uploads.lock();
        let found = uploads
            .running
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(&prefix));
        let found = found.map(|(upload_id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(upload_id.clone()),
            ..MultipartUpload::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            uploads: Some(found.collect()),
            ..ListMultipartUploadsOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.checks()?;
        let mut uploads = self.0.uploads.lock();
        let is_there = uploads
            .running
            .get(&input.upload_id)
            .is_some_and(|upload| upload.key == input.key);
        if !is_there {
            return Err(s3_error!(NoSuchUpload));
        }
        uploads.running.remove(&input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
