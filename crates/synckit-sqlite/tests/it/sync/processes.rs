//! Two processes that sync one file: here, two databases of one process.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use synckit_doctest::{World, run};
use synckit_sqlite::SyncedDatabase;

use super::device::Device;

const SCHEMA: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
/// A sync of one row has not more steps.
const STEPS: u32 = 14;

/// So many steps of a sync, which may go on later.
struct Steps<'a, F> {
    sync: Pin<&'a mut F>,
    left: u32,
}

impl<F: Future> Future for Steps<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.sync.as_mut().poll(context).map(Some)
    }
}

async fn other(world: &World, device: &Device) -> SyncedDatabase {
    let (client, registered) = world.device("laptop").await.unwrap();
    SyncedDatabase::open(&device.path, client, registered.id).await.unwrap()
}

/// One process waits somewhere, the other one dies somewhere, and the app deletes what was just made.
#[test]
fn batch_of_another_process_is_not_merged_with_itself() {
    run(async |world| {
        let laptop = Device::start(&world, "laptop", SCHEMA, ["notes"]).await;
        let phone = Device::start(&world, "phone", SCHEMA, ["notes"]).await;
        let other = other(&world, &laptop).await;
        for waits in 0..STEPS {
            for dies in 0..STEPS {
                laptop.run("INSERT INTO notes VALUES (1, 'short')");
                let mut waiting = pin!(other.sync());
                let mut is_done = Steps {
                    sync: waiting.as_mut(),
                    left: waits,
                }
                .await
                .is_some();
                let mut dying = Box::pin(laptop.db.sync());
                Steps {
                    sync: dying.as_mut(),
                    left: dies,
                }
                .await;
                drop(dying);
                laptop.run("DELETE FROM notes");
                while !is_done {
                    is_done = Steps {
                        sync: waiting.as_mut(),
                        left: STEPS,
                    }
                    .await
                    .transpose()?
                    .is_some();
                }
                laptop.sync().await;
                phone.sync().await;
                assert_eq!(
                    laptop.ask("SELECT * FROM notes"),
                    Vec::<String>::new(),
                    "{waits} {dies}"
                );
                assert_eq!(phone.ask("SELECT * FROM notes"), Vec::<String>::new(), "{waits} {dies}");
            }
        }
        Ok(())
    });
}
