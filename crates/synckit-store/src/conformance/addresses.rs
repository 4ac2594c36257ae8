//! Another address for an account.

use synckit_protocol::UserId;

use super::fixture::{NOW, create_account, create_stream, new_account, register, secret, session_id, user_id};
use crate::{AddressChange, CredentialOf, EndSessions, NewAddress, NewMailCode, Store};

async fn change(store: &dyn Store, n: u64, from: &str, to: &str) -> AddressChange {
    change_in(store, (n, None), from, to).await
}

async fn change_in(store: &dyn Store, (n, session): (u64, Option<u64>), from: &str, to: &str) -> AddressChange {
    let change = NewAddress {
        user_id: user_id(n),
        session_id: session.map(session_id),
        from: from.to_owned(),
        to: to.to_owned(),
        now: NOW + 5,
    };
    store.change_address(change).await.unwrap()
}

async fn owner(store: &dyn Store, email: &str) -> Option<UserId> {
    let credential = store.credential(CredentialOf::Email(email)).await.unwrap();
    credential.map(|credential| credential.user_id)
}

pub async fn a_new_address_signs_in_and_the_old_one_does_not(store: &dyn Store) {
    create_account(store, 1).await;
    let code = NewMailCode {
        user_id: user_id(1),
        email: "1@example.org".to_owned(),
        code: secret(5),
        expires_at: NOW + 3600,
        now: NOW,
    };
    assert!(store.put_mail_code(code.clone()).await.unwrap());
    let changed = change(store, 1, "1@example.org", "new@example.org").await;
    assert_eq!(changed, AddressChange::Changed);
    assert_eq!(owner(store, "new@example.org").await, Some(user_id(1)));
    assert_eq!(owner(store, "1@example.org").await, None);
    let account = store.account(user_id(1)).await.unwrap().unwrap().account;
    assert_eq!(
        (account.email.as_str(), account.email_verified_at),
        ("new@example.org", Some(NOW + 5))
    );
    // A code in the old mailbox resets nothing.
    assert!(store.start_reset(secret(5), NOW).await.unwrap().is_none());
    // Nor does one that was asked for before, and is stored only now.
    let late = NewMailCode {
        code: secret(6),
        ..code
    };
    assert!(!store.put_mail_code(late).await.unwrap());
    assert!(store.start_reset(secret(6), NOW).await.unwrap().is_none());
    // The old address is free.
    let mut next = new_account(2);
    next.email = "1@example.org".to_owned();
    store.create_account(next).await.unwrap();
    assert_eq!(owner(store, "1@example.org").await, Some(user_id(2)));
}

pub async fn an_address_of_another_account_is_not_taken(store: &dyn Store) {
    create_account(store, 1).await;
    create_account(store, 2).await;
    let changed = change(store, 1, "1@example.org", "2@example.org").await;
    assert_eq!(changed, AddressChange::Taken);
    assert_eq!(owner(store, "1@example.org").await, Some(user_id(1)));
    assert_eq!(owner(store, "2@example.org").await, Some(user_id(2)));
}

pub async fn an_outdated_change_of_address_changes_nothing(store: &dyn Store) {
    create_account(store, 1).await;
    for (n, from) in [(1, "0@example.org"), (2, "1@example.org"), (2, "2@example.org")] {
        let changed = change(store, n, from, "new@example.org").await;
        assert_eq!(changed, AddressChange::Outdated);
    }
    assert_eq!(owner(store, "new@example.org").await, None);
    store.delete_account(user_id(1)).await.unwrap().unwrap();
    let changed = change(store, 1, "1@example.org", "new@example.org").await;
    assert_eq!(changed, AddressChange::Outdated);
}

pub async fn an_ended_session_changes_no_address(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    register(store, stream, 1).await;
    let changed = change_in(store, (1, Some(2)), "1@example.org", "new@example.org").await;
    assert_eq!(changed, AddressChange::Outdated, "unknown");
    let changed = change_in(store, (1, Some(1)), "1@example.org", "new@example.org").await;
    assert_eq!(changed, AddressChange::Changed);
    store.end_sessions(EndSessions::One(session_id(1))).await.unwrap();
    let changed = change_in(store, (1, Some(1)), "new@example.org", "other@example.org").await;
    assert_eq!(changed, AddressChange::Outdated);
    assert_eq!(owner(store, "other@example.org").await, None);
}
