//! A bucket for tests: a real S3 protocol server on loopback that checks every signature, with its objects in memory.
//!
//! It checks what the blobs of a server rely on (the signed length and the SHA-256), and can stop to: a test shows with it
//! what happens while a store is down, damaged, or too simple.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::{
    Request,
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
        DeleteObjectInput, DeleteObjectOutput, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput,
        PutObjectInput, PutObjectOutput, StreamingBlob,
    },
    s3_error,
    service::S3ServiceBuilder,
};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio::{net::TcpListener, task::JoinSet};

/// The access key id of every test bucket.
pub const ACCESS_KEY: &str = "TESTACCESSKEY";
/// The secret access key of every test bucket.
pub const SECRET_KEY: &str = "a secret key of tests";
/// The name of every test bucket.
const NAME: &str = "files";

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
    /// It answers a question for a missing object with 403, as to keys that may not list the bucket.
    WithoutListing,
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
    mood: Mutex<Mood>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    /// As the client named it; the store has checked it.
    checksum: Option<String>,
}

impl TestBucket {
    /// Starts a server on a free port of loopback.
    pub async fn start() -> Self {
        let contents = Arc::new(Contents {
            objects: Mutex::default(),
            mood: Mutex::new(Mood::Well),
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
                        if *shared.mood.lock() == Mood::Gone {
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

#[async_trait::async_trait]
impl S3 for Operations {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let checks = self.checks()?;
        if input.bucket != NAME {
            return Err(s3_error!(NoSuchBucket));
        }
        let mut bytes = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(piece) = body.next().await {
                bytes.extend_from_slice(&piece.map_err(|_| s3_error!(IncompleteBody))?);
            }
        }
        if input
            .content_length
            .is_some_and(|length| length as usize != bytes.len())
        {
            return Err(s3_error!(IncompleteBody));
        }
        if checks
            && input
                .checksum_sha256
                .as_ref()
                .is_some_and(|named| *named != checksum(&bytes))
        {
            return Err(s3_error!(BadDigest));
        }
        let object = Object {
            bytes: bytes.into(),
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
        self.0.objects.lock().remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}
