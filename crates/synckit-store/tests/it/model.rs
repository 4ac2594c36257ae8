//! Random interleavings of log operations, each answer compared with a model that is a list of batches.

use proptest::{prelude::*, test_runner::TestCaseResult};
use synckit_protocol::{Cursor, Head, Position, limits::PAGE_ENTRIES_MAX};
use synckit_store::{
    Append, ChainPage, ChainRead, NewBatch, PageRead, SqliteOptions, SqliteStore, Store, StoredBatch, StreamId,
    StreamStatus,
};

use crate::fixture::{
    NOW, batch, device_id, end_of, new_device, page_request, ready_stream, registered, start, stored,
};

const STREAM: u64 = 1;
const DEVICES: u64 = 3;

/// A place to name as parent or cursor.
#[derive(Debug, Clone)]
enum Place {
    /// The end.
    End,
    /// After the batch at this index, counted around.
    Boundary(usize),
    /// A sequence with the head of a boundary, which is most likely off the chain.
    Anywhere(u64, usize),
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        place: Place,
        device: u64,
        count: u32,
        size: usize,
    },
    Repeat {
        index: usize,
        place: Place,
    },
    Page {
        place: Place,
        device: u64,
        max_bytes: u32,
    },
    Chain {
        place: Place,
        limit: u32,
    },
    Revoke {
        device: u64,
    },
    RegisterAgain {
        device: u64,
    },
    Status,
    Reopen,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        6 => Just(Place::End),
        3 => any::<usize>().prop_map(Place::Boundary),
        1 => (0..2000_u64, any::<usize>()).prop_map(|(seq, index)| Place::Anywhere(seq, index)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let device = 1..=DEVICES;
    prop_oneof![
        10 => (place(), device.clone(), 1..=500_u32, 1..3000_usize)
            .prop_map(|(place, device, count, size)| Step::Append { place, device, count, size }),
        3 => (any::<usize>(), place()).prop_map(|(index, place)| Step::Repeat { index, place }),
        5 => (place(), device.clone(), 0..20_000_u32)
            .prop_map(|(place, device, max_bytes)| Step::Page { place, device, max_bytes }),
        3 => (place(), 1..20_u32).prop_map(|(place, limit)| Step::Chain { place, limit }),
        1 => device.clone().prop_map(|device| Step::Revoke { device }),
        1 => device.prop_map(|device| Step::RegisterAgain { device }),
        2 => Just(Step::Status),
        1 => Just(Step::Reopen),
    ]
}

/// What the store should hold.
struct Model {
    stream: StreamId,
    batches: Vec<NewBatch>,
    /// The id of each device by its name, and whether it is revoked.
    devices: Vec<(u64, bool)>,
    next_id: u64,
}

impl Model {
    fn latest(&self) -> Position {
        self.batches.last().map_or(start(self.stream), end_of)
    }

    /// Every position that is on the chain.
    fn boundaries(&self) -> Vec<Position> {
        std::iter::once(start(self.stream))
            .chain(self.batches.iter().map(end_of))
            .collect()
    }

    fn resolve(&self, place: &Place) -> Position {
        let boundaries = self.boundaries();
        match place {
            Place::End => self.latest(),
            Place::Boundary(index) => boundaries[index % boundaries.len()],
            Place::Anywhere(seq, index) => Position {
                seq: *seq,
                head: boundaries[index % boundaries.len()].head,
            },
        }
    }

    /// The batches after a position, or `None` if it is not on the chain.
    fn after(&self, position: Position) -> Option<&[NewBatch]> {
        let index = self.boundaries().iter().position(|boundary| *boundary == position)?;
        Some(&self.batches[index..])
    }

    fn chain_page(&self, after: &[NewBatch], limit: usize) -> ChainPage {
        ChainPage {
            digests: after.iter().take(limit).map(|batch| batch.digest).collect(),
            latest: self.latest(),
            has_more: after.len() > limit,
        }
    }

    fn append(&mut self, batch: &NewBatch) -> Append {
        let id = batch.digest.batch_id;
        if let Some(first) = self.batches.iter().find(|known| known.digest.batch_id == id) {
            return Append::Stored {
                first_seq: first.parent.seq + 1,
                position: end_of(first),
                repeated: true,
            };
        }
        let is_active = |(id, revoked): &(u64, bool)| device_id(*id) == batch.digest.device_id && !revoked;
        if !self.devices.iter().any(is_active) {
            return Append::DeviceRevoked;
        }
        let latest = self.latest();
        match self.after(batch.parent) {
            None => Append::Diverged { latest },
            Some([]) => {
                self.batches.push(batch.clone());
                Append::Stored {
                    first_seq: batch.parent.seq + 1,
                    position: end_of(batch),
                    repeated: false,
                }
            }
            Some(after) => Append::Behind(self.chain_page(after, 500)),
        }
    }

    fn page(&self, position: Position, max_bytes: u32) -> PageRead {
        // A cursor at sequence 0 is the start, whatever its head.
        let position = if position.seq == 0 {
            start(self.stream)
        } else {
            position
        };
        let Some(after) = self.after(position) else {
            return PageRead::Diverged { latest: self.latest() };
        };
        let mut batches: Vec<StoredBatch> = Vec::new();
        let (mut entries, mut bytes) = (0, 0);
        for batch in after {
            entries += batch.digest.count;
            bytes += batch.sealed.len();
            let is_full = entries > PAGE_ENTRIES_MAX || bytes > usize::try_from(max_bytes).unwrap();
            if is_full && !batches.is_empty() {
                break;
            }
            batches.push(stored(batch));
        }
        let cursor = batches
            .len()
            .checked_sub(1)
            .map_or(position, |last| end_of(&after[last]));
        PageRead::Page {
            has_more: batches.len() < after.len(),
            batches,
            cursor: Cursor::at(cursor),
        }
    }
}

struct Run {
    directory: tempfile::TempDir,
    store: SqliteStore,
    model: Model,
}

impl Run {
    async fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("store.db"), SqliteOptions::default()).unwrap();
        let stream = ready_stream(&store, STREAM).await;
        for device in 2..=DEVICES {
            registered(&store, new_device(stream, device)).await;
        }
        let model = Model {
            stream,
            batches: Vec::new(),
            devices: (1..=DEVICES).map(|device| (device, false)).collect(),
            next_id: 1000,
        };
        Self {
            directory,
            store,
            model,
        }
    }

    fn device(&mut self, name: u64) -> &mut (u64, bool) {
        &mut self.model.devices[usize::try_from(name - 1).unwrap()]
    }

    async fn append(&mut self, batch: NewBatch) -> TestCaseResult {
        let expected = self.model.append(&batch);
        prop_assert_eq!(self.store.append_batch(batch).await.unwrap(), expected);
        Ok(())
    }

    async fn step(&mut self, step: Step) -> TestCaseResult {
        let stream = self.model.stream;
        match step {
            Step::Append {
                place,
                device,
                count,
                size,
            } => {
                self.model.next_id += 1;
                let (id, parent) = (self.device(device).0, self.model.resolve(&place));
                self.append(batch(stream, parent, id, self.model.next_id, count, size))
                    .await?;
            }
            Step::Repeat { index, place } => {
                let Some(known) = self.model.batches.get(index % self.model.batches.len().max(1)) else {
                    return Ok(());
                };
                let again = NewBatch {
                    parent: self.model.resolve(&place),
                    ..known.clone()
                };
                self.append(again).await?;
            }
            Step::Page {
                place,
                device,
                max_bytes,
            } => {
                let (id, revoked) = *self.device(device);
                let position = self.model.resolve(&place);
                let expected = if revoked {
                    PageRead::DeviceRevoked
                } else {
                    self.model.page(position, max_bytes)
                };
                let request = page_request(stream, id, Cursor::at(position), max_bytes);
                prop_assert_eq!(self.store.page(request).await.unwrap(), expected);
            }
            Step::Chain { place, limit } => {
                let from = Cursor::at(self.model.resolve(&place));
                let expected = match self.model.after(from.position().unwrap_or(start(stream))) {
                    Some(after) => ChainRead::Page(self.model.chain_page(after, usize::try_from(limit).unwrap())),
                    None => ChainRead::Diverged {
                        latest: self.model.latest(),
                    },
                };
                prop_assert_eq!(self.store.chain(stream, from, limit).await.unwrap(), expected);
            }
            Step::Revoke { device } => {
                let device = self.device(device);
                device.1 = true;
                let id = device_id(device.0);
                prop_assert!(self.store.revoke_device(stream, id, NOW).await.unwrap().is_some());
            }
            Step::RegisterAgain { device } => {
                self.model.next_id += 1;
                let new_id = self.model.next_id;
                let known = self.device(device);
                *known = if known.1 { (new_id, false) } else { *known };
                let expected = device_id(known.0);
                let mut again = new_device(stream, device);
                again.new_id = device_id(new_id);
                prop_assert_eq!(registered(&self.store, again).await.id, expected);
            }
            Step::Status => {
                let expected = StreamStatus {
                    snapshot: None,
                    latest: self.model.latest(),
                    stored_bytes: self.model.batches.iter().map(|batch| batch.sealed.len() as u64).sum(),
                    devices: u32::try_from(self.model.devices.iter().filter(|(_, revoked)| !revoked).count()).unwrap(),
                };
                prop_assert_eq!(self.store.status(stream).await.unwrap(), expected);
            }
            Step::Reopen => {
                self.store.close().await.unwrap();
                let path = self.directory.path().join("store.db");
                self.store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_interleavings_answer_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::begin().await;
            for step in steps {
                run.step(step).await?;
            }
            TestCaseResult::Ok(())
        })?;
    }
}

#[test]
fn the_model_tells_a_foreign_head() {
    let stream = crate::fixture::stream_of(1, 1);
    let model = Model {
        stream,
        batches: vec![batch(stream, start(stream), 1, 1, 2, 10)],
        devices: vec![(1, false)],
        next_id: 1,
    };
    let foreign = Position {
        seq: 2,
        head: Head::from_bytes([0; 32]),
    };
    assert!(model.after(foreign).is_none());
    assert!(model.after(model.latest()).is_some_and(<[_]>::is_empty));
}
