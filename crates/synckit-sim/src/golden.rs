//! The world that every run starts from, made once: a server with an app, accounts, and devices that are signed in.
//!
//! Signing in costs an Argon2id of 64 MiB by design. A run that paid it would test little else, so runs copy this one's
//! files: the server's data directory, and each device's credential file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use synckit_client::{AppId, DeviceId, FileStore, SyncKitClient, SyncKitClientBuilder, SyncKitConfig, UserId};
use synckit_crypto::{KeyRing, StreamScope};
use tempfile::TempDir;

use crate::{
    direct::Direct,
    endpoint::{Endpoint, SERVER_URL, SimClock, copy_data_dir},
};

/// Devices of the first account.
pub const DEVICES: usize = 5;

/// An account with devices that are signed in and hold the key.
#[derive(Debug)]
pub struct Account {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
    /// The account.
    pub user_id: UserId,
    /// Its devices.
    pub devices: Vec<Member>,
}

/// A device of the golden world.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name, and that of its credential file.
    pub name: String,
    /// Its id.
    pub id: DeviceId,
}

/// The golden world.
#[derive(Debug)]
pub struct Golden {
    directory: TempDir,
    /// The app.
    pub app_id: AppId,
    /// Its key.
    pub api_key: String,
    /// The account that the runs sync.
    pub ada: Account,
    /// Another account of the same app, with one device.
    pub eve: Account,
    /// The server's time when it was made, in seconds since 1970.
    pub made_at: u64,
}

impl Golden {
    /// Makes the world. Takes about a second for each device.
    ///
    /// # Errors
    /// If anything that must work does not.
    pub fn make() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(Self::make_async())
    }

    async fn make_async() -> anyhow::Result<Self> {
        let directory = run_directory("golden")?;
        let made_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let endpoint = Endpoint::open(&directory.path().join("data"), SimClock::starting_at(made_at)).await?;
        let app = endpoint.create_app("simulation").await?;
        let api_key = app.api_key.expose().to_owned();
        let endpoint = Arc::new(endpoint);
        let credentials = directory.path().join("credentials");
        fs::create_dir(&credentials)?;
        let client = |device: &str| {
            let config = SyncKitConfig {
                server_url: SERVER_URL.to_owned(),
                api_key: api_key.clone(),
            };
            SyncKitClient::builder(config)
                .credential_store(FileStore::new(credential_file(&credentials, device)))
                .transport(Arc::new(Direct::new(Arc::clone(&endpoint))))
                .build()
        };
        let ada = sign_up("ada", DEVICES, client).await?;
        let eve = sign_up("eve", 1, client).await?;
        endpoint.close();
        Ok(Self {
            directory,
            app_id: app.app_id,
            api_key,
            ada,
            eve,
            made_at,
        })
    }

    /// Copies everything to a directory of a run's own: the data directory to `data`, the credential files beside it.
    ///
    /// # Errors
    /// If a file cannot be copied.
    pub fn copy_to(&self, directory: &Path) -> anyhow::Result<()> {
        copy_data_dir(&self.directory.path().join("data"), &directory.join("data"))?;
        for member in self.ada.devices.iter().chain(&self.eve.devices) {
            let from = credential_file(&self.directory.path().join("credentials"), &member.name);
            fs::copy(from, credential_file(directory, &member.name))?;
        }
        Ok(())
    }

    /// A builder for the app on a device, over the copy in `directory`.
    pub fn client(&self, directory: &Path, device: &str) -> SyncKitClientBuilder {
        let config = SyncKitConfig {
            server_url: SERVER_URL.to_owned(),
            api_key: self.api_key.clone(),
        };
        SyncKitClient::builder(config).credential_store(FileStore::new(credential_file(directory, device)))
    }

    /// The stream of an account in the app.
    pub fn scope(&self, account: &Account) -> StreamScope {
        StreamScope {
            app_id: self.app_id,
            user_id: account.user_id,
        }
    }

    /// The keys of an account's stream, as its first device holds them: an honest server never has them.
    ///
    /// # Errors
    /// If the credential file cannot be read.
    pub fn key_ring(&self, account: &Account) -> anyhow::Result<KeyRing> {
        let device = account.devices.first().context("no device")?;
        let file = credential_file(&self.directory.path().join("credentials"), &device.name);
        stored_key_ring(&file, &self.scope(account))
    }
}

/// The keys of a stream as a device's credential file holds them.
///
/// # Errors
/// If the file cannot be read, or holds no keys of this stream.
pub fn stored_key_ring(file: &Path, scope: &StreamScope) -> anyhow::Result<KeyRing> {
    let records: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&fs::read(file)?)?;
    let name = format!("{}/keys", scope.user_id);
    let record = records.iter().find(|(key, _)| key.ends_with(&name));
    let text = record.and_then(|(_, value)| value.as_str()).context("no keys")?;
    Ok(KeyRing::from_secret_bytes(scope, &STANDARD.decode(text)?)?)
}

/// Makes an account with devices that are signed in and hold the key, each over a client of its own.
///
/// # Errors
/// If anything fails.
pub async fn sign_up(name: &str, devices: usize, client_of: impl Fn(&str) -> SyncKitClient) -> anyhow::Result<Account> {
    let email = format!("{name}@example.test");
    let password = format!("{name}: correct horse battery staple");
    let mut user_id = None;
    let mut members = Vec::new();
    for index in 0..devices {
        let device = format!("{name}-{index}");
        let client = client_of(&device);
        if index == 0 {
            client.create_account(&email, &password).await?;
        }
        user_id = Some(client.authenticate(&email, &password).await?.0);
        if index == 0 {
            client.setup_encryption_new(&password).await?;
        } else {
            client.setup_encryption_existing(&password).await?;
        }
        let id = client.register_device(&device, "linux").await?.id;
        members.push(Member { name: device, id });
    }
    Ok(Account {
        email,
        password,
        user_id: user_id.context("an account without devices")?,
        devices: members,
    })
}

/// The credential file of a device in a directory.
#[must_use]
pub fn credential_file(directory: &Path, device: &str) -> PathBuf {
    directory.join(format!("{device}.json"))
}

/// A temporary directory in memory where the system has one: runs sync files thousands of times.
///
/// # Errors
/// If it cannot be created.
pub fn run_directory(what: &str) -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let prefix = format!("synckit-sim-{what}-");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    match builder.tempdir_in(memory) {
        Ok(directory) => Ok(directory),
        Err(_) => builder.tempdir(),
    }
}
