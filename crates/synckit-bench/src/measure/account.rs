//! The one user of the bench, and that user's devices.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use synckit_client::{
    CountingTransport, DeviceId, MemoryStore, SyncKitClient, SyncKitConfig, transport::HttpTransport,
};
use uuid::Uuid;

/// A connection that counts its bytes.
type Wire = CountingTransport<HttpTransport>;

#[derive(Debug)]
pub(super) struct Account {
    config: SyncKitConfig,
    email: String,
    password: String,
}

impl Account {
    pub(super) async fn create(config: SyncKitConfig) -> anyhow::Result<Self> {
        let account = Self {
            config,
            email: "bench@example.com".to_owned(),
            password: Uuid::new_v4().to_string(),
        };
        let (client, _) = account.client();
        client.create_account(&account.email, &account.password).await?;
        Ok(account)
    }

    fn client(&self) -> (SyncKitClient, Arc<Wire>) {
        let wire = Arc::new(CountingTransport::new(HttpTransport::new(Duration::from_secs(10))));
        let client = SyncKitClient::builder(self.config.clone())
            .credential_store(MemoryStore::default())
            .transport(Arc::clone(&wire) as Arc<_>)
            .build();
        (client, wire)
    }

    /// The device that makes the master key.
    pub(super) async fn first_device(&self) -> anyhow::Result<Client> {
        let (client, wire) = self.sign_in().await?;
        client.setup_encryption_new(&self.password).await?;
        Client::register("laptop", client, wire).await
    }

    /// A device that joins.
    pub(super) async fn device(&self, name: &str) -> anyhow::Result<Client> {
        let (client, wire) = self.sign_in().await?;
        client.setup_encryption_existing(&self.password).await?;
        Client::register(name, client, wire).await
    }

    async fn sign_in(&self) -> anyhow::Result<(SyncKitClient, Arc<Wire>)> {
        let (client, wire) = self.client();
        client.authenticate(&self.email, &self.password).await?;
        Ok((client, wire))
    }
}

/// A device of that user.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) client: SyncKitClient,
    pub(super) wire: Arc<Wire>,
    pub(super) id: DeviceId,
}

impl Client {
    async fn register(name: &str, client: SyncKitClient, wire: Arc<Wire>) -> anyhow::Result<Self> {
        let device = client.register_device(name, "linux").await;
        let id = device.context("a device of the bench cannot be registered")?.id;
        Ok(Self { client, wire, id })
    }
}
