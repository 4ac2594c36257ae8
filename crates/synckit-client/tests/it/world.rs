//! A server of one test, its users and their devices.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use synckit_client::{
    AppId, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, FileStore, MemoryStore, SyncKitClient, SyncKitConfig,
    Timestamp,
    transport::{RequestBody, Transport},
};
use synckit_protocol::wire::keys::PutEnvelope;
use synckit_server::{Admin, Config, serve};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::{
    interference::{Fate, Interference},
    mail_server::MailServer,
};

/// A real server on loopback, with one app.
pub(crate) struct World {
    directory: TempDir,
    address: SocketAddr,
    pub(crate) app_id: AppId,
    pub(crate) api_key: String,
    users: AtomicUsize,
    envelopes: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    configure: Arc<Configure>,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

type Configure = dyn Fn(&mut Config) + Send + Sync;

/// Somebody with an account.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) email: String,
    pub(crate) password: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A server that sends mail.
    pub(crate) async fn start_with_mail() -> (Self, MailServer) {
        let mail = MailServer::start().await.unwrap();
        let delivery = mail.delivery().unwrap();
        let world = Self::start_with(move |config| config.mail = delivery.clone()).await;
        (world, mail)
    }

    /// A server with another configuration than the default, also after a restart.
    pub(crate) async fn start_with(configure: impl Fn(&mut Config) + Send + Sync + 'static) -> Self {
        let configure: Arc<Configure> = Arc::new(configure);
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = run(directory.path().join("data"), listener, Arc::clone(&configure)).await;
        let created = Admin::open(&directory.path().join("data"))
            .unwrap()
            .create_app("test app")
            .await
            .unwrap();
        Self {
            directory,
            address,
            app_id: created.app_id,
            api_key: created.api_key.expose().to_owned(),
            users: AtomicUsize::new(0),
            envelopes: Arc::default(),
            configure,
            server: Some(server),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn config(&self) -> SyncKitConfig {
        SyncKitConfig {
            server_url: self.url(),
            api_key: self.api_key.clone(),
        }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Another key of the same app.
    pub(crate) async fn second_api_key(&self) -> String {
        let admin = Admin::open(&self.data_dir()).unwrap();
        admin
            .rotate_api_key(self.app_id, Duration::from_secs(3600))
            .await
            .unwrap()
            .expose()
            .to_owned()
    }

    /// A new account.
    pub(crate) async fn user(&self) -> User {
        let number = self.users.fetch_add(1, Ordering::SeqCst);
        let user = User {
            email: format!("user{number}@example.com"),
            password: format!("correct horse {number}"),
        };
        let client = SyncKitClient::builder(self.config())
            .credential_store(MemoryStore::default())
            .build();
        client.create_account(&user.email, &user.password).await.unwrap();
        user
    }

    /// The device that sets up encryption.
    pub(crate) async fn first_device(&self, user: &User) -> (SyncKitClient, DeviceId) {
        let (envelopes, email) = (Arc::clone(&self.envelopes), user.email.clone());
        let recorder = Interference::new(move |request| {
            if let ("/api/sync/keys", RequestBody::Full(body)) = (request.uri().path(), request.body()) {
                let put: PutEnvelope = minicbor_serde::from_slice(body).unwrap();
                envelopes.lock().unwrap().insert(email.clone(), put.envelope.0);
            }
            Fate::Delivered
        });
        let client = self.client(user, "laptop", Some(recorder));
        client.authenticate(&user.email, &user.password).await.unwrap();
        client.setup_encryption_new(&user.password).await.unwrap();
        let device = client.register_device("laptop", "linux").await.unwrap();
        (client, device.id)
    }

    /// The envelope that the user's first device wrote.
    pub(crate) fn stored_envelope(&self, user: &User) -> Vec<u8> {
        self.envelopes.lock().unwrap()[&user.email].clone()
    }

    /// The versions of the envelopes that the server keeps of a user, newest first.
    pub(crate) async fn envelope_versions(&self, user: &User) -> Vec<u64> {
        let admin = Admin::open(&self.data_dir()).unwrap();
        let user_id = admin.account_of(&user.email).await.unwrap().unwrap();
        let kept = admin.envelopes(self.app_id, user_id).await.unwrap();
        kept.iter().map(|kept| kept.version).collect()
    }

    /// Another device, which joins by the password.
    pub(crate) async fn next_device(&self, user: &User, name: &str) -> (SyncKitClient, DeviceId) {
        self.join(user, name, None).await
    }

    /// Another device, over a transport that interferes.
    pub(crate) async fn device_over(
        &self,
        user: &User,
        name: &str,
        transport: Arc<dyn Transport>,
    ) -> (SyncKitClient, DeviceId) {
        self.join(user, name, Some(transport)).await
    }

    async fn join(&self, user: &User, name: &str, transport: Option<Arc<dyn Transport>>) -> (SyncKitClient, DeviceId) {
        let client = self.client(user, name, transport);
        client.authenticate(&user.email, &user.password).await.unwrap();
        client.setup_encryption_existing(&user.password).await.unwrap();
        let device = client.register_device(name, "android").await.unwrap();
        (client, device.id)
    }

    /// A client that has signed in and done nothing else.
    pub(crate) async fn signed_in_over(&self, user: &User, transport: Arc<dyn Transport>) -> SyncKitClient {
        let client = SyncKitClient::builder(self.config())
            .credential_store(MemoryStore::default())
            .transport(transport)
            .build();
        client.authenticate(&user.email, &user.password).await.unwrap();
        client
    }

    /// The app on the first device, started again: it has the stored session and key, and no memory.
    pub(crate) async fn another_client(&self, user: &User) -> SyncKitClient {
        let client = self.client(user, "laptop", None);
        client.try_load_key_from_keychain().unwrap();
        client
    }

    /// As [`World::another_client`], over a transport that interferes.
    pub(crate) fn resumed_over(&self, user: &User, transport: Arc<dyn Transport>) -> SyncKitClient {
        self.resumed(user, "laptop", transport)
    }

    /// The app on any device, started again, over a transport that interferes.
    pub(crate) fn resumed(&self, user: &User, device: &str, transport: Arc<dyn Transport>) -> SyncKitClient {
        let client = self.client(user, device, Some(transport));
        client.try_load_key_from_keychain().unwrap();
        // This app keeps no cursor.
        client.resume_at(Cursor::START);
        client
    }

    /// A client with the credential file of a device.
    pub(crate) fn client(&self, user: &User, device: &str, transport: Option<Arc<dyn Transport>>) -> SyncKitClient {
        let file = self.file(&format!("{} {device}.json", user.email));
        let builder = SyncKitClient::builder(self.config()).credential_store(FileStore::new(file));
        match transport {
            Some(transport) => builder.transport(transport).build(),
            None => builder.build(),
        }
    }

    /// Copies the database as it is now.
    pub(crate) fn backup(&self) -> PathBuf {
        let copy = self.file("backup.sqlite");
        let _ = std::fs::remove_file(&copy);
        let database = rusqlite::Connection::open(self.database()).unwrap();
        database.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        copy
    }

    /// Stops the server, puts a backup in the place of its database, and starts it again at the same address.
    pub(crate) async fn restore(mut self, backup: PathBuf) -> Self {
        self.stop().await;
        let database = self.database();
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
        }
        std::fs::copy(backup, database).unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(run(self.data_dir(), listener, Arc::clone(&self.configure)).await);
        self
    }

    /// Stops the server and starts it again at the same address.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(run(self.data_dir(), listener, Arc::clone(&self.configure)).await);
    }

    /// Stops the server, in good order.
    pub(crate) async fn stop(&mut self) {
        let (shutdown, task) = self.server.take().unwrap();
        shutdown.send(()).unwrap();
        task.await.unwrap();
    }

    /// The files of the stored objects.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.data_dir().join("blobs")).unwrap();
        folders
            .map(|folder| folder.unwrap().path())
            .filter(|folder| folder.is_dir())
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|object| object.unwrap().path())
            .filter(|object| object.is_file())
            .collect()
    }

    /// The code in the newest mail of a subject to a user, as soon as it is there.
    pub(crate) async fn mailed_code(&self, user: &User, subject: &str) -> String {
        let (to, subject) = (format!("To: {}", user.email), format!("Subject: {subject}"));
        loop {
            let files = std::fs::read_dir(self.data_dir().join("mail")).into_iter().flatten();
            let mails = files
                .map(|file| file.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "eml"));
            let mail = mails
                .map(|path| std::fs::read_to_string(path).unwrap())
                .find(|mail| mail.contains(&to) && mail.contains(&subject));
            if let Some(mail) = mail {
                return mail
                    .lines()
                    .find(|line| line.starts_with("    "))
                    .unwrap()
                    .trim()
                    .to_owned();
            }
            tokio::task::yield_now().await;
        }
    }

    fn database(&self) -> PathBuf {
        self.data_dir().join("synckit.db")
    }
}

async fn run(
    data_dir: PathBuf,
    listener: TcpListener,
    configure: Arc<Configure>,
) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (shutdown, stopped) = oneshot::channel::<()>();
    let mut config = Config::new(data_dir);
    configure(&mut config);
    let task = tokio::spawn(async move {
        serve(config, listener, async move {
            let _ = stopped.await;
        })
        .await
        .unwrap();
    });
    (shutdown, task)
}

/// A change of one row.
pub(crate) fn change(table: &str, row_id: &str) -> ChangeEntry {
    ChangeEntry {
        table: table.to_owned(),
        op: ChangeOp::Insert,
        row_id: row_id.to_owned(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
        data: Some(serde_json::json!({ "title": format!("row {row_id}") })),
    }
}

/// Changes of as many rows.
pub(crate) fn changes(count: usize) -> Vec<ChangeEntry> {
    (0..count).map(|row| change("notes", &row.to_string())).collect()
}

/// Pulls until nothing more follows.
pub(crate) async fn pull_all(
    client: &SyncKitClient,
    device_id: DeviceId,
    mut cursor: Cursor,
) -> Result<(Vec<ChangeEntry>, Cursor), Error> {
    let mut all = Vec::new();
    loop {
        let (changes, next, has_more) = client.pull(device_id, cursor).await?;
        all.extend(changes);
        cursor = next;
        if !has_more {
            return Ok((all, cursor));
        }
    }
}
