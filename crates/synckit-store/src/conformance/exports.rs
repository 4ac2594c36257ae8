//! Everything that is held of an account.

use crate::{ExportCursor, Store};
use synckit_protocol::{
    ByteString,
    wire::export::{ExportLine, ExportedAccount, ExportedBatch},
};

use super::{
    fixture::{
        KEY, NOW, app_id, append_all, create_account, create_app, device_id, open_session, ready_stream, start,
        stream_of, user_id,
    },
    whole_account::create_whole_account,
};

/// The kind of a line, from its text.
fn kind(line: &ExportLine) -> String {
    serde_json::to_value(line).unwrap()["kind"].as_str().unwrap().to_owned()
}

/// Reads an export in pages of so many bytes.
async fn export(store: &dyn Store, n: u64, max_bytes: usize) -> (Vec<ExportLine>, usize) {
    let (mut lines, mut after, mut pages): (_, Option<ExportCursor>, _) = (Vec::new(), None, 0);
    loop {
        let page = store.export(user_id(n), after, max_bytes).await.unwrap().unwrap();
        lines.extend(page.lines);
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (lines, pages);
        }
    }
}

pub async fn an_export_holds_everything_in_order(store: &dyn Store) {
    create_app(store, 1).await;
    create_app(store, 2).await;
    create_whole_account(store, 1, 1).await;
    open_session(store, stream_of(2, 1), 9).await;
    create_whole_account(store, 1, 2).await;
    let (lines, _) = export(store, 1, usize::MAX).await;
    let kinds: Vec<_> = lines.iter().map(kind).collect();
    assert_eq!(
        kinds,
        [
            "account",
            "earlier_vault",
            "mail_code",
            "familiar_place",
            "team_member",
            "invite", //
            "stream",
            "session",
            "session",
            "device",
            "device",
            "envelope",
            "batch",
            "batch",
            "batch_answer",
            "batch_answer",
            "snapshot",
            "snapshot_part",
            "snapshot_part",
            "snapshot",
            "snapshot_part",
            "upload",
            "blob",
            "blob", //
            "stream",
            "session",
        ]
    );
    let account = ExportedAccount {
        user_id: user_id(1),
        email: "1@example.org".into(),
        created_at: NOW,
        email_verified_at: Some(NOW),
        vault: ByteString(b"second vault 1".to_vec()),
        vault_version: 2,
        delete_at: None,
    };
    assert_eq!(lines[0], ExportLine::Account(account));
    let text = serde_json::to_string(&lines).unwrap();
    assert!(!text.contains("2@example.org"), "nothing of anybody else");
}

pub async fn an_export_comes_in_pages_however_small(store: &dyn Store) {
    create_app(store, 1).await;
    create_whole_account(store, 1, 1).await;
    let (whole, pages) = export(store, 1, usize::MAX).await;
    assert_eq!(pages, 1);
    for max_bytes in [0, 1, 300, 1000, 3000] {
        let (lines, pages) = export(store, 1, max_bytes).await;
        assert_eq!(lines, whole);
        assert!(pages > 1, "{max_bytes} bytes: {pages} pages");
    }
}

pub async fn exported_batches_are_what_was_appended(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[3, 500]).await;
    let (lines, _) = export(store, 1, 100).await;
    let found: Vec<_> = lines
        .into_iter()
        .filter_map(|line| match line {
            ExportLine::Batch(batch) => Some(batch),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = batches
        .iter()
        .map(|batch| ExportedBatch {
            app_id: app_id(1),
            batch_id: batch.digest.batch_id,
            device_id: device_id(1),
            key_id: KEY,
            first_seq: batch.parent.seq + 1,
            count: batch.digest.count,
            head: batch.parent.advance(&batch.digest).unwrap().head,
            sealed: batch.sealed.to_vec().into(),
        })
        .collect();
    assert_eq!(found, expected);
}

pub async fn an_export_ends_when_its_account_does(store: &dyn Store) {
    assert_eq!(store.export(user_id(1), None, 1000).await.unwrap(), None);
    create_app(store, 1).await;
    create_account(store, 1).await;
    open_session(store, stream_of(1, 1), 1).await;
    let first = store.export(user_id(1), None, 1).await.unwrap().unwrap();
    assert!(first.next.is_some());
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    assert_eq!(store.export(user_id(1), first.next, 1).await.unwrap(), None);
}
