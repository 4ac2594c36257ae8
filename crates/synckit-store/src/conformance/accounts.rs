//! Accounts, invitations, vaults and mailed codes.

use crate::{
    AccountCreation, CredentialOf, NewMailCode, PasswordReset, RefreshUse, ResetStart, Store, VaultWrite,
    VersionedWrite,
};
use synckit_protocol::{
    limits,
    wire::{UnixSeconds, accounts::AppUsage},
};

use crate::conformance::fixture::{
    NOW, app_id, append_all, create_account, create_app, create_stream, new_account, open_session, password,
    ready_stream, secret, session_id, start, stream_of, upload, user_id,
};

async fn record_of(store: &dyn Store, n: u64) -> Vec<u8> {
    store
        .credential(CredentialOf::User(user_id(n)))
        .await
        .unwrap()
        .unwrap()
        .password
        .record
}

pub async fn a_replaced_vault_is_kept_where_asked(store: &dyn Store) {
    create_account(store, 1).await;
    for (version, keep_replaced) in [(1, false), (2, true), (3, false)] {
        let write = VaultWrite {
            keep_replaced,
            ..vault_write(1, version)
        };
        assert_eq!(
            store.write_vault(write).await.unwrap(),
            VersionedWrite::Written(version + 1)
        );
    }
    let kept = store.vault(user_id(1)).await.unwrap().unwrap();
    assert_eq!(kept.earlier, [vault_write(1, 1).vault]);
}

fn vault_write(n: u64, expected_version: u64) -> VaultWrite {
    VaultWrite {
        user_id: user_id(n),
        vault: format!("vault after {expected_version}").into_bytes(),
        expected_version,
        keep_replaced: false,
        password: None,
        keep_session: None,
    }
}

async fn mail_code(store: &dyn Store, account: u64, code: u64, expires_at: UnixSeconds) {
    let code = NewMailCode {
        user_id: user_id(account),
        email: format!("{account}@example.org"),
        code: secret(code),
        expires_at,
        now: NOW,
    };
    assert!(store.put_mail_code(code).await.unwrap());
}

/// Resets the password of an account whose vault has a version.
async fn reset(store: &dyn Store, code: u64, expected_version: u64, now: UnixSeconds) -> Option<VersionedWrite> {
    let reset = PasswordReset {
        code: secret(code),
        password: password(code, format!("record of {code}").as_bytes()),
        vault: format!("vault of {code}").into_bytes(),
        expected_version,
        now,
    };
    store.reset_password(reset).await.unwrap()
}

pub async fn a_created_account_is_found_by_address_and_by_id(store: &dyn Store) {
    create_account(store, 1).await;
    create_account(store, 2).await;
    for of in [CredentialOf::Email("2@example.org"), CredentialOf::User(user_id(2))] {
        let credential = store.credential(of).await.unwrap().unwrap();
        assert_eq!(credential.user_id, user_id(2));
        assert_eq!(credential.email, "2@example.org");
        assert_eq!(credential.password, password(2, b"record 2"));
        assert!(!credential.stale);
    }
    for unknown in ["0@example.org", "11@example.org", "3@example.org", ""] {
        let found = store.credential(CredentialOf::Email(unknown)).await.unwrap();
        assert!(found.is_none(), "{unknown}");
    }
    let vault = store.vault(user_id(2)).await.unwrap().unwrap();
    assert_eq!(
        (vault.vault.as_slice(), vault.version, vault.earlier.len()),
        (&b"vault 2"[..], 1, 0)
    );
}

pub async fn accounts_are_listed_in_order_of_creation(store: &dyn Store) {
    for n in [3, 1, 2] {
        create_account(store, n).await;
    }
    let accounts = store.accounts().await.unwrap();
    assert_eq!(
        accounts.iter().map(|account| account.user_id).collect::<Vec<_>>(),
        [3, 1, 2].map(user_id)
    );
    assert_eq!(accounts[0].email, "3@example.org");
    assert_eq!((accounts[0].created_at, accounts[0].email_verified_at), (NOW, None));
}

pub async fn an_unknown_account_has_nothing(store: &dyn Store) {
    create_account(store, 1).await;
    assert!(
        store
            .credential(CredentialOf::Email("2@example.org"))
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        store
            .credential(CredentialOf::User(user_id(2)))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.vault(user_id(2)).await.unwrap(), None);
    assert_eq!(
        store.write_vault(vault_write(2, 0)).await.unwrap(),
        VersionedWrite::Conflict(0)
    );
    assert!(store.sessions(user_id(2), NOW).await.unwrap().is_empty());
}

pub async fn an_account_is_shown_with_what_it_keeps_in_each_app(store: &dyn Store) {
    let stream = ready_stream(store, 1).await;
    create_stream(store, 2).await;
    append_all(store, stream, start(stream), 1, 1, &[3, 4]).await;
    upload(store, stream, 1, 1).await;
    open_session(store, stream_of(2, 1), 2).await;
    let found = store.account(user_id(1)).await.unwrap().unwrap();
    assert_eq!(found.account, store.accounts().await.unwrap()[0]);
    let usage = |n: u64, change_count, stored_bytes, devices| AppUsage {
        app_id: app_id(n),
        app_name: format!("app {n}"),
        change_count,
        stored_bytes,
        devices,
    };
    assert_eq!(found.apps, [usage(1, 7, 200 + 1001, 1), usage(2, 0, 0, 0)]);
    assert_eq!(store.account(user_id(2)).await.unwrap().unwrap().apps, []);
    assert_eq!(store.account(user_id(3)).await.unwrap(), None);
}

pub async fn a_repeated_creation_changes_nothing(store: &dyn Store) {
    store.create_invite(secret(7), NOW).await.unwrap();
    let mut account = new_account(1);
    account.invite = Some(secret(7));
    assert_eq!(
        store.create_account(account.clone()).await.unwrap(),
        AccountCreation::Created
    );
    account.password = password(9, b"another record");
    assert_eq!(store.create_account(account).await.unwrap(), AccountCreation::Repeated);
    assert_eq!(record_of(store, 1).await, b"record 1");
    assert_eq!(store.accounts().await.unwrap().len(), 1);
}

pub async fn a_taken_address_leaves_the_invitation_open(store: &dyn Store) {
    create_account(store, 1).await;
    store.create_invite(secret(7), NOW).await.unwrap();
    let mut account = new_account(2);
    account.email = "1@example.org".into();
    account.invite = Some(secret(7));
    assert_eq!(
        store.create_account(account).await.unwrap(),
        AccountCreation::EmailTaken
    );
    assert!(store.invite_is_open(secret(7)).await.unwrap());
    assert_eq!(store.accounts().await.unwrap().len(), 1);
    assert_eq!(record_of(store, 1).await, b"record 1");
}

pub async fn an_invitation_is_good_for_one_account(store: &dyn Store) {
    store.create_invite(secret(7), NOW).await.unwrap();
    assert!(store.invite_is_open(secret(7)).await.unwrap());
    let invited = |n| {
        let mut account = new_account(n);
        account.invite = Some(secret(7));
        account
    };
    assert_eq!(
        store.create_account(invited(1)).await.unwrap(),
        AccountCreation::Created
    );
    assert!(!store.invite_is_open(secret(7)).await.unwrap());
    assert_eq!(
        store.create_account(invited(2)).await.unwrap(),
        AccountCreation::InviteInvalid
    );
    assert_eq!(store.accounts().await.unwrap().len(), 1);
}

pub async fn an_unknown_invitation_is_refused_first(store: &dyn Store) {
    create_account(store, 1).await;
    assert!(!store.invite_is_open(secret(7)).await.unwrap());
    for email in ["1@example.org", "2@example.org"] {
        let mut account = new_account(2);
        account.email = email.into();
        account.invite = Some(secret(7));
        assert_eq!(
            store.create_account(account).await.unwrap(),
            AccountCreation::InviteInvalid
        );
    }
}

pub async fn a_vault_is_replaced_only_at_its_version(store: &dyn Store) {
    create_account(store, 1).await;
    assert_eq!(
        store.write_vault(vault_write(1, 1)).await.unwrap(),
        VersionedWrite::Written(2)
    );
    for stale in [0, 1, 3] {
        assert_eq!(
            store.write_vault(vault_write(1, stale)).await.unwrap(),
            VersionedWrite::Conflict(2)
        );
    }
    let vault = store.vault(user_id(1)).await.unwrap().unwrap();
    assert_eq!(
        (vault.vault.as_slice(), vault.version, vault.earlier.len()),
        (&b"vault after 1"[..], 2, 0)
    );
}

pub async fn a_new_vault_alone_keeps_record_and_sessions(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    store.write_vault(vault_write(1, 1)).await.unwrap();
    assert_eq!(record_of(store, 1).await, b"record 1");
    assert!(store.session(session_id(1), NOW).await.unwrap().is_some());
}

pub async fn a_new_record_ends_every_session_but_one(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let other_account = create_stream(store, 2).await;
    let other_app = stream_of(2, 1);
    for (session, stream) in [(1, stream), (2, stream), (3, other_app), (4, other_account)] {
        open_session(store, stream, session).await;
    }
    let write = VaultWrite {
        password: Some(password(9, b"new record")),
        keep_session: Some(session_id(2)),
        ..vault_write(1, 1)
    };
    assert_eq!(
        store
            .write_vault(VaultWrite {
                expected_version: 9,
                ..write.clone()
            })
            .await
            .unwrap(),
        VersionedWrite::Conflict(1)
    );
    assert_eq!(store.sessions(user_id(1), NOW).await.unwrap().len(), 3);

    store.write_vault(write).await.unwrap();
    let credential = store.credential(CredentialOf::User(user_id(1))).await.unwrap();
    assert_eq!(credential.unwrap().password, password(9, b"new record"));
    let left: Vec<_> = store
        .sessions(user_id(1), NOW)
        .await
        .unwrap()
        .iter()
        .map(|session| session.id)
        .collect();
    assert_eq!(left, [session_id(2)]);
    assert_eq!(store.sessions(user_id(2), NOW).await.unwrap().len(), 1);
}

pub async fn a_new_record_replaces_the_refresh_secret(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    assert!(matches!(
        store.advance_refresh(session_id(1), 1, NOW).await.unwrap(),
        RefreshUse::Next { counter: 2, .. }
    ));
    let write = VaultWrite {
        user_id: user_id(1),
        vault: b"new vault".to_vec(),
        expected_version: 1,
        password: Some(password(9, b"new record")),
        keep_session: Some(session_id(1)),
        keep_replaced: false,
    };
    assert_eq!(store.write_vault(write).await.unwrap(), VersionedWrite::Written(2));
    let counter = store
        .session(session_id(1), NOW)
        .await
        .unwrap()
        .unwrap()
        .refresh_counter;
    assert!(matches!(
        store.advance_refresh(session_id(1), counter, NOW).await.unwrap(),
        RefreshUse::Next { .. }
    ));
    assert_eq!(
        store.advance_refresh(session_id(1), 2, NOW).await.unwrap(),
        RefreshUse::Ended,
        "a copy of the secret before shows, and ends the session"
    );
}

pub async fn a_mailed_code_has_an_end(store: &dyn Store) {
    create_account(store, 1).await;
    mail_code(store, 1, 7, NOW + 60).await;
    let start = async |now| store.start_reset(secret(7), now).await.unwrap();
    let expected = ResetStart {
        user_id: user_id(1),
        vault_version: 1,
    };
    assert_eq!(start(NOW + 59).await, Some(expected));
    assert_eq!(start(NOW + 60).await, None);
    assert_eq!(reset(store, 7, 1, NOW + 60).await, None);
    assert_eq!(record_of(store, 1).await, b"record 1");
}

/// It would be valid for too long. It keeps the account from no other one, either.
pub async fn a_code_of_a_clock_that_was_ahead_is_not_valid(store: &dyn Store) {
    create_account(store, 1).await;
    let end = NOW + limits::RESET_CODE_SECONDS;
    for code in 1..=u64::from(limits::RESET_CODES_MAX) {
        mail_code(store, 1, code, end + code).await;
    }
    assert_eq!(store.start_reset(secret(1), NOW).await.unwrap(), None);
    assert_eq!(reset(store, 1, 1, NOW).await, None);
    mail_code(store, 1, 9, end).await;
    assert!(store.start_reset(secret(9), NOW).await.unwrap().is_some());
    // By then a clock that is right could have made it.
    assert!(store.start_reset(secret(1), NOW + 1).await.unwrap().is_some());
    assert_eq!(reset(store, 1, 1, NOW + 1).await, Some(VersionedWrite::Written(2)));
}

/// So a stranger who requests codes ends none that the owner received.
pub async fn a_newer_code_ends_no_older_one(store: &dyn Store) {
    create_account(store, 1).await;
    create_account(store, 2).await;
    let max = u64::from(limits::RESET_CODES_MAX);
    for code in 1..=max {
        mail_code(store, 1, code, NOW + 60).await;
    }
    let further = NewMailCode {
        user_id: user_id(1),
        email: "1@example.org".to_owned(),
        code: secret(99),
        expires_at: NOW + 120,
        now: NOW + 59,
    };
    assert!(!store.put_mail_code(further.clone()).await.unwrap(), "one too many");
    assert!(store.start_reset(secret(99), NOW + 59).await.unwrap().is_none());
    mail_code(store, 2, 50, NOW + 60).await;
    for code in 1..=max {
        assert!(
            store.start_reset(secret(code), NOW + 59).await.unwrap().is_some(),
            "{code}"
        );
    }
    // Expired codes do not count.
    let later = NewMailCode {
        now: NOW + 60,
        ..further
    };
    assert!(store.put_mail_code(later).await.unwrap());
    assert!(store.start_reset(secret(99), NOW + 60).await.unwrap().is_some());
}

pub async fn a_reset_uses_every_code_up(store: &dyn Store) {
    create_account(store, 1).await;
    create_account(store, 2).await;
    mail_code(store, 1, 6, NOW + 60).await;
    mail_code(store, 1, 7, NOW + 60).await;
    mail_code(store, 2, 8, NOW + 60).await;
    assert_eq!(reset(store, 6, 1, NOW).await, Some(VersionedWrite::Written(2)));
    assert!(store.start_reset(secret(7), NOW).await.unwrap().is_none());
    assert_eq!(reset(store, 7, 2, NOW).await, None);
    assert!(
        store.start_reset(secret(8), NOW).await.unwrap().is_some(),
        "another account"
    );
}

pub async fn a_reset_code_allows_few_starts(store: &dyn Store) {
    create_account(store, 1).await;
    for code in [7, 8] {
        mail_code(store, 1, code, NOW + 60).await;
        for _ in 0..limits::RESET_STARTS_MAX {
            assert!(store.start_reset(secret(code), NOW).await.unwrap().is_some());
        }
        assert!(store.start_reset(secret(code), NOW).await.unwrap().is_none());
    }
    // The reset that the last start began can be finished.
    assert_eq!(reset(store, 8, 1, NOW).await, Some(VersionedWrite::Written(2)));
}

pub async fn a_reset_confirms_the_address(store: &dyn Store) {
    create_account(store, 1).await;
    for (code, version, now) in [(7, 1, NOW + 1), (8, 2, NOW + 2)] {
        mail_code(store, 1, code, NOW + 60).await;
        let written = reset(store, code, version, now).await;
        assert_eq!(written, Some(VersionedWrite::Written(version + 1)));
        assert_eq!(store.accounts().await.unwrap()[0].email_verified_at, Some(NOW + 1));
    }
}

pub async fn a_reset_starts_a_new_generation(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    store.write_vault(vault_write(1, 1)).await.unwrap();
    mail_code(store, 1, 7, NOW + 60).await;
    // Another vault than the one that the reset began with. Nothing changes, and the code stays valid.
    assert_eq!(reset(store, 7, 1, NOW).await, Some(VersionedWrite::Conflict(2)));
    assert_eq!(store.sessions(user_id(1), NOW).await.unwrap().len(), 1);
    assert_eq!(reset(store, 7, 2, NOW).await, Some(VersionedWrite::Written(3)));
    let vault = store.vault(user_id(1)).await.unwrap().unwrap();
    assert_eq!((vault.vault.as_slice(), vault.version), (&b"vault of 7"[..], 3));
    assert_eq!(vault.earlier, [b"vault after 1"]);
    assert_eq!(record_of(store, 1).await, b"record of 7");
    assert!(store.sessions(user_id(1), NOW).await.unwrap().is_empty());
}

pub async fn a_reset_code_is_used_up(store: &dyn Store) {
    create_app(store, 1).await;
    create_account(store, 1).await;
    mail_code(store, 1, 7, NOW + 60).await;
    assert_eq!(reset(store, 7, 1, NOW).await, Some(VersionedWrite::Written(2)));
    assert_eq!(reset(store, 7, 2, NOW).await, None);
    assert_eq!(store.vault(user_id(1)).await.unwrap().unwrap().version, 2);
}

pub async fn ten_earlier_generations_are_kept(store: &dyn Store) {
    create_account(store, 1).await;
    for code in 1..=12 {
        mail_code(store, 1, code, NOW + 60).await;
        let written = reset(store, code, code, NOW).await;
        assert_eq!(written, Some(VersionedWrite::Written(code + 1)));
    }
    let vault = store.vault(user_id(1)).await.unwrap().unwrap();
    assert_eq!(vault.vault, b"vault of 12");
    let expected: Vec<_> = (2..=11).map(|code| format!("vault of {code}").into_bytes()).collect();
    assert_eq!(vault.earlier, expected);
}
