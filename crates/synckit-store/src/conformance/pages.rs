//! Reading the log.

use crate::{PageRead, PageRequest, Store, StreamId};
use synckit_protocol::{
    Cursor, Head, Position,
    limits::{BATCH_SEALED_BYTES_MAX, PAGE_BYTES_DEFAULT},
    wire::UnixSeconds,
};

use crate::conformance::fixture::{
    NO_BYTE_LIMIT, NOW, append, append_all, batch, device_id, end_of, page, page_request, ready_stream, register,
    start, stored, stream_of,
};

async fn read_from(store: &dyn Store, stream: StreamId, position: Position) -> PageRead {
    store
        .page(page_request(stream, 1, Cursor::at(position), NO_BYTE_LIMIT))
        .await
        .unwrap()
}

async fn last_seen(store: &dyn Store, stream: StreamId) -> UnixSeconds {
    // Whatever a store does later, it has done before it finishes later work.
    store.check().await.unwrap();
    store.devices(stream).await.unwrap()[0].last_seen_at
}

pub async fn an_empty_log_is_an_empty_page(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    assert_eq!(
        page(store, stream, 1, Cursor::START, NO_BYTE_LIMIT).await,
        (vec![], Cursor::START, false)
    );
}

pub async fn a_page_is_what_was_appended(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    let first = append_all(store, stream, start(stream), 1, 1, &[1, 2]).await;
    let second = append_all(store, stream, end_of(&first[1]), 2, 10, &[3]).await;
    let expected: Vec<_> = first.iter().chain(&second).map(stored).collect();
    let end = Cursor::at(end_of(&second[0]));
    assert_eq!(
        page(store, stream, 2, Cursor::START, NO_BYTE_LIMIT).await,
        (expected.clone(), end, false)
    );
    assert_eq!(expected[2].digest(), second[0].digest);
}

pub async fn a_page_ends_before_entry_501(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[300, 200, 1, 499, 2]).await;
    let mut cursor = Cursor::START;
    for (expected, expected_more) in [(0..2, true), (2..4, true), (4..5, false)] {
        let expected: Vec<_> = batches[expected].iter().map(stored).collect();
        let (found, next, has_more) = page(store, stream, 1, cursor, NO_BYTE_LIMIT).await;
        assert_eq!((found, has_more), (expected, expected_more));
        cursor = next;
    }
}

pub async fn a_page_ends_before_its_byte_limit(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[1; 5]).await;
    for (max_bytes, expected) in [(199, 1), (200, 2), (299, 2), (499, 4), (500, 5)] {
        let (found, cursor, has_more) = page(store, stream, 1, Cursor::START, max_bytes).await;
        assert_eq!(
            (found.len(), has_more),
            (expected, expected < 5),
            "with {max_bytes} bytes"
        );
        assert_eq!(cursor, Cursor::at(end_of(&batches[expected - 1])));
    }
}

pub async fn a_batch_beyond_the_byte_limit_is_a_page_of_its_own(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    append_all(store, stream, start(stream), 1, 1, &[1; 3]).await;
    let mut cursor = Cursor::START;
    for expected_more in [true, true, false] {
        let (found, next, has_more) = page(store, stream, 1, cursor, 0).await;
        assert_eq!((found.len(), has_more), (1, expected_more));
        cursor = next;
    }
}

pub async fn a_batch_of_the_largest_size_comes_back_unchanged(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let largest = batch(stream, start(stream), 1, 1, 500, BATCH_SEALED_BYTES_MAX);
    let end = append(store, &largest).await;
    let small = batch(stream, end, 1, 2, 1, 1);
    append(store, &small).await;
    let (found, cursor, _) = page(store, stream, 1, Cursor::START, PAGE_BYTES_DEFAULT).await;
    assert_eq!(found, [stored(&largest)]);
    assert_eq!(
        page(store, stream, 1, cursor, PAGE_BYTES_DEFAULT).await.0,
        [stored(&small)]
    );
}

pub async fn pages_follow_one_another_without_gap_or_repetition(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let counts: Vec<u32> = (0..60).map(|n| n * 7 % 90 + 1).collect();
    let batches = append_all(store, stream, start(stream), 1, 1, &counts).await;
    let expected: Vec<_> = batches.iter().map(stored).collect();
    for max_bytes in [1, 350, 1000, NO_BYTE_LIMIT] {
        let mut all = Vec::new();
        let mut cursor = Cursor::START;
        loop {
            let (found, next, has_more) = page(store, stream, 1, cursor, max_bytes).await;
            all.extend(found);
            cursor = next;
            if !has_more {
                break;
            }
        }
        assert_eq!(all, expected, "with {max_bytes} bytes");
    }
}

pub async fn a_cursor_at_the_end_is_an_empty_page(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2]).await;
    let end = Cursor::at(end_of(&batches[0]));
    assert_eq!(page(store, stream, 1, end, NO_BYTE_LIMIT).await, (vec![], end, false));
}

pub async fn a_cursor_inside_a_batch_has_diverged(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[3, 3]).await;
    let latest = end_of(&batches[1]);
    for seq in [1, 2, 4, 5] {
        for head in [latest.head, end_of(&batches[0]).head, start(stream).head] {
            assert_eq!(
                read_from(store, stream, Position { seq, head }).await,
                PageRead::Diverged { latest }
            );
        }
    }
}

pub async fn a_cursor_with_another_head_has_diverged(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[3, 3]).await;
    let latest = end_of(&batches[1]);
    for (seq, head) in [
        (3, latest.head),
        (3, start(stream).head),
        (6, end_of(&batches[0]).head),
        (6, Head::from_bytes([0; 32])),
    ] {
        assert_eq!(
            read_from(store, stream, Position { seq, head }).await,
            PageRead::Diverged { latest }
        );
    }
}

pub async fn a_cursor_beyond_the_end_has_diverged(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let beginning = start(stream);
    let from = Position { seq: 1, ..beginning };
    assert_eq!(
        read_from(store, stream, from).await,
        PageRead::Diverged { latest: beginning }
    );
    let batches = append_all(store, stream, beginning, 1, 1, &[3]).await;
    let latest = end_of(&batches[0]);
    for seq in [4, 1000, u64::MAX] {
        assert_eq!(
            read_from(store, stream, Position { seq, ..latest }).await,
            PageRead::Diverged { latest }
        );
    }
}

pub async fn only_a_device_of_the_stream_reads(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let other = ready_stream(store, 2).await;
    append_all(store, other, start(other), 2, 1, &[1]).await;
    for (stream, device) in [(stream, 2), (other, 1), (stream_of(1, 2), 1), (stream_of(9, 9), 1)] {
        let request = page_request(stream, device, Cursor::START, NO_BYTE_LIMIT);
        assert_eq!(store.page(request).await.unwrap(), PageRead::DeviceNotFound);
    }
}

pub async fn a_revoked_device_does_not_read(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    let request = page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT);
    assert_eq!(store.page(request).await.unwrap(), PageRead::DeviceRevoked);
}

pub async fn reading_is_seen_to_about_an_hour(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    for (read_at, expected) in [(NOW + 3600, NOW), (NOW + 3601, NOW + 3601), (NOW + 7000, NOW + 3601)] {
        let request = PageRequest {
            now: read_at,
            ..page_request(stream, 1, Cursor::START, NO_BYTE_LIMIT)
        };
        store.page(request).await.unwrap();
        assert_eq!(last_seen(store, stream).await, expected);
    }
}

pub async fn appending_is_seen_to_about_an_hour(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let mut parent = start(stream);
    for (n, appended_at, expected) in [(1, NOW + 3600, NOW), (2, NOW + 3601, NOW + 3601), (3, NOW, NOW + 3601)] {
        let mut batch = batch(stream, parent, 1, n, 1, 9);
        batch.now = appended_at;
        parent = append(store, &batch).await;
        assert_eq!(last_seen(store, stream).await, expected);
    }
}
