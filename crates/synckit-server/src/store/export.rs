//! Exports, as a store returns them.

use synckit_protocol::wire::export::ExportLine;

/// A page of an export.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::UserId;
/// # use synckit_server::store::{NewAccount, Store as _};
/// # let account = NewAccount {
/// #     user_id: UserId::from_bytes([2; 16]),
/// #     email: "me@example.com".into(),
/// #     record: b"OPAQUE record".to_vec(),
/// #     vault: b"vault".to_vec(),
/// #     invite: None,
/// #     created_at: 100,
/// # };
/// # store.create_account(account).await?;
/// use synckit_protocol::wire::export::ExportLine;
///
/// let user_id = UserId::from_bytes([2; 16]);
/// let page = store.export(user_id, None, 256 * 1024).await?.ok_or("there is no such account")?;
/// assert!(matches!(&page.lines[..], [ExportLine::Account(account)] if account.email == "me@example.com"));
/// assert!(page.next.is_none()); // nothing was ever stored in an app
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// The lines, without `begin` and `end`. Blobs have no URL yet, which a store cannot make.
    pub lines: Vec<ExportLine>,
    /// Where to go on; `None` if nothing is left.
    pub next: Option<ExportCursor>,
}

/// A place in an export. Only the store that gave it out can read it.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let store = synckit_server::store::SqliteStore::open(&directory.path().join("store.db"), Default::default())?;
/// # use synckit_protocol::UserId;
/// # use synckit_server::store::{NewAccount, Store as _};
/// # let account = NewAccount {
/// #     user_id: UserId::from_bytes([2; 16]),
/// #     email: "me@example.com".into(),
/// #     record: b"OPAQUE record".to_vec(),
/// #     vault: b"vault".to_vec(),
/// #     invite: None,
/// #     created_at: 100,
/// # };
/// # store.create_account(account).await?;
/// # let key = synckit_server::store::NewApiKey {
/// #     hash: synckit_server::store::SecretHash([7; 32]),
/// #     prefix: "sk_1".into(),
/// #     created_at: 1,
/// # };
/// # let app_id = synckit_protocol::AppId::from_bytes([1; 16]);
/// # store.create_app(synckit_server::store::NewApp { id: app_id, name: "Notes".into(), key }).await?;
/// # let owner = synckit_protocol::OwnerKey::from_bytes([4; 32]);
/// # let envelope = synckit_server::store::NewEnvelope {
/// #     stream: synckit_server::store::StreamId { app_id, user_id: UserId::from_bytes([2; 16]) },
/// #     envelope: b"envelope".to_vec(),
/// #     key_id: synckit_protocol::KeyId::from_bytes([3; 16]),
/// #     expected_version: 0,
/// #     head: None,
/// #     owner,
/// #     signed_by: Some(owner),
/// #     now: 100,
/// # };
/// # store.put_envelope(envelope).await?;
/// let user_id = UserId::from_bytes([2; 16]);
/// let (mut lines, mut after) = (0, None);
/// loop {
///     // Pages as small as they can be.
///     let page = store.export(user_id, after, 1).await?.ok_or("the account is gone")?;
///     lines += page.lines.len();
///     after = page.next;
///     if after.is_none() {
///         break;
///     }
/// }
/// assert_eq!(lines, 3); // the account, its stream in one app, and an envelope
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportCursor {
    /// The stream.
    pub(super) stream_key: i64,
    /// Which of the kinds of things that a stream has.
    pub(super) section: usize,
    /// The last one that was read.
    pub(super) after: ExportedLast,
}

/// What a section is ordered by, of the last thing that was read. Less than every key to begin with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ExportedLast {
    pub(super) number: i64,
    pub(super) second: i64,
    pub(super) bytes: Vec<u8>,
}
