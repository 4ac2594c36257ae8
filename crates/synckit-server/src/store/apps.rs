//! The seed binding, apps and their keys, as a store takes and returns them.

use synckit_protocol::{AppId, wire::UnixSeconds};

use super::SecretHash;

/// Whether a database that was made under another OPRF seed may be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptNewSeed {
    /// Refuse it: the default.
    No,
    /// Take it over: password records of every other seed are stale from then on.
    Yes,
}

/// The answer of [`super::Store::claim_seed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedClaim {
    /// The database was new, or is bound to this seed.
    Bound,
    /// The database is bound to another seed, which stays so.
    OtherSeed,
    /// The database is bound to this seed now, and so many password records are stale.
    Rebound {
        /// Records of other seeds.
        stale_records: u64,
    },
}

/// An app to create.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// use synckit_protocol::AppId;
/// use synckit_server::store::{App, NewApiKey, NewApp, SecretHash, Store};
///
/// let id = AppId::from_bytes([1; 16]);
/// let key = |byte, created_at| NewApiKey { hash: SecretHash([byte; 32]), prefix: format!("sk_{byte}"), created_at };
/// store.create_app(NewApp { id, name: "Notes".into(), key: key(1, 100) }).await?;
/// store.rotate_api_key(id, key(2, 200), 300).await?;
/// let App { name, keys, .. } = &store.apps(250).await?[0];
/// assert_eq!((name.as_str(), keys[0].prefix.as_str(), keys[1].ends_at), ("Notes", "sk_2", Some(300)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct NewApp {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// Its first key.
    pub key: NewApiKey,
}

/// An API key to add. The key itself is shown once and never stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What the key is recognised by.
    pub hash: SecretHash,
    /// The first characters of the key, for people to tell keys apart.
    pub prefix: String,
    /// Now.
    pub created_at: UnixSeconds,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// Its keys that are not expired, newest first.
    pub keys: Vec<ApiKey>,
}

/// An API key as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The first characters of the key.
    pub prefix: String,
    /// When it was created.
    pub created_at: UnixSeconds,
    /// When it ends, if a newer key replaced it.
    pub ends_at: Option<UnixSeconds>,
}
