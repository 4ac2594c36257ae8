//! Accounts that wait for the confirmation of their address.

use synckit_protocol::{limits, wire::UnixSeconds};

use crate::{
    AcceptNewSeed, AccountCreation, Credential, CredentialOf, NewPendingAccount, Store,
    conformance::{
        fixture::{NOW, create_account, new_account, new_pending, secret, user_id},
        whole_account::retention,
    },
};

async fn put(store: &dyn Store, pending: NewPendingAccount) -> AccountCreation {
    store.put_pending_account(pending).await.unwrap()
}

/// Pending account `n` of address `address`.
fn pending_of(n: u64, address: u64) -> NewPendingAccount {
    let mut pending = new_pending(n);
    pending.account.email = new_account(address).email;
    pending
}

async fn found(store: &dyn Store, address: u64, code: u64, now: UnixSeconds) -> Option<Credential> {
    let email = new_account(address).email;
    let of = CredentialOf::Pending {
        email: &email,
        code: secret(code),
        now,
    };
    store.credential(of).await.unwrap()
}

async fn confirm(store: &dyn Store, n: u64, code: u64) -> bool {
    store.confirm_account(user_id(n), secret(code), NOW + 1).await.unwrap()
}

pub async fn a_pending_account_is_found_by_its_code_alone(store: &dyn Store) {
    assert_eq!(put(store, new_pending(1)).await, AccountCreation::Created);
    let credential = found(store, 1, 1, NOW).await.unwrap();
    assert_eq!(credential.user_id, user_id(1));
    assert_eq!(credential.password, new_account(1).password);
    assert!(found(store, 1, 2, NOW).await.is_none(), "another code");
    assert!(found(store, 2, 1, NOW).await.is_none(), "another address");

    for of in [CredentialOf::Email("1@example.org"), CredentialOf::User(user_id(1))] {
        assert!(store.credential(of).await.unwrap().is_none());
    }
    assert!(store.accounts().await.unwrap().is_empty());
    assert!(store.account(user_id(1)).await.unwrap().is_none());
    assert!(store.vault(user_id(1)).await.unwrap().is_none());
}

pub async fn a_confirmed_account_is_what_was_registered(store: &dyn Store) {
    put(store, new_pending(1)).await;
    assert!(!confirm(store, 1, 2).await, "another code");
    assert!(!confirm(store, 2, 1).await, "another account");
    assert!(confirm(store, 1, 1).await);
    let accounts = store.accounts().await.unwrap();
    assert_eq!(
        (
            accounts[0].user_id,
            accounts[0].created_at,
            accounts[0].email_verified_at
        ),
        (user_id(1), NOW, Some(NOW + 1))
    );
    let credential = store.credential(CredentialOf::Email("1@example.org")).await.unwrap();
    assert_eq!(credential.unwrap().password, new_account(1).password);
    let vault = store.vault(user_id(1)).await.unwrap().unwrap();
    assert_eq!((vault.vault, vault.version), (new_account(1).vault, 1));
    assert!(!confirm(store, 1, 1).await, "once");
    assert!(found(store, 1, 1, NOW).await.is_none());
}

/// So a stranger who registers an address ends no registration of its owner. Once one is confirmed, no other can be.
pub async fn registrations_of_an_address_are_independent(store: &dyn Store) {
    for n in 1..=3 {
        assert_eq!(put(store, pending_of(n, 1)).await, AccountCreation::Created);
    }
    assert_eq!(put(store, pending_of(1, 1)).await, AccountCreation::Repeated);
    for n in 1..=3 {
        assert_eq!(found(store, 1, n, NOW).await.unwrap().user_id, user_id(n));
    }
    assert!(!confirm(store, 1, 2).await && !confirm(store, 2, 1).await);
    assert!(confirm(store, 2, 2).await);
    assert!(!confirm(store, 1, 1).await && !confirm(store, 3, 3).await);
    // A repeat of an earlier registration remains one.
    for n in 1..=3 {
        assert_eq!(put(store, pending_of(n, 1)).await, AccountCreation::Repeated);
    }
    assert_eq!(store.accounts().await.unwrap().len(), 1);
}

pub async fn the_oldest_registration_of_an_address_goes_first(store: &dyn Store) {
    let max = u64::from(limits::PENDING_PER_ADDRESS_MAX);
    put(store, pending_of(100, 2)).await;
    for n in 1..=max + 1 {
        put(store, pending_of(n, 1)).await;
    }
    assert!(found(store, 1, 1, NOW).await.is_none());
    for n in 2..=max + 1 {
        assert!(found(store, 1, n, NOW).await.is_some(), "{n}");
    }
    assert!(found(store, 2, 100, NOW).await.is_some(), "another address");
}

pub async fn a_pending_account_of_a_clock_ahead_is_none(store: &dyn Store) {
    let mut ahead = new_pending(1);
    ahead.account.created_at = NOW + 2;
    put(store, ahead).await;
    assert!(found(store, 1, 1, NOW + 1).await.is_none());
    assert!(!confirm(store, 1, 1).await);
    assert!(found(store, 1, 1, NOW + 2).await.is_some());
}

pub async fn a_repeated_registration_keeps_its_code(store: &dyn Store) {
    put(store, new_pending(1)).await;
    let mut again = new_pending(1);
    again.code = secret(9);
    assert_eq!(put(store, again.clone()).await, AccountCreation::Repeated);
    assert!(found(store, 1, 9, NOW).await.is_none());
    assert!(confirm(store, 1, 1).await);
    assert_eq!(put(store, again).await, AccountCreation::Repeated, "also afterwards");
    assert!(found(store, 1, 9, NOW).await.is_none());
}

/// The row costs the same as that of a free address. Nobody was sent its code.
pub async fn a_taken_address_is_kept_and_never_confirmed(store: &dyn Store) {
    create_account(store, 1).await;
    assert_eq!(put(store, pending_of(2, 1)).await, AccountCreation::EmailTaken);
    assert!(found(store, 1, 2, NOW).await.is_some());
    assert!(!confirm(store, 2, 2).await);
    assert_eq!(store.accounts().await.unwrap().len(), 1);
}

pub async fn a_pending_account_uses_no_invitation_up(store: &dyn Store) {
    let invited = |n| {
        let mut pending = new_pending(n);
        pending.account.invite = Some(secret(7));
        pending
    };
    assert_eq!(put(store, invited(1)).await, AccountCreation::InviteInvalid);
    store.create_invite(secret(7), NOW).await.unwrap();
    assert_eq!(put(store, invited(1)).await, AccountCreation::Created);
    assert_eq!(put(store, invited(2)).await, AccountCreation::Created);
    assert!(store.invite_is_open(secret(7)).await.unwrap());
    assert!(confirm(store, 2, 2).await);
    assert!(!store.invite_is_open(secret(7)).await.unwrap());
    assert!(!confirm(store, 1, 1).await, "the invitation was for one account");
    assert_eq!(put(store, invited(3)).await, AccountCreation::InviteInvalid);
}

pub async fn a_pending_account_ends(store: &dyn Store) {
    for n in 1..=250 {
        put(
            store,
            NewPendingAccount {
                pending_max: 1000,
                ..new_pending(n)
            },
        )
        .await;
    }
    let mut later = new_pending(500);
    later.expires_at = NOW + 61;
    later.pending_max = 1000;
    put(store, later).await;
    assert!(found(store, 1, 1, NOW + 59).await.is_some());
    assert!(found(store, 1, 1, NOW + 60).await.is_none(), "before it is deleted");
    let confirmed = store.confirm_account(user_id(1), secret(1), NOW + 60).await.unwrap();
    assert!(!confirmed);

    let mut steps = 0;
    while store.retain(retention(NOW + 60)).await.unwrap() {
        steps += 1;
    }
    assert!(steps > 0, "in pieces");
    // A clock that is set back shows that the rows are gone, and not only their time.
    for n in 1..=250 {
        assert!(found(store, n, n, NOW).await.is_none());
    }
    assert!(found(store, 500, 500, NOW).await.is_some());
}

pub async fn too_many_pending_accounts_push_out_the_oldest(store: &dyn Store) {
    let few = |n| NewPendingAccount {
        pending_max: 3,
        ..new_pending(n)
    };
    for n in 1..=4 {
        put(store, few(n)).await;
    }
    // A repeated address is among the newest.
    put(store, few(5)).await;
    put(
        store,
        NewPendingAccount {
            pending_max: 3,
            ..pending_of(6, 3)
        },
    )
    .await;
    let mut left = Vec::new();
    for (address, code) in [(1, 1), (2, 2), (3, 3), (3, 6), (4, 4), (5, 5)] {
        if found(store, address, code, NOW).await.is_some() {
            left.push((address, code));
        }
    }
    assert_eq!(left, [(3, 6), (4, 4), (5, 5)]);
}

pub async fn a_pending_record_of_a_lost_seed_is_stale(store: &dyn Store) {
    store.claim_seed([1; 16], AcceptNewSeed::No).await.unwrap();
    put(store, new_pending(1)).await;
    assert!(!found(store, 1, 1, NOW).await.unwrap().stale);
    store.claim_seed([2; 16], AcceptNewSeed::Yes).await.unwrap();
    assert!(found(store, 1, 1, NOW).await.unwrap().stale);
}
