//! A server for one test, and people who use it.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use ed25519_dalek::{Signer as _, SigningKey};
use rand::rngs::OsRng;
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap},
};
use serde::{Serialize, de::DeserializeOwned};
use synckit_login::{ClientLogin, ClientRegistration};
use synckit_protocol::{
    ApiKey, AppId, BatchId, Cursor, DeviceId, Head, KeyId, LOGIN_SUITE, OwnerKey, OwnerSignature, Position, Problem,
    SecretText, SnapshotId, UserId,
    wire::{
        accounts::{RegisterFinish, RegisterStart, RegisterStarted, Registered},
        auth::{LoginFinish, LoginStart, LoginStarted, SignedIn, UnlockFinish, UnlockStart},
        devices::{Device, Platform, RegisterDevice},
        keys::PutEnvelope,
        log::{Page, Pull, Push, Pushed},
        snapshots::PutSnapshot,
    },
};
use synckit_server::{
    Admin, Clock, Config, ServeError,
    admin::CreatedApp,
    config::{BlobPlace, Database},
    serve,
};
use synckit_store::objects::{BucketAccess, BucketKeys};
use synckit_testbucket::{ACCESS_KEY, SECRET_KEY, TestBucket};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::contract::{self, Sent};

pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const KEY_ID: KeyId = KeyId::from_bytes([7; 16]);
/// The seed of the owner key of [`KEY_ID`].
pub(crate) const OWNER_SEED: u8 = 7;
/// In the place of an owner key that is filled in by [`User::signed_envelope`].
pub(crate) const UNNAMED: OwnerKey = OwnerKey::from_bytes([0; 32]);
/// In the place of a signature that is made later: no key verifies it.
pub(crate) const UNSIGNED: OwnerSignature = OwnerSignature::from_bytes([0; 64]);
/// When every test begins: 2026-01-01.
pub(crate) const BEGINNING: u64 = 1_767_225_600;

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set_back(&self, seconds: u64) {
        self.0.fetch_sub(seconds, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Clock::from_fn(move || UNIX_EPOCH + Duration::from_secs(time.load(Ordering::SeqCst)))
    }
}

/// The database of a world: embedded, or with `SYNCKIT_TEST_DATABASE=postgres` a fresh one on the PostgreSQL of
/// `SYNCKIT_TEST_POSTGRES`. Tests whose names begin with `embedded_` open the file themselves.
pub(crate) async fn fresh_database() -> Database {
    match std::env::var("SYNCKIT_TEST_DATABASE").as_deref() {
        Ok("postgres") => fresh_postgres().await,
        _ => Database::Embedded,
    }
}

/// A fresh database on the PostgreSQL that `cargo xtask test` starts.
pub(crate) async fn fresh_postgres() -> Database {
    Database::Postgres(fresh_postgres_url().await.parse().unwrap())
}

/// Its URL.
pub(crate) async fn fresh_postgres_url() -> String {
    static DATABASES: AtomicU64 = AtomicU64::new(0);
    let url = std::env::var("SYNCKIT_TEST_POSTGRES").expect(
        "a PostgreSQL: run `cargo xtask test -- -p synckit-server`, or `cargo xtask with-keychain -- cargo test ...`",
    );
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("server_{}_{number}", std::process::id());
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connected = tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    drop(client);
    let _ = connected.await;
    let server = url.rsplit_once('/').unwrap().0;
    format!("{server}/{name}")
}

/// Where a world has its data.
#[derive(Clone)]
struct Base {
    dir: Arc<TempDir>,
    database: Database,
    bucket: Option<Arc<TestBucket>>,
}

impl Base {
    fn config(&self) -> Config {
        let mut config = Config::new(self.dir.path());
        config.database = self.database.clone();
        if let Some(bucket) = &self.bucket {
            config.blobs = BlobPlace::Bucket(Box::new(BucketAccess {
                address: bucket.address().parse().unwrap(),
                keys: BucketKeys {
                    access_key: ACCESS_KEY.to_owned(),
                    secret_key: SecretText::new(SECRET_KEY),
                },
            }));
        }
        config
    }
}

/// A running server with one app.
pub(crate) struct World {
    base: Base,
    pub(crate) url: String,
    pub(crate) app: CreatedApp,
    pub(crate) clock: TestClock,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<Result<(), ServeError>>>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(fresh_database().await, change).await
    }

    pub(crate) async fn start_on(database: Database, change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(database, None, change).await
    }

    /// A world whose blobs are in a bucket. Its clock begins at the real time, which the store of the bucket goes by.
    pub(crate) async fn start_with_bucket(change: impl FnOnce(&mut Config)) -> Self {
        let bucket = Arc::new(TestBucket::start().await);
        let world = Self::start_at(fresh_database().await, Some(bucket), change).await;
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        world.clock.advance(now - BEGINNING);
        world
    }

    async fn start_at(database: Database, bucket: Option<Arc<TestBucket>>, change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        let base = Base { dir, database, bucket };
        let admin = Admin::connect(&base.config()).await.unwrap();
        let app = admin.create_app("Notes").await.unwrap();
        let clock = TestClock(Arc::new(AtomicU64::new(BEGINNING)));
        Self::on(base, app, clock, change).await
    }

    async fn on(base: Base, app: CreatedApp, clock: TestClock, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = base.config();
        config.clock = clock.clock();
        change(&mut config);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(config, listener, async move {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            base,
            url,
            app,
            clock,
            http,
            stop: Some(stop),
            served: Some(served),
        }
    }

    /// Stops the server and starts it again on the same data.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.stop().await.unwrap();
        Self::on(self.base.clone(), self.app.clone(), self.clock.clone(), change).await
    }

    /// Another node on the same database, with the same keys.
    pub(crate) async fn second_node(&self) -> Self {
        self.second_node_with(|_| {}).await
    }

    pub(crate) async fn second_node_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        let keys = dir.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        for key in std::fs::read_dir(self.path().join("keys")).unwrap() {
            let key = key.unwrap();
            // With its mode.
            std::fs::copy(key.path(), keys.join(key.file_name())).unwrap();
        }
        let base = Base {
            dir: Arc::new(dir),
            ..self.base.clone()
        };
        Self::on(base, self.app.clone(), self.clock.clone(), change).await
    }

    /// The administration beside the running server, as the command line opens it.
    pub(crate) async fn admin(&self) -> Admin {
        let mut config = self.config();
        config.clock = self.clock.clock();
        Admin::connect(&config).await.unwrap()
    }

    /// The configuration of a further server on the same data.
    pub(crate) fn config(&self) -> Config {
        self.base.config()
    }

    /// The bucket of a world that has one.
    pub(crate) fn bucket(&self) -> Option<&TestBucket> {
        self.base.bucket.as_deref()
    }

    pub(crate) async fn stop(&mut self) -> Result<(), ServeError> {
        self.tell_to_stop();
        match self.served.take() {
            Some(served) => served.await.unwrap(),
            None => Ok(()),
        }
    }

    pub(crate) fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.base.dir.path()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.url)
        };
        Call(self.http.request(method, url))
    }

    /// Whether the server answers on a connection, and does not turn it away.
    pub(crate) async fn answers(&self) -> bool {
        let asked = self.http.get(format!("{}/healthz", self.url)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub(crate) fn api_key(&self) -> String {
        self.app.api_key.expose().to_owned()
    }

    /// Registers an account and signs it in.
    pub(crate) async fn user(&self, email: &str) -> User {
        self.register(email, PASSWORD).await.ok::<Registered>();
        self.sign_in(email, PASSWORD).await.unwrap()
    }

    /// A signed-in user with a device and an envelope, ready to push.
    pub(crate) async fn ready_user(&self, email: &str) -> Syncing {
        let user = self.user(email).await;
        let device = user.register_device(self, "laptop").await;
        user.put_envelope(self).await;
        Syncing::new(user, device.id)
    }

    /// Registers an account; returns the answer to the last message.
    pub(crate) async fn register(&self, email: &str, password: &str) -> Answer {
        let (answer, finish) = self.register_start(email, password, None).await;
        match finish {
            Some(finish) => self.post("/api/accounts").cbor(&finish).send().await,
            None => answer,
        }
    }

    /// The first message of a registration, and the second if the first went well.
    pub(crate) async fn register_start(
        &self,
        email: &str,
        password: &str,
        invite: Option<SecretText>,
    ) -> (Answer, Option<RegisterFinish>) {
        let (registration, request) = ClientRegistration::start(password, &mut OsRng).unwrap();
        let start = RegisterStart {
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            request: request.into(),
            invite,
        };
        let answer = self.post("/api/accounts/start").cbor(&start).send().await;
        if answer.status != StatusCode::OK {
            return (answer, None);
        }
        let started: RegisterStarted = answer.ok();
        let finished = registration.finish(&started.response.0, &mut OsRng).unwrap();
        let finish = RegisterFinish {
            registration: started.registration,
            record: finished.upload.into(),
            vault: vault(1, 1).into(),
        };
        (answer, Some(finish))
    }

    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Result<User, Problem> {
        self.sign_in_to(&self.api_key(), email, password).await
    }

    pub(crate) async fn sign_in_to(&self, api_key: &str, email: &str, password: &str) -> Result<User, Problem> {
        self.finish_sign_in(api_key, email, password, None).await
    }

    /// Confirms the address of a pending account by signing in with the mailed code.
    pub(crate) async fn confirm(&self, email: &str, password: &str, code: &str) -> Result<User, Problem> {
        self.finish_sign_in(&self.api_key(), email, password, Some(code)).await
    }

    async fn finish_sign_in(
        &self,
        api_key: &str,
        email: &str,
        password: &str,
        code: Option<&str>,
    ) -> Result<User, Problem> {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng).unwrap();
        let start = LoginStart {
            api_key: api_key.to_owned(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
            code: code.map(SecretText::new),
        };
        let answer = self.post("/api/sync/auth/start").cbor(&start).send().await;
        if answer.status != StatusCode::OK {
            return Err(answer.problem());
        }
        let started: LoginStarted = answer.ok();
        // A wrong password shows here; the server is asked all the same, as an attacker's client would.
        let ke3 = login
            .finish(
                ApiKey::publishable(api_key).unwrap().app_id(),
                &started.ke2.0,
                None,
                &mut OsRng,
            )
            .map_or(vec![0; 64], |finished| finished.ke3);
        let finish = LoginFinish {
            api_key: api_key.to_owned(),
            login: started.login,
            ke3: ke3.into(),
        };
        let answer = self.post("/api/sync/auth").cbor(&finish).send().await;
        if answer.status != StatusCode::OK {
            return Err(answer.problem());
        }
        let signed_in: SignedIn = answer.ok();
        Ok(User {
            token: signed_in.token.expose().to_owned(),
            account_token: signed_in.account_token.as_ref().unwrap().expose().to_owned(),
            refresh: signed_in.refresh.clone(),
            user_id: signed_in.user_id,
            app_id: signed_in.app_id,
        })
    }
}

/// A vault of an edition, as far as the server reads it.
pub(crate) fn vault(generation: u32, count: u32) -> Vec<u8> {
    [
        &[1],
        generation.to_be_bytes().as_slice(),
        &count.to_be_bytes(),
        b"a sealed vault",
    ]
    .concat()
}

/// An owner key of a test.
pub(crate) fn owner(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn sign(seed: u8, message: &[u8]) -> OwnerSignature {
    OwnerSignature::from_bytes(owner(seed).sign(message).to_bytes())
}

/// A signed-in session.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) token: String,
    pub(crate) account_token: String,
    pub(crate) refresh: SecretText,
    pub(crate) user_id: UserId,
    pub(crate) app_id: AppId,
}

impl User {
    pub(crate) async fn register_device(&self, world: &World, name: &str) -> Device {
        let body = RegisterDevice {
            device_name: name.to_owned(),
            platform: Platform::Linux,
            installation_id: None,
        };
        self.register(world, &body).await.ok()
    }

    pub(crate) async fn register(&self, world: &World, body: &RegisterDevice) -> Answer {
        world
            .post("/api/sync/devices")
            .bearer(&self.token)
            .cbor(body)
            .send()
            .await
    }

    pub(crate) async fn put_envelope(&self, world: &World) {
        let body = PutEnvelope {
            envelope: b"a sealed envelope".to_vec().into(),
            key_id: KEY_ID,
            expected_version: 0,
            head: None,
            snapshot: None,
            owner: UNNAMED,
            signature: UNSIGNED,
        };
        let body = self.signed_envelope(body, OWNER_SEED, OWNER_SEED);
        let answer = world
            .call(Method::PUT, "/api/sync/keys")
            .bearer(&self.token)
            .cbor(&body)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::OK);
    }

    /// A write of an envelope that names one owner key, signed by another.
    pub(crate) fn signed_envelope(&self, mut body: PutEnvelope, named: u8, signer: u8) -> PutEnvelope {
        body.owner = OwnerKey::from_bytes(owner(named).verifying_key().to_bytes());
        body.signature = sign(signer, &body.claim(self.app_id, self.user_id).message());
        body
    }

    /// A manifest, signed by an owner key.
    pub(crate) fn signed_snapshot(&self, mut body: PutSnapshot, id: SnapshotId, signer: u8) -> PutSnapshot {
        body.signature = sign(signer, &body.claim(self.app_id, self.user_id, id).message());
        body
    }

    pub(crate) async fn unlock(&self, world: &World, password: &str) -> Answer {
        let (login, ke1) = ClientLogin::start(password, &mut OsRng).unwrap();
        let start = UnlockStart {
            suite: LOGIN_SUITE,
            ke1: ke1.into(),
        };
        let answer = world
            .post("/api/sync/auth/unlock/start")
            .bearer(&self.token)
            .cbor(&start)
            .send()
            .await;
        if answer.status != StatusCode::OK {
            return answer;
        }
        let started: LoginStarted = answer.ok();
        let ke3 = login
            .finish(self.app_id, &started.ke2.0, None, &mut OsRng)
            .map_or(vec![0; 64], |finished| finished.ke3);
        let finish = UnlockFinish {
            login: started.login,
            ke3: ke3.into(),
        };
        world
            .post("/api/sync/auth/unlock")
            .bearer(&self.token)
            .cbor(&finish)
            .send()
            .await
    }
}

/// A user who can push, and the chain as this user computes it.
pub(crate) struct Syncing {
    pub(crate) user: User,
    pub(crate) device_id: DeviceId,
    pub(crate) head: Position,
    batches: u8,
}

impl Syncing {
    /// A user of an empty stream, with a device.
    pub(crate) fn new(user: User, device_id: DeviceId) -> Self {
        Self {
            device_id,
            head: Position::start_of(user.app_id, user.user_id),
            user,
            batches: 0,
        }
    }

    /// The next batch of so many entries and sealed bytes, on top of everything that was pushed.
    pub(crate) fn batch(&mut self, count: u32, size: usize) -> Push {
        self.batches += 1;
        Push {
            device_id: self.device_id,
            batch_id: BatchId::from_bytes([self.batches; 16]),
            key_id: KEY_ID,
            count,
            parent: self.head,
            sealed: vec![self.batches; size].into(),
        }
    }

    pub(crate) async fn send(&self, world: &World, push: &Push) -> Answer {
        world
            .post("/api/sync/push")
            .bearer(&self.user.token)
            .cbor(push)
            .send()
            .await
    }

    /// Pushes a batch that must be taken, and follows the chain.
    pub(crate) async fn push(&mut self, world: &World, count: u32, size: usize) -> (Push, Pushed) {
        let push = self.batch(count, size);
        let pushed: Pushed = self.send(world, &push).await.ok();
        self.head = Position {
            seq: pushed.last_seq,
            head: pushed.head,
        };
        (push, pushed)
    }

    pub(crate) async fn pull(&self, world: &World, cursor: Cursor, max_bytes: Option<u32>) -> Answer {
        let body = Pull {
            device_id: self.device_id,
            cursor,
            max_bytes,
            ahead: false,
            avoid_snapshot: false,
        };
        world
            .post("/api/sync/pull")
            .bearer(&self.user.token)
            .cbor(&body)
            .send()
            .await
    }

    pub(crate) async fn page(&self, world: &World, cursor: Cursor) -> Page {
        self.pull(world, cursor, None).await.ok()
    }
}

/// A request.
pub(crate) struct Call(reqwest::RequestBuilder);

impl Call {
    pub(crate) fn bearer(self, token: &str) -> Self {
        Self(self.0.bearer_auth(token))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Self {
        self.text("application/json", serde_json::to_string(body).unwrap())
    }

    pub(crate) fn cbor(self, body: &impl Serialize) -> Self {
        self.bytes("application/cbor", minicbor_serde::to_vec(body).unwrap())
    }

    pub(crate) fn text(self, content_type: &str, body: impl Into<String>) -> Self {
        Self(self.0.header(CONTENT_TYPE, content_type).body(body.into()))
    }

    pub(crate) fn bytes(self, content_type: &str, body: Vec<u8>) -> Self {
        Self(self.0.header(CONTENT_TYPE, content_type).body(body))
    }

    pub(crate) fn raw(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) fn accept(self, media_type: &str) -> Self {
        Self(self.0.header(ACCEPT, media_type))
    }

    /// Opens a stream: the answer is good, its head fits the document, and its body is not read.
    pub(crate) async fn open(self) -> reqwest::Response {
        let response = self.open_any().await;
        assert_eq!(response.status(), StatusCode::OK);
        response
    }

    /// Sends the request, and holds the head of its answer against the document.
    pub(crate) async fn open_any(self) -> reqwest::Response {
        let document = contract::document().await;
        let (client, request) = self.0.build_split();
        let request = request.unwrap();
        let sent = Sent {
            method: request.method().clone(),
            path: request.url().path().to_owned(),
            content_type: String::new(),
            body: Vec::new(),
        };
        let response = client.execute(request).await.unwrap();
        if response.status().is_success() {
            contract::check(document, &sent, response.status(), response.headers(), &[]);
        }
        response
    }

    /// Sends the request, and holds its answer against the document.
    pub(crate) async fn send(self) -> Answer {
        let document = contract::document().await;
        let (client, request) = self.0.build_split();
        let request = request.unwrap();
        let content_type = request.headers().get(CONTENT_TYPE);
        let sent = Sent {
            method: request.method().clone(),
            path: request.url().path().to_owned(),
            content_type: content_type.map_or(String::new(), |value| value.to_str().unwrap().to_owned()),
            body: request
                .body()
                .and_then(reqwest::Body::as_bytes)
                .unwrap_or_default()
                .to_vec(),
        };
        // A bucket has a protocol of its own.
        let is_ours = !request.url().path().starts_with("/files/");
        let response = client.execute(request).await.unwrap();
        let answer = Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        };
        if is_ours {
            contract::check(document, &sent, answer.status, &answer.headers, &answer.body);
        }
        answer
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body of a good answer, in the format that it says it has.
    #[track_caller]
    pub(crate) fn ok<T: DeserializeOwned>(&self) -> T {
        assert!(
            self.status.is_success(),
            "{}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        );
        match self.header("content-type") {
            "application/json" => serde_json::from_slice(&self.body).unwrap(),
            "application/cbor" => minicbor_serde::from_slice(&self.body).unwrap(),
            other => panic!("an answer of type {other:?}"),
        }
    }

    /// The body as JSON, for snapshots.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        assert!(
            self.header("content-type").contains("json"),
            "{}",
            self.header("content-type")
        );
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn empty(&self) {
        assert_eq!(
            (self.status, self.body.len()),
            (StatusCode::NO_CONTENT, 0),
            "{:?}",
            self.code()
        );
    }

    /// The problem of a bad answer, whose status and headers fit its code.
    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.status
        );
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.known_code().unwrap().status(), self.status.as_u16());
        assert_eq!(problem.request_id.as_deref(), Some(self.header("x-request-id")));
        problem
    }

    #[track_caller]
    pub(crate) fn code(&self) -> String {
        if self.status.is_success() {
            return format!("{}", self.status.as_u16());
        }
        if self.header("content-type") == "application/xml" {
            let text = std::str::from_utf8(&self.body).unwrap();
            let code = text.split("<Code>").nth(1).unwrap().split('<').next();
            return code.unwrap().to_owned();
        }
        self.problem().code
    }
}

/// A position that is on no chain.
pub(crate) fn elsewhere(seq: u64) -> Position {
    Position {
        seq,
        head: Head::from_bytes([0xee; 32]),
    }
}
