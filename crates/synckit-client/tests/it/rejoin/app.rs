//! The app of `SyncKitClient::rejoin`'s documentation: it keeps the newest version of every row.

use std::collections::BTreeMap;

use serde_json::json;
use synckit_client::{
    ChangeEntry, ChangeOp, Cursor, DeviceId, Error, RejoinEvidence, Rejoined, SyncKitClient, Timestamp,
};

use crate::world::{User, World, change};

/// The last change of every row, deletions too, as an app with a database keeps them.
pub(super) type Rows = BTreeMap<String, ChangeEntry>;

/// The app of `SyncKitClient::rejoin`'s documentation, on one device.
pub(super) struct App {
    pub(super) client: SyncKitClient,
    pub(super) id: DeviceId,
    pub(super) rows: Rows,
    pending: Vec<ChangeEntry>,
    pub(super) cursor: Cursor,
    pub(super) is_rejoining: bool,
}

impl App {
    pub(super) fn new((client, id): (SyncKitClient, DeviceId)) -> Self {
        Self {
            client,
            id,
            rows: Rows::new(),
            pending: Vec::new(),
            cursor: Cursor::START,
            is_rejoining: false,
        }
    }

    pub(super) fn merge(&mut self, changes: Vec<ChangeEntry>) {
        merge(&mut self.rows, changes);
    }

    pub(super) fn edit(&mut self, row: &str, time: i64) {
        self.note(ChangeEntry {
            op: ChangeOp::Update,
            data: Some(json!({ "at": time })),
            timestamp: Timestamp::from_micros(time),
            ..change("notes", row)
        });
    }

    pub(super) fn delete(&mut self, row: &str, time: i64) {
        self.note(ChangeEntry {
            op: ChangeOp::Delete,
            data: None,
            timestamp: Timestamp::from_micros(time),
            ..change("notes", row)
        });
    }

    pub(super) fn note(&mut self, edit: ChangeEntry) {
        self.pending.push(edit.clone());
        self.merge(vec![edit]);
    }

    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        self.pull().await?;
        if self.is_rejoining {
            self.push_all_rows().await?;
            self.is_rejoining = false;
            self.pending.clear();
        }
        self.client.push(self.id, std::mem::take(&mut self.pending)).await?;
        Ok(())
    }

    pub(super) async fn pull(&mut self) -> Result<(), Error> {
        loop {
            let (changes, cursor, has_more) = self.client.pull(self.id, self.cursor).await?;
            self.merge(changes);
            self.cursor = cursor;
            if !has_more {
                return Ok(());
            }
        }
    }

    pub(super) async fn push_all_rows(&mut self) -> Result<(), Error> {
        let mut rows: Vec<String> = self.rows.keys().cloned().collect();
        loop {
            let changes = rows.iter().map(|row| self.rows[row].clone()).collect();
            match self.client.push_at(self.id, self.cursor, None, changes).await {
                Ok(cursor) => {
                    self.cursor = cursor;
                    return Ok(());
                }
                Err(failed) => {
                    rows.drain(..failed.accepted);
                    self.cursor = failed.cursor;
                    let Error::Behind { .. } = failed.source else {
                        return Err(failed.source);
                    };
                    self.pull().await?;
                }
            }
        }
    }

    /// What the last sync said.
    pub(super) async fn evidence(&mut self) -> RejoinEvidence {
        let error = self.sync().await.unwrap_err();
        assert!(error.is_tampering(), "{error:?}");
        error.rejoin_evidence().unwrap()
    }

    pub(super) async fn rejoin(&mut self, evidence: &RejoinEvidence) -> Rejoined {
        let rejoined = self.client.rejoin(evidence, self.cursor).await.unwrap();
        assert!(rejoined.cursor.seq() <= self.cursor.seq());
        self.cursor = rejoined.cursor;
        self.is_rejoining |= rejoined.push_all_rows;
        rejoined
    }
}

pub(super) fn merge(rows: &mut Rows, changes: Vec<ChangeEntry>) {
    for change in changes {
        match rows.get(&change.row_id) {
            Some(held) if held.timestamp > change.timestamp => {}
            _ => drop(rows.insert(change.row_id.clone(), change)),
        }
    }
}

/// The rows that exist, without their authors and operations.
pub(super) fn shown(rows: &Rows) -> BTreeMap<&str, (i64, bool)> {
    rows.iter()
        .map(|(row, change)| {
            (
                row.as_str(),
                (change.timestamp.as_micros(), change.op != ChangeOp::Delete),
            )
        })
        .collect()
}

/// Everybody syncs until nobody has anything to say, and has what anybody had.
pub(super) async fn converge(world: &World, user: &User, apps: &mut [&mut App], expected: &Rows) {
    for _ in 0..2 {
        for app in apps.iter_mut() {
            app.sync().await.unwrap();
        }
    }
    for app in apps.iter() {
        assert_eq!(shown(&app.rows), shown(expected));
    }
    let mut fresh = App::new(world.next_device(user, "fresh").await);
    fresh.sync().await.unwrap();
    assert_eq!(shown(&fresh.rows), shown(expected));
}

pub(super) fn union(apps: &[&App]) -> Rows {
    let mut all = Rows::new();
    for app in apps {
        merge(&mut all, app.rows.values().cloned().collect());
    }
    all
}
