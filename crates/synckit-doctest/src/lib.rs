//! The world in which the examples of the SDK's documentation run: a real server in this process, on loopback and a
//! temporary directory, one app, and somebody with an account.
//!
//! An example begins with the hidden line `# synckit_doctest::run(async |world| {` and ends with `# Ok(()) });`, so
//! that its visible lines are those of an app. This is a crate instead of a file that every example includes, because
//! the server would otherwise be compiled once for each of them.
//!
//! The crate deliberately tests nothing. It is not published, and only doctests and tests use it.

use std::{
    error::Error,
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::SystemTime,
};

use synckit_client::{ChangeEntry, ChangeOp, MemoryStore, SyncKitClient, SyncKitConfig, Timestamp};
use synckit_server::{Admin, Config, Server};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use crate::mail_server::MailServer;

#[path = "../../synckit-server/tests/it/mail_server.rs"]
mod mail_server;
mod person;

pub use person::{allow, allow_machine};

/// The result of an example.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A running server, and its users.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    config: SyncKitConfig,
    address: SocketAddr,
    running: Option<Running>,
    configure: Configure,
    /// Where the server sends its mails; without one they become files.
    mail: Option<MailServer>,
    /// Administers the server.
    pub admin: Admin,
    /// The address of a person, who has an account after [`World::signed_in`] or [`World::device`].
    pub email: &'static str,
    /// The password of that account.
    pub password: &'static str,
}

/// The server's task, and what ends it.
#[derive(Debug)]
struct Running {
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What the server's configuration has beyond a new one's.
struct Configure(Box<dyn Fn(&mut Config)>);

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configure")
    }
}

/// Starts a server, runs an example against it, and ends both.
///
/// # Panics
/// If the example fails, which fails the doctest.
pub fn run(example: impl AsyncFnOnce(World) -> Outcome) {
    run_in(async || World::start(None).await, example);
}

/// As [`run`], with a server that sends mail, so that new accounts are pending.
///
/// # Panics
/// If the example fails, which makes the doctest fail.
pub fn run_with_mail(example: impl AsyncFnOnce(World) -> Outcome) {
    run_in(async || World::start(Some(MailServer::start().await?)).await, example);
}

fn run_in(start: impl AsyncFnOnce() -> Result<World, Box<dyn Error>>, example: impl AsyncFnOnce(World) -> Outcome) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime
        .map_err(Box::from)
        .and_then(|runtime| runtime.block_on(async { example(start().await?).await }));
    if let Err(error) = outcome {
        panic!("the example failed: {error} ({error:?})");
    }
}

impl World {
    async fn start(mail: Option<MailServer>) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let configure = Configure(Box::new(|_| {}));
        let server = Server::open(Self::server_config(&directory, address, mail.as_ref(), &configure)?).await?;
        let admin = server.admin();
        let api_key = admin.create_app("Notes").await?.api_key.expose().to_owned();
        let server_url = format!("http://{address}");
        Ok(Self {
            directory,
            config: SyncKitConfig { server_url, api_key },
            address,
            running: Some(Running::begin(server, listener)),
            configure,
            mail,
            admin,
            email: "me@example.com",
            password: "correct horse battery staple",
        })
    }

    fn server_config(
        directory: &TempDir,
        address: SocketAddr,
        mail: Option<&MailServer>,
        configure: &Configure,
    ) -> Result<Config, Box<dyn Error>> {
        let mut server = Config::new(directory.path().join("data"));
        server.public_url = Some(format!("http://{address}").parse()?);
        if let Some(mail) = mail {
            server.mail = mail.delivery()?;
        }
        (configure.0)(&mut server);
        Ok(server)
    }

    /// Stops the server, in good order.
    ///
    /// # Errors
    /// Its task failed.
    pub async fn stop(&mut self) -> Outcome {
        if let Some(Running { shutdown, task }) = self.running.take() {
            // The receiver ends with the task.
            let _ended = shutdown.send(());
            task.await?;
        }
        Ok(())
    }

    /// Starts the server again, at the same address and with what it had stored.
    ///
    /// # Errors
    /// The address was taken meanwhile, or the data cannot be opened.
    pub async fn start_again(&mut self) -> Outcome {
        let listener = TcpListener::bind(self.address).await?;
        let config = Self::server_config(&self.directory, self.address, self.mail.as_ref(), &self.configure)?;
        let server = Server::open(config).await?;
        self.admin = server.admin();
        self.running = Some(Running::begin(server, listener));
        Ok(())
    }

    /// Starts the server again with another configuration.
    ///
    /// # Errors
    /// As [`World::stop`] and [`World::start_again`].
    pub async fn reconfigure(&mut self, configure: impl Fn(&mut Config) + 'static) -> Outcome {
        self.configure = Configure(Box::new(configure));
        self.stop().await?;
        self.start_again().await
    }

    /// A copy of the server's database, for [`World::restore`]. The server is stopped meanwhile.
    ///
    /// # Errors
    /// As [`World::stop`] and [`World::start_again`].
    pub async fn backup(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        self.stop().await?;
        let copy = fs::read(self.path("data/synckit.db"))?;
        self.start_again().await?;
        Ok(copy)
    }

    /// Starts the server again with an older database.
    ///
    /// # Errors
    /// As [`World::stop`] and [`World::start_again`].
    pub async fn restore(&mut self, backup: &[u8]) -> Outcome {
        self.stop().await?;
        let database = self.path("data/synckit.db");
        for suffix in ["-wal", "-shm"] {
            match fs::remove_file(format!("{}{suffix}", database.display())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::write(database, backup)?;
        self.start_again().await
    }

    /// The configuration of an app.
    pub fn config(&self) -> SyncKitConfig {
        self.config.clone()
    }

    /// A path in a folder that is deleted with the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client without a session, whose credentials live in memory.
    pub fn client(&self) -> SyncKitClient {
        SyncKitClient::builder(self.config())
            .credential_store(MemoryStore::default())
            .build()
    }

    /// A client that is signed in, to an account that is made the first time.
    ///
    /// # Errors
    /// Those of the SDK.
    pub async fn signed_in(&self) -> Result<SyncKitClient, synckit_client::Error> {
        let client = self.client();
        if self.admin.account_of(self.email).await.ok().flatten().is_none() {
            client.create_account(self.email, self.password).await?;
        }
        client.authenticate(self.email, self.password).await?;
        Ok(client)
    }

    /// A client that is ready to push and pull: the first device of the account, or the next one.
    ///
    /// # Errors
    /// Those of the SDK.
    pub async fn device(&self, name: &str) -> Result<(SyncKitClient, synckit_client::Device), synckit_client::Error> {
        let client = self.signed_in().await?;
        if client.has_server_key().await? {
            client.setup_encryption_existing(self.password).await?;
        } else {
            client.setup_encryption_new(self.password).await?;
        }
        let device = client.register_device(name, "linux").await?;
        Ok((client, device))
    }

    /// The person opens a sign-in page in a browser, signs in, allows the app, and comes back to it. Goes on in the background.
    pub fn browse(&self, page: &str) {
        let (page, email, password) = (page.to_owned(), self.email, self.password);
        tokio::spawn(async move {
            let back = allow(&page, email, password).await?;
            reqwest::get(back).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }

    /// The person opens the address of a machine that asks to sign in, signs in, and allows it. Goes on in the background.
    pub fn allow_machine(&self, page: &str) {
        let (page, email, password) = (page.to_owned(), self.email, self.password);
        tokio::spawn(async move { allow_machine(&page, email, password).await });
    }

    /// Waits for the first mail to this person whose subject begins like this, and returns its code.
    ///
    /// # Errors
    /// A mail cannot be read.
    pub async fn mailed_code(&self, subject: &str) -> io::Result<String> {
        if let Some(mail) = &self.mail {
            return mail.code(self.email, subject, 1).await;
        }
        let folder = self.path("data/mail");
        loop {
            if let Some(code) = code_in(&folder, subject)? {
                return Ok(code);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Running {
    fn begin(server: Server, listener: TcpListener) -> Self {
        let (shutdown, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = server.serve(listener, stopped).await {
                panic!("the server failed: {error}");
            }
        });
        Self { shutdown, task }
    }
}

/// A new row with a text.
pub fn note(row_id: &str, text: &str) -> ChangeEntry {
    ChangeEntry {
        table: "notes".into(),
        op: ChangeOp::Insert,
        row_id: row_id.into(),
        timestamp: Timestamp::from(SystemTime::now()),
        data: Some(serde_json::json!({ "text": text })),
    }
}

/// The server writes mails into files when no mail server is configured. Codes stand on a line of their own, indented.
fn code_in(folder: &Path, subject: &str) -> io::Result<Option<String>> {
    let mails = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        mails => mails?,
    };
    for mail in mails {
        let path = mail?.path();
        if path.extension().is_some_and(|extension| extension == "eml") {
            let mail = fs::read_to_string(path)?;
            if mail.contains(&format!("Subject: {subject}")) {
                let code = mail.lines().find(|line| line.starts_with("    "));
                return Ok(code.map(|code| code.trim().to_owned()));
            }
        }
    }
    Ok(None)
}
