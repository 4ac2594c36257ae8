//! An app that follows the four rules of the guide, on one device, while its user edits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use synckit_client::{ChangeEntry, ChangeOp, Cursor, DeviceId, SyncKitClient};

use crate::{
    interference::{Fate, Interference},
    world::{World, change},
};

/// How the app treats a pulled change of a row that waits in its outbox.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// The fourth rule: skip the change.
    Wins,
    /// The other three rules alone allow it: apply the change.
    IsOverwritten,
}

/// The app's database.
#[derive(Default)]
struct Database {
    rows: BTreeMap<String, Value>,
    /// The rows that the user changed, to be pushed as they are then.
    outbox: BTreeMap<String, Value>,
    cursor: Cursor,
}

impl Database {
    fn edit(&mut self, row: &str, value: Value) {
        self.rows.insert(row.to_owned(), value.clone());
        self.outbox.insert(row.to_owned(), value);
    }

    /// The second rule: remove pushed changes, keep newer ones.
    fn pushed(&mut self, sent: &BTreeMap<String, Value>, cursor: Cursor) {
        self.outbox.retain(|row, value| sent.get(row) != Some(value));
        self.cursor = cursor;
    }

    fn apply(&mut self, changes: Vec<ChangeEntry>, cursor: Cursor, waiting: Waiting) {
        for change in changes {
            let waits = self.outbox.contains_key(&change.row_id);
            if waits && waiting == Waiting::Wins {
                continue;
            }
            let value = change.data.unwrap_or_default();
            if waits {
                self.outbox.insert(change.row_id.clone(), value.clone());
            }
            self.rows.insert(change.row_id, value);
        }
        self.cursor = cursor;
    }
}

async fn push(client: &SyncKitClient, device: DeviceId, database: &Mutex<Database>) {
    let sent = database.lock().unwrap().outbox.clone();
    let entry = |(row, value): (&String, &Value)| ChangeEntry {
        op: ChangeOp::Update,
        data: Some(value.clone()),
        ..change("notes", row)
    };
    let cursor = client.push(device, sent.iter().map(entry).collect()).await.unwrap();
    database.lock().unwrap().pushed(&sent, cursor);
}

/// The row on both devices, after the user changed it again while its first version was pushed.
async fn edited_while_pushed(waiting: Waiting) -> (Value, Value) {
    let world = World::start().await;
    let user = world.user().await;
    let (_, device) = world.first_device(&user).await;
    let database = Arc::new(Mutex::new(Database::default()));
    database.lock().unwrap().edit("1", json!("first"));
    let editing = Arc::clone(&database);
    let once = Mutex::new(true);
    let client = world.resumed_over(
        &user,
        Interference::new(move |request| {
            if request.uri().path() == "/api/sync/push" && std::mem::take(&mut *once.lock().unwrap()) {
                editing.lock().unwrap().edit("1", json!("second"));
            }
            Fate::Delivered
        }),
    );
    push(&client, device, &database).await;
    let cursor = database.lock().unwrap().cursor;
    let (changes, cursor, _) = client.pull(device, cursor).await.unwrap();
    assert_eq!(changes.len(), 1, "the own change comes back");
    database.lock().unwrap().apply(changes, cursor, waiting);
    push(&client, device, &database).await;

    let (phone, phone_device) = world.next_device(&user, "phone").await;
    let (changes, _, _) = phone.pull(phone_device, Cursor::START).await.unwrap();
    let mut other = Database::default();
    other.apply(changes, Cursor::START, waiting);
    let row = database.lock().unwrap().rows["1"].clone();
    (row, other.rows["1"].clone())
}

#[tokio::test]
async fn edit_made_during_a_push_survives_its_echo() {
    let kept = edited_while_pushed(Waiting::Wins).await;
    assert_eq!(kept, (json!("second"), json!("second")));
    // Without the fourth rule, the edit is gone everywhere.
    let lost = edited_while_pushed(Waiting::IsOverwritten).await;
    assert_eq!(lost, (json!("first"), json!("first")));
}
