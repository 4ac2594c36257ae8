//! A notes app on the command line: every device holds every note, and the server can read none.
//!
//! ```text
//! export SYNCKIT_URL=http://127.0.0.1:8080 SYNCKIT_API_KEY=… NOTES_DIR=laptop
//! cargo run --example notes -- join me@example.com          # asks for the password, once; --new creates the account
//! cargo run --example notes -- add "Buy milk"
//! NOTES_DIR=phone cargo run --example notes -- join me@example.com
//! NOTES_DIR=phone cargo run --example notes -- list
//! ```
//!
//! The app keeps three things in its folder: the notes, the changes that are not pushed yet, and the cursor. Session and
//! key are in a private file beside them, so that two folders can play two devices; an app would use the keychain.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use synckit_client::{ChangeEntry, ChangeOp, Cursor, Error, FileStore, SyncKitClient, SyncKitConfig, Timestamp};

/// What the app keeps on disk.
#[derive(Default, Serialize, Deserialize)]
struct Notebook {
    notes: BTreeMap<String, String>,
    /// Notes that were added or changed (`Some`) or removed (`None`) since the last push.
    pending: BTreeMap<String, Option<String>>,
    cursor: Cursor,
}

impl Notebook {
    fn load(path: &Path) -> anyhow::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("notes.json is damaged"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        // Notes, pending changes and cursor change together, or not at all.
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(fs::rename(new, path)?)
    }

    fn apply(&mut self, change: &ChangeEntry) {
        // What waits to be pushed is newer for this user, and will be later in the log. The change would undo it.
        if self.pending.contains_key(&change.row_id) {
            return;
        }
        let text = change.data.as_ref().and_then(|data| data["text"].as_str());
        match (change.op, text) {
            (ChangeOp::Insert | ChangeOp::Update, Some(text)) => {
                self.notes.insert(change.row_id.clone(), text.to_owned());
            }
            _ => {
                self.notes.remove(&change.row_id);
            }
        }
    }

    fn pending_changes(&self) -> Vec<ChangeEntry> {
        let change = |(id, text): (&String, &Option<String>)| ChangeEntry {
            table: "notes".to_owned(),
            op: if text.is_some() {
                ChangeOp::Update
            } else {
                ChangeOp::Delete
            },
            row_id: id.clone(),
            timestamp: Timestamp::from(std::time::SystemTime::now()),
            data: text.as_ref().map(|text| serde_json::json!({ "text": text })),
        };
        self.pending.iter().map(change).collect()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = PathBuf::from(env::var("NOTES_DIR").unwrap_or_else(|_| "notes".to_owned()));
    fs::create_dir_all(&directory)?;
    let path = directory.join("notes.json");
    let mut notebook = Notebook::load(&path)?;
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: env::var("SYNCKIT_URL").context("set SYNCKIT_URL")?,
        api_key: env::var("SYNCKIT_API_KEY").context("set SYNCKIT_API_KEY")?,
    })
    .credential_store(FileStore::new(directory.join("credentials.json")))
    .build();

    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["join", email] => return join(&client, email, false).await,
        ["join", "--new", email] => return join(&client, email, true).await,
        ["add", text] => {
            let id = SyncKitClient::new_batch_id().to_string();
            notebook.notes.insert(id.clone(), (*text).to_owned());
            notebook.pending.insert(id, Some((*text).to_owned()));
        }
        ["remove", id] => {
            if notebook.notes.remove(*id).is_none() {
                bail!("there is no note {id}");
            }
            notebook.pending.insert((*id).to_owned(), None);
        }
        ["list"] => {}
        _ => bail!("usage: notes join [--new] EMAIL | add TEXT | remove ID | list"),
    }
    // What the user did is safe before the network is asked.
    notebook.save(&path)?;
    match sync(&client, &mut notebook, &path).await {
        Ok(()) => {}
        Err(error) if matches!(error.downcast_ref(), Some(Error::Network(_))) => {
            eprintln!("offline: {} changes wait", notebook.pending.len());
        }
        Err(error) => return Err(error),
    }
    for (id, text) in &notebook.notes {
        println!("{id}  {text}");
    }
    Ok(())
}

/// Signs in on this device, and sets up encryption as the product page shows it.
async fn join(client: &SyncKitClient, email: &str, new: bool) -> anyhow::Result<()> {
    eprint!("password: ");
    let password = io::stdin().lock().lines().next().context("no password")??;
    if new {
        client.create_account(email, &password).await?;
    }
    client.authenticate(email, &password).await?;
    if client.has_server_key().await? {
        client.setup_encryption_existing(&password).await?;
    } else {
        client.setup_encryption_new(&password).await?;
    }
    println!("joined");
    Ok(())
}

/// Pull, apply, push: the whole of sync.
async fn sync(client: &SyncKitClient, notebook: &mut Notebook, path: &Path) -> anyhow::Result<()> {
    client
        .try_load_key_from_keychain()
        .context("join first: notes join EMAIL")?;
    client.resume_at(notebook.cursor);
    let name = env::var("NOTES_DIR").unwrap_or_else(|_| "notes".to_owned());
    let device = client.register_device(&name, "linux").await?;
    loop {
        let (changes, cursor, has_more) = client.pull(device.id, notebook.cursor).await?;
        changes.iter().for_each(|change| notebook.apply(change));
        notebook.cursor = cursor;
        notebook.save(path)?;
        if !has_more {
            break;
        }
    }
    notebook.cursor = client.push(device.id, notebook.pending_changes()).await?;
    // Nobody edits while this program syncs. An app removes only what was pushed, and keeps what was changed since.
    notebook.pending.clear();
    notebook.save(path)
}
