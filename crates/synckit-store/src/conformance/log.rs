//! Appending, the chain, and the status.

use crate::{Append, ChainPage, ChainRead, NewBatch, NewEnvelope, Store, StoreError, StreamId, StreamStatus};
use futures_util::future::join_all;
use synckit_protocol::{BatchDigest, Cursor, Head, KeyId, Position, limits::CHAIN_PAGE_DIGESTS_MAX};

use crate::conformance::fixture::{
    NOW, append, append_all, batch, create_stream, device_id, end_of, new_envelope, read_all, ready_stream, register,
    set_up_encryption, start, stored, stream_of, upload,
};

async fn answer(store: &dyn Store, batch: &NewBatch) -> Append {
    store.append_batch(batch.clone()).await.unwrap()
}

async fn chain_page(store: &dyn Store, stream: StreamId, from: Cursor, limit: u32) -> ChainPage {
    match store.chain(stream, from, limit).await.unwrap() {
        ChainRead::Page(page) => page,
        other => panic!("no page but {other:?}"),
    }
}

fn digests(batches: &[NewBatch]) -> Vec<BatchDigest> {
    batches.iter().map(|batch| batch.digest).collect()
}

pub async fn batches_follow_one_another(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let first = batch(stream, start(stream), 1, 1, 3, 100);
    let middle = append(store, &first).await;
    let second = batch(stream, middle, 1, 2, 500, 1);
    let end = append(store, &second).await;
    assert_eq!((middle.seq, end.seq), (3, 503));
    assert_eq!(store.status(stream).await.unwrap().latest, end);
}

pub async fn a_repeated_append_returns_the_first_answer(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let first = batch(stream, start(stream), 1, 1, 3, 100);
    let middle = append(store, &first).await;
    let second = batch(stream, middle, 1, 2, 2, 100);
    let end = append(store, &second).await;
    let repeated = |first_seq, position| Append::Stored {
        first_seq,
        position,
        repeated: true,
    };
    // Sealed again on another parent, as a client does after `behind`.
    let sealed_again = batch(stream, end, 1, 1, 3, 200);
    assert_eq!(answer(store, &first).await, repeated(1, middle));
    assert_eq!(answer(store, &sealed_again).await, repeated(1, middle));
    assert_eq!(answer(store, &second).await, repeated(4, end));
    assert_eq!(read_all(store, stream, 1).await, [stored(&first), stored(&second)]);
}

pub async fn the_first_answer_comes_before_every_check(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    let first = batch(stream, start(stream), 1, 1, 3, 100);
    let end = append(store, &first).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    let other_key = NewEnvelope {
        key_id: KeyId::from_bytes([0xdd; 16]),
        head: Some(store.status(stream).await.unwrap().latest),
        ..new_envelope(stream, 1)
    };
    store.put_envelope(other_key).await.unwrap();
    let mut hopeless = first.clone();
    hopeless.parent.head = Head::from_bytes([9; 32]);
    let repeated = Append::Stored {
        first_seq: 1,
        position: end,
        repeated: true,
    };
    assert_eq!(answer(store, &hopeless).await, repeated);
}

pub async fn batch_ids_of_streams_are_apart(store: &dyn Store) {
    for n in [1, 2] {
        let stream = ready_stream(store, n).await;
        append(store, &batch(stream, start(stream), n, 77, 1, 100)).await;
    }
}

pub async fn an_append_checks_the_device_first(store: &dyn Store) {
    let unused = stream_of(8, 8);
    assert_eq!(
        answer(store, &batch(unused, start(unused), 1, 1, 1, 9)).await,
        Append::DeviceNotFound
    );

    let stream = create_stream(store, 1).await;
    let other = ready_stream(store, 2).await;
    assert_eq!(
        answer(store, &batch(stream, start(stream), 2, 1, 1, 9)).await,
        Append::DeviceNotFound
    );
    register(store, stream, 1).await;
    store.revoke_device(stream, device_id(1), NOW).await.unwrap();
    assert_eq!(
        answer(store, &batch(stream, start(other), 1, 1, 1, 9)).await,
        Append::DeviceRevoked
    );
}

pub async fn an_append_needs_the_current_key(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    let mut batch = batch(stream, start(stream), 1, 1, 1, 9);
    assert_eq!(answer(store, &batch).await, Append::NoEnvelope);
    set_up_encryption(store, stream).await;
    append(store, &batch).await;
    let next_key = NewEnvelope {
        key_id: KeyId::from_bytes([0xdd; 16]),
        head: Some(store.status(stream).await.unwrap().latest),
        ..new_envelope(stream, 1)
    };
    store.put_envelope(next_key).await.unwrap();
    batch.digest.batch_id = crate::conformance::fixture::batch_id(2);
    // The key is checked before the parent: a client that must fetch a new key need not read the chain first.
    assert_eq!(answer(store, &batch).await, Append::KeyMismatch);
}

pub async fn a_parent_on_the_chain_is_behind(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3, 4]).await;
    let latest = end_of(&batches[2]);
    for known in 0..3 {
        let late = batch(stream, batches[known].parent, 1, 99, 1, 9);
        let expected = ChainPage {
            digests: digests(&batches[known..]),
            latest,
            has_more: false,
        };
        assert_eq!(answer(store, &late).await, Append::Behind(expected));
    }
    assert_eq!(store.status(stream).await.unwrap().latest, latest);
}

pub async fn a_long_way_behind_comes_in_pages(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let most = usize::try_from(CHAIN_PAGE_DIGESTS_MAX).unwrap();
    let batches = append_all(store, stream, start(stream), 1, 1, &vec![1; most + 1]).await;
    let Append::Behind(page) = answer(store, &batch(stream, start(stream), 1, 9999, 1, 9)).await else {
        panic!("not behind")
    };
    assert_eq!(page.digests, digests(&batches[..most]));
    assert!(page.has_more);
    assert_eq!(page.latest, end_of(&batches[most]));
}

pub async fn a_parent_off_the_chain_has_diverged(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let other_start = start(stream_of(2, 2));
    let diverged = async |parent: Position| {
        let latest = store.status(stream).await.unwrap().latest;
        assert_eq!(
            answer(store, &batch(stream, parent, 1, 99, 1, 9)).await,
            Append::Diverged { latest }
        );
    };
    diverged(other_start).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3]).await;
    let middle = end_of(&batches[0]);
    let end = end_of(&batches[1]);
    let elsewhere = [
        other_start,
        Position { seq: 0, ..middle },
        Position { seq: 1, ..middle },
        Position { seq: 2, ..end },
        Position { seq: 3, ..middle },
        Position { seq: 5, ..middle },
        Position { seq: 6, ..end },
        Position { seq: u64::MAX, ..end },
    ];
    for parent in elsewhere {
        diverged(parent).await;
    }
    append(store, &batch(stream, end, 1, 3, 1, 9)).await;
}

pub async fn a_batch_without_entries_is_invalid(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let mut empty = batch(stream, start(stream), 1, 1, 0, 9);
    assert!(matches!(
        store.append_batch(empty.clone()).await,
        Err(StoreError::InvalidBatch)
    ));
    empty.digest.count = 1;
    append(store, &empty).await;
}

pub async fn of_concurrent_appends_to_one_parent_one_is_stored(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches: Vec<_> = (1..=20).map(|n| batch(stream, start(stream), 1, n, 5, 1000)).collect();
    let answers = join_all(batches.iter().map(|batch| answer(store, batch))).await;
    let stored_ones: Vec<_> = answers
        .iter()
        .zip(&batches)
        .filter(|(answer, _)| matches!(answer, Append::Stored { .. }))
        .collect();
    let [(_, winner)] = stored_ones[..] else {
        panic!("{} were stored", stored_ones.len())
    };
    let behind = Append::Behind(ChainPage {
        digests: vec![winner.digest],
        latest: end_of(winner),
        has_more: false,
    });
    assert_eq!(answers.iter().filter(|answer| **answer == behind).count(), 19);
    assert_eq!(read_all(store, stream, 1).await, [stored(winner)]);
}

pub async fn concurrent_streams_do_not_disturb_each_other(store: &dyn Store) {
    let mut streams = Vec::new();
    for n in 1..=10 {
        streams.push((n, ready_stream(store, n).await));
    }
    let counts = [1, 2, 3, 4, 5, 6, 7, 8];
    let appended = join_all(
        streams
            .iter()
            .map(|(n, stream)| append_all(store, *stream, start(*stream), *n, 1, &counts)),
    )
    .await;
    for ((n, stream), batches) in streams.into_iter().zip(appended) {
        let expected: Vec<_> = batches.iter().map(stored).collect();
        assert_eq!(read_all(store, stream, n).await, expected);
    }
}

pub async fn the_chain_is_read_in_pages(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[1, 2, 3, 4, 5]).await;
    let latest = end_of(&batches[4]);
    for (from, limit, expected, has_more) in [
        (0, 2, 0..2, true),
        (2, 2, 2..4, true),
        (4, 2, 4..5, false),
        (3, 2, 3..5, false),
        (0, 500, 0..5, false),
    ] {
        let from = Cursor::at(batches[from].parent);
        let expected = ChainPage {
            digests: digests(&batches[expected]),
            latest,
            has_more,
        };
        assert_eq!(chain_page(store, stream, from, limit).await, expected);
    }
    let at_the_end = chain_page(store, stream, Cursor::at(latest), 2).await;
    assert_eq!((at_the_end.digests.len(), at_the_end.has_more), (0, false));
}

pub async fn the_chain_hashes_to_the_head(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    let first = append_all(store, stream, start(stream), 1, 1, &[1, 200, 3]).await;
    append_all(store, stream, end_of(&first[2]), 2, 10, &[4, 500]).await;
    let page = chain_page(store, stream, Cursor::START, 500).await;
    let end = page
        .digests
        .iter()
        .try_fold(start(stream), |position, digest| position.advance(digest));
    assert_eq!(end, Some(page.latest));
}

pub async fn the_chain_is_not_read_from_a_foreign_position(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    let batches = append_all(store, stream, start(stream), 1, 1, &[2, 3]).await;
    let latest = end_of(&batches[1]);
    let foreign = Head::from_bytes([9; 32]);
    for (seq, head) in [
        (1, latest.head),
        (2, foreign),
        (5, foreign),
        (6, latest.head),
        (u64::MAX, foreign),
    ] {
        let from = Cursor::at(Position { seq, head });
        assert_eq!(
            store.chain(stream, from, 10).await.unwrap(),
            ChainRead::Diverged { latest }
        );
    }
}

pub async fn the_chain_of_an_unused_stream_is_empty(store: &dyn Store) {
    let stream = stream_of(1, 1);
    let latest = start(stream);
    let page = chain_page(store, stream, Cursor::START, 10).await;
    assert_eq!((page.digests.len(), page.latest, page.has_more), (0, latest, false));
    let from = Cursor::at(Position { seq: 3, ..latest });
    assert_eq!(
        store.chain(stream, from, 10).await.unwrap(),
        ChainRead::Diverged { latest }
    );
}

pub async fn heads_are_those_of_each_stream(store: &dyn Store) {
    let mut expected = Vec::new();
    for user in 1..=20 {
        let stream = ready_stream(store, user).await;
        let end = match user {
            1 => start(stream),
            _ => append(store, &batch(stream, start(stream), user, 1, 3, 100)).await,
        };
        expected.push((stream, end));
    }
    // One that was never used, and one twice.
    let mut asked: Vec<StreamId> = expected.iter().map(|(stream, _)| *stream).collect();
    asked.extend([stream_of(2, 1), expected[5].0]);
    let mut heads = store.heads(asked).await.unwrap();
    let in_order = |heads: &mut Vec<(StreamId, Position)>| {
        heads.sort_by_key(|(stream, _)| (stream.app_id, stream.user_id));
        heads.dedup();
    };
    in_order(&mut heads);
    in_order(&mut expected);
    assert_eq!(heads, expected);
    assert_eq!(store.heads(Vec::new()).await.unwrap(), []);
}

pub async fn the_status_adds_up(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    register(store, stream, 2).await;
    register(store, stream, 3).await;
    store.revoke_device(stream, device_id(2), NOW).await.unwrap();
    let batches = append_all(store, stream, start(stream), 1, 1, &[1, 2]).await;
    let end = append(store, &batch(stream, end_of(&batches[1]), 1, 3, 5, 4321)).await;
    upload(store, stream, 1, 9).await;
    let expected = StreamStatus {
        snapshot: None,
        latest: end,
        stored_bytes: 100 + 100 + 4321 + 1009,
        devices: 2,
    };
    assert_eq!(store.status(stream).await.unwrap(), expected);
}

pub async fn the_status_of_an_unused_stream_is_its_start(store: &dyn Store) {
    let stream = stream_of(1, 1);
    let expected = StreamStatus {
        snapshot: None,
        latest: start(stream),
        stored_bytes: 0,
        devices: 0,
    };
    assert_eq!(store.status(stream).await.unwrap(), expected);
}
