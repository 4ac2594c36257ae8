//! Accounts on a server that sends mail: they wait for the confirmation of their address.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::Method;
use synckit_client::{Cursor, Error, MemoryStore, ProblemCode, Registration, SyncKitClient, transport::Transport};

use crate::{
    interference::{Fate, Interference},
    world::{World, change, pull_all},
};

const EMAIL: &str = "new@example.com";
const PASSWORD: &str = "correct horse";
const CONFIRM: &str = "Confirm your address";

fn installation(world: &World, transport: Option<Arc<dyn Transport>>) -> SyncKitClient {
    let builder = SyncKitClient::builder(world.config()).credential_store(MemoryStore::default());
    match transport {
        Some(transport) => builder.transport(transport).build(),
        None => builder.build(),
    }
}

#[tokio::test]
async fn confirmed_account_is_ready_to_use() {
    let (world, mail) = World::start_with_mail().await;
    let laptop = installation(&world, None);
    assert_eq!(
        laptop.create_account(EMAIL, PASSWORD).await.unwrap(),
        Registration::Pending
    );
    let early = laptop.authenticate(EMAIL, PASSWORD).await.unwrap_err();
    assert!(matches!(early, Error::AddressNotConfirmed), "{early:?}");
    // To clients that did not register the address, it looks like one without an account.
    for email in [EMAIL, "nobody@example.com"] {
        let stranger = installation(&world, None)
            .authenticate(email, PASSWORD)
            .await
            .unwrap_err();
        assert!(matches!(stranger, Error::InvalidCredentials), "{email}: {stranger:?}");
    }

    let code = mail.code(EMAIL, CONFIRM, 1).await.unwrap();
    let wrong = laptop.confirm_account(EMAIL, PASSWORD, "a guess").await.unwrap_err();
    assert_eq!(wrong.problem_code(), Some(ProblemCode::MailCodeInvalid), "{wrong:?}");
    let wrong = laptop.confirm_account(EMAIL, "a guess", &code).await.unwrap_err();
    assert!(matches!(wrong, Error::InvalidCredentials), "{wrong:?}");
    let (user_id, _) = laptop.confirm_account(EMAIL, PASSWORD, &code).await.unwrap();
    laptop.setup_encryption_new(PASSWORD).await.unwrap();
    let id = laptop.register_device("laptop", "linux").await.unwrap().id;
    laptop.push(id, vec![change("notes", "1")]).await.unwrap();

    let phone = installation(&world, None);
    assert_eq!(phone.authenticate(EMAIL, PASSWORD).await.unwrap().0, user_id);
    phone.setup_encryption_existing(PASSWORD).await.unwrap();
    let id = phone.register_device("phone", "ios").await.unwrap().id;
    assert_eq!(pull_all(&phone, id, Cursor::START).await.unwrap().0.len(), 1);
    // From now on a wrong password is only that.
    let wrong = laptop.authenticate(EMAIL, "a guess").await.unwrap_err();
    assert!(matches!(wrong, Error::InvalidCredentials), "{wrong:?}");
}

/// The code is used up, and the account exists: the SDK signs in without the code.
#[tokio::test]
async fn lost_answer_of_a_confirmation_signs_in() {
    let (world, mail) = World::start_with_mail().await;
    let finishes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&finishes);
    let lossy = Interference::new(move |request| {
        let is_finish = request.method() == Method::POST && request.uri().path() == "/api/sync/auth";
        if is_finish && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            Fate::AnswerLost
        } else {
            Fate::Delivered
        }
    });
    let client = installation(&world, Some(lossy));
    client.create_account(EMAIL, PASSWORD).await.unwrap();
    let code = mail.code(EMAIL, CONFIRM, 1).await.unwrap();
    let (user_id, _) = client.confirm_account(EMAIL, PASSWORD, &code).await.unwrap();
    assert_eq!(client.user_id(), Some(user_id));
    assert!(finishes.load(Ordering::SeqCst) > 1, "no answer was lost");
    client.setup_encryption_new(PASSWORD).await.unwrap();
}
