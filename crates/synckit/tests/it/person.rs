//! Somebody with an account, devices and data on a server.

use std::{future::Future, process::Command};

use serde_json::json;
use synckit_client::{
    ChangeEntry, ChangeOp, Device, MemoryStore, SyncKitClient, SyncKitClientBuilder, SyncKitConfig, Timestamp,
    transport::RequestBody,
};
use synckit_protocol::wire::log::Push;

use crate::{
    interference::{Fate, Interference},
    program::{Ended, Server, run, synckit},
};

pub(crate) const EMAIL: &str = "me@example.com";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// An account with one device, in an app of its own.
pub(crate) struct Person {
    pub(crate) client: SyncKitClient,
    pub(crate) laptop: Device,
    pub(crate) api_key: String,
    url: String,
}

impl Person {
    pub(crate) async fn on(server: &Server) -> Self {
        let api_key = server.create_app();
        let client = client(&server.url, &api_key);
        client.create_account(EMAIL, PASSWORD).await.unwrap();
        client.authenticate(EMAIL, PASSWORD).await.unwrap();
        client.setup_encryption_new(PASSWORD).await.unwrap();
        let laptop = client.register_device("laptop", "linux").await.unwrap();
        Self {
            client,
            laptop,
            api_key,
            url: server.url.clone(),
        }
    }

    /// The same person, at another address of the server.
    pub(crate) fn at(self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self
        }
    }

    /// A session of the person that has no device.
    pub(crate) async fn signed_in(&self) -> SyncKitClient {
        let client = client(&self.url, &self.api_key);
        client.authenticate(EMAIL, PASSWORD).await.unwrap();
        client
    }

    /// Another device of the person.
    pub(crate) async fn device(&self, name: &str) -> (SyncKitClient, Device) {
        let client = client(&self.url, &self.api_key);
        client.authenticate(EMAIL, PASSWORD).await.unwrap();
        client.setup_encryption_existing(PASSWORD).await.unwrap();
        let device = client.register_device(name, "ios").await.unwrap();
        (client, device)
    }

    pub(crate) async fn push(&self, changes: Vec<ChangeEntry>) {
        self.client.push(self.laptop.id, changes).await.unwrap();
    }

    /// Appends a batch under this person's token that no device can open: a thief of the token needs no key for it.
    pub(crate) async fn push_garbage(&self, changes: Vec<ChangeEntry>) {
        let thief = Interference::new(|request| match request.body() {
            RequestBody::Full(body) if request.uri().path() == "/api/sync/push" => {
                let mut push: Push = minicbor_serde::from_slice(body).unwrap();
                push.sealed.0.iter_mut().for_each(|byte| *byte ^= 0x55);
                Fate::Rewritten(minicbor_serde::to_vec(&push).unwrap())
            }
            _ => Fate::Delivered,
        });
        let client = builder(&self.url, &self.api_key).transport(thief).build();
        client.authenticate(EMAIL, PASSWORD).await.unwrap();
        client.setup_encryption_existing(PASSWORD).await.unwrap();
        let device = client.register_device("thief", "linux").await.unwrap();
        // The client notices that other bytes are stored than it sealed; they are stored all the same.
        let error = client.push(device.id, changes).await.unwrap_err();
        assert!(error.source.is_tampering(), "{error:?}");
        client.revoke_device(device.id).await.unwrap();
    }

    /// The program as this person, with the password in the environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = synckit();
        command
            .env("SYNCKIT_SERVER", &self.url)
            .env("SYNCKIT_API_KEY", &self.api_key)
            .env("SYNCKIT_EMAIL", EMAIL)
            .env("SYNCKIT_PASSWORD", PASSWORD);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(self.command().args(arguments))
    }
}

pub(crate) fn client(url: &str, api_key: &str) -> SyncKitClient {
    builder(url, api_key).build()
}

fn builder(url: &str, api_key: &str) -> SyncKitClientBuilder {
    SyncKitClient::builder(SyncKitConfig {
        server_url: url.to_owned(),
        api_key: api_key.to_owned(),
    })
    .credential_store(MemoryStore::default())
}

/// A change of a note, at a time that follows from its number.
pub(crate) fn note(op: ChangeOp, row_id: &str, number: i64) -> ChangeEntry {
    ChangeEntry {
        table: "notes".into(),
        op,
        row_id: row_id.into(),
        timestamp: Timestamp::from_micros(number),
        data: (op != ChangeOp::Delete).then(|| json!({ "text": format!("note {number}"), "number": number })),
    }
}

/// Runs what is async to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
