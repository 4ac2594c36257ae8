//! Stored accounts of a device: through another API key, another address of the server, another account.

use std::collections::BTreeMap;

use synckit_client::{Cursor, Error, FileStore, SyncKitClient, SyncKitConfig, Tampering};

use crate::world::{User, World, changes};

/// One machine: a credential file, which every client of it shares.
struct Machine<'a> {
    world: &'a World,
    file: FileStore,
}

impl<'a> Machine<'a> {
    fn of(world: &'a World) -> Self {
        let file = FileStore::new(world.file("machine.json"));
        Self { world, file }
    }

    fn client(&self) -> SyncKitClient {
        self.client_with(self.world.config())
    }

    fn client_with(&self, config: SyncKitConfig) -> SyncKitClient {
        SyncKitClient::builder(config)
            .credential_store(self.file.clone())
            .build()
    }

    async fn signed_in(&self, user: &User) -> SyncKitClient {
        let client = self.client();
        client.authenticate(&user.email, &user.password).await.unwrap();
        if client.has_server_key().await.unwrap() {
            client.setup_encryption_existing(&user.password).await.unwrap();
        } else {
            client.setup_encryption_new(&user.password).await.unwrap();
        }
        client
    }

    /// The names of the stored records.
    fn names(&self) -> Vec<String> {
        let text = std::fs::read(self.world.file("machine.json")).unwrap();
        let records: BTreeMap<String, String> = serde_json::from_slice(&text).unwrap();
        records.into_keys().collect()
    }

    /// Expects that a client compares the server with the key that is pinned in the file, by pinning another one.
    async fn expect_pin(&self, config: SyncKitConfig, user: &User) {
        let path = self.world.file("machine.json");
        let mut records: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (_, pinned) = records
            .iter_mut()
            .find(|(name, _)| name.ends_with(" server key"))
            .unwrap();
        *pinned = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned();
        std::fs::write(&path, serde_json::to_vec(&records).unwrap()).unwrap();
        let client = self.client_with(config);
        let error = client.authenticate(&user.email, &user.password).await.unwrap_err();
        assert!(
            matches!(error, Error::Tampering(Tampering::ServerKeyChanged)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn rotated_api_key_keeps_session_keys_and_pin() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let user = world.user().await;
    let client = machine.signed_in(&user).await;
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(3)).await.unwrap();

    let rotated = SyncKitConfig {
        api_key: world.second_api_key().await,
        ..world.config()
    };
    let client = machine.client_with(rotated.clone());
    client.try_load_key_from_keychain().unwrap();
    assert_eq!(client.pull(device.id, Cursor::START).await.unwrap().0, changes(3));
    client.sign_out().await.unwrap();
    let left = machine.names();
    let secret = |name: &&String| ["session", "keys", "envelope"].iter().any(|kind| name.ends_with(kind));
    assert_eq!(left.iter().find(secret), None, "{left:?}");
    assert!(matches!(
        machine.client().try_load_key_from_keychain(),
        Err(Error::NoStoredKey)
    ));
    machine.expect_pin(rotated, &user).await;
}

#[tokio::test]
async fn moved_server_keeps_session_keys_and_pin() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let user = world.user().await;
    let client = machine.signed_in(&user).await;
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(3)).await.unwrap();

    let moved = SyncKitConfig {
        server_url: world.url().replace("127.0.0.1", "localhost"),
        ..world.config()
    };
    let client = machine.client_with(moved.clone());
    client.try_load_key_from_keychain().unwrap();
    assert_eq!(client.pull(device.id, Cursor::START).await.unwrap().0, changes(3));

    // Another server that says it is this app's is still told by its key.
    machine.expect_pin(moved, &user).await;
}

#[tokio::test]
async fn accounts_are_listed_chosen_and_forgotten() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let (ada, bob) = (world.user().await, world.user().await);
    let ada_id = machine.signed_in(&ada).await.user_id().unwrap();
    let bob_id = machine.signed_in(&bob).await.user_id().unwrap();

    let client = machine.client();
    let listed = client.stored_accounts().unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|account| (account.user_id, account.email.clone()))
        .collect();
    assert_eq!(
        listed,
        [(ada_id, Some(ada.email.clone())), (bob_id, Some(bob.email.clone()))]
    );
    client.try_load_key_from_keychain().unwrap();
    assert_eq!(client.user_id(), Some(bob_id), "whoever used the app last");

    // The choice outlives the process.
    client.load_account(ada_id).unwrap();
    let client = machine.client();
    client.try_load_key_from_keychain().unwrap();
    assert_eq!(client.user_id(), Some(ada_id));

    client.forget_account(bob_id).await.unwrap();
    assert_eq!(client.user_id(), Some(ada_id), "the account in use stays");
    assert!(matches!(machine.client().load_account(bob_id), Err(Error::NoStoredKey)));
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(1)).await.unwrap();
}

#[tokio::test]
async fn sign_out_leaves_the_other_account_in_reach() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let (ada, bob) = (world.user().await, world.user().await);
    let ada_id = machine.signed_in(&ada).await.user_id().unwrap();
    machine.signed_in(&bob).await.sign_out().await.unwrap();

    // Nobody is opened whom the user did not choose.
    let client = machine.client();
    assert!(matches!(client.try_load_key_from_keychain(), Err(Error::NoStoredKey)));
    let left = client.stored_accounts().unwrap();
    assert_eq!(left.iter().map(|account| account.user_id).collect::<Vec<_>>(), [ada_id]);
    client.load_account(ada_id).unwrap();
    // With its session and its key.
    let device = client.register_device("laptop", "linux").await.unwrap();
    client.push(device.id, changes(1)).await.unwrap();
}

#[tokio::test]
async fn forgotten_account_has_no_session_any_more() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let (ada, bob) = (world.user().await, world.user().await);
    let ada_client = machine.signed_in(&ada).await;
    let client = machine.signed_in(&bob).await;
    client.forget_account(ada_client.user_id().unwrap()).await.unwrap();
    let error = ada_client.status().await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded), "{error:?}");
}

#[tokio::test]
async fn push_after_a_restart_returns_the_app_s_cursor() {
    let world = World::start().await;
    let machine = Machine::of(&world);
    let user = world.user().await;
    let client = machine.signed_in(&user).await;
    let device = client.register_device("laptop", "linux").await.unwrap();
    // Before its first pull an app is at the start.
    assert_eq!(client.push(device.id, changes(3)).await.unwrap(), Cursor::START);
    let (_, stored, _) = client.pull(device.id, Cursor::START).await.unwrap();

    let restarted = || {
        let client = machine.client();
        client.try_load_key_from_keychain().unwrap();
        client
    };
    let client = restarted();
    let error = client.push(device.id, changes(1)).await.unwrap_err();
    assert!(matches!(error.source, Error::CursorUnknown), "{error:?}");
    assert_eq!((error.accepted, client.status().await.unwrap().change_count), (0, 3));
    client.resume_at(stored);
    assert_eq!(client.push(device.id, changes(1)).await.unwrap(), stored);

    let client = restarted();
    let (_, pulled, _) = client.pull(device.id, stored).await.unwrap();
    assert_eq!(client.push(device.id, changes(1)).await.unwrap(), pulled);

    // An app that lost its database says so.
    let client = restarted();
    client.resume_at(Cursor::START);
    assert_eq!(client.push(device.id, changes(1)).await.unwrap(), Cursor::START);
}
