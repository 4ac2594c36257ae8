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
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use synckit_client::{ChangeEntry, ChangeOp, MemoryStore, SyncKitClient, SyncKitConfig, Timestamp};
use synckit_server::{Admin, Config, Server};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::mail_server::MailServer;

#[path = "../../synckit-server/tests/it/mail_server.rs"]
mod mail_server;
mod person;

pub use person::allow;

/// The result of an example.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A running server, and its users.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    config: SyncKitConfig,
    /// Where the server sends its mails; without one they become files.
    mail: Option<MailServer>,
    /// Administers the server.
    pub admin: Admin,
    /// The address of a person, who has an account after [`World::signed_in`] or [`World::device`].
    pub email: &'static str,
    /// The password of that account.
    pub password: &'static str,
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
        let server_url = format!("http://{}", listener.local_addr()?);
        let mut server = Config::new(directory.path().join("data"));
        server.public_url = Some(server_url.parse()?);
        if let Some(mail) = &mail {
            server.mail = mail.delivery()?;
        }
        let server = Server::open(server).await?;
        let admin = server.admin();
        let api_key = admin.create_app("Notes").await?.api_key.expose().to_owned();
        // It ends with the runtime.
        tokio::spawn(server.serve(listener, std::future::pending()));
        Ok(Self {
            directory,
            config: SyncKitConfig { server_url, api_key },
            mail,
            admin,
            email: "me@example.com",
            password: "correct horse battery staple",
        })
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
