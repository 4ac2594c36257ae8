//! Another address for an account.

use synckit_protocol::UserId;

use super::fixture::{NOW, create_account, new_account, secret, user_id};
use crate::{AddressChange, CredentialOf, NewMailCode, Store};

async fn change(store: &dyn Store, n: u64, from: &str, to: &str) -> AddressChange {
    let changed = store.change_address(user_id(n), from.to_owned(), to.to_owned(), NOW + 5);
    changed.await.unwrap()
}

async fn owner(store: &dyn Store, email: &str) -> Option<UserId> {
    let credential = store.credential(CredentialOf::Email(email)).await.unwrap();
    credential.map(|credential| credential.user_id)
}

pub async fn a_new_address_signs_in_and_the_old_one_does_not(store: &dyn Store) {
    create_account(store, 1).await;
    let code = NewMailCode {
        user_id: user_id(1),
        code: secret(5),
        expires_at: NOW + 3600,
        now: NOW,
    };
    assert!(store.put_mail_code(code).await.unwrap());
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
