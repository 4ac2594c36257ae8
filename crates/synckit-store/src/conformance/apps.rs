//! The server's seed, apps and their keys.

use synckit_protocol::limits::REDIRECTS_MAX;

use crate::{
    AcceptNewSeed, AppProfile, AppWrite, CredentialOf, NewApp, RedirectWrite, SeedClaim, Store, StoreError, VaultWrite,
    VersionedWrite,
};

use crate::conformance::fixture::{NOW, app_id, create_account, create_app, key, new_key, password, user_id};

const SEED: [u8; 16] = [1; 16];
const OTHER_SEED: [u8; 16] = [2; 16];

async fn is_stale(store: &dyn Store, n: u64) -> bool {
    store
        .credential(CredentialOf::User(user_id(n)))
        .await
        .unwrap()
        .unwrap()
        .stale
}

pub async fn the_first_seed_is_bound(store: &dyn Store) {
    assert_eq!(store.seed_id().await.unwrap(), None);
    for accept in [AcceptNewSeed::No, AcceptNewSeed::No, AcceptNewSeed::Yes] {
        assert_eq!(store.claim_seed(SEED, accept).await.unwrap(), SeedClaim::Bound);
        assert_eq!(store.seed_id().await.unwrap(), Some(SEED));
    }
}

pub async fn another_seed_is_refused_and_changes_nothing(store: &dyn Store) {
    create_account(store, 1).await;
    store.claim_seed(SEED, AcceptNewSeed::No).await.unwrap();
    assert_eq!(
        store.claim_seed(OTHER_SEED, AcceptNewSeed::No).await.unwrap(),
        SeedClaim::OtherSeed
    );
    assert_eq!(
        store.claim_seed(SEED, AcceptNewSeed::No).await.unwrap(),
        SeedClaim::Bound
    );
    assert!(!is_stale(store, 1).await);
}

pub async fn an_accepted_seed_makes_every_record_stale(store: &dyn Store) {
    create_account(store, 1).await;
    create_account(store, 2).await;
    store.claim_seed(SEED, AcceptNewSeed::No).await.unwrap();
    let claim = store.claim_seed(OTHER_SEED, AcceptNewSeed::Yes).await.unwrap();
    assert_eq!(claim, SeedClaim::Rebound { stale_records: 2 });
    assert_eq!(
        store.claim_seed(OTHER_SEED, AcceptNewSeed::No).await.unwrap(),
        SeedClaim::Bound
    );
    assert!(is_stale(store, 1).await && is_stale(store, 2).await);

    let write = VaultWrite {
        user_id: user_id(1),
        vault: b"new vault".to_vec(),
        expected_version: 1,
        keep_replaced: false,
        password: Some(password(9, b"new record")),
        keep_session: None,
    };
    assert_eq!(store.write_vault(write).await.unwrap(), VersionedWrite::Written(2));
    create_account(store, 3).await;
    assert!(!is_stale(store, 1).await && is_stale(store, 2).await && !is_stale(store, 3).await);
}

/// A lost seed file was found: users who did not reset the password meanwhile sign in as before.
pub async fn an_earlier_seed_makes_its_records_valid_again(store: &dyn Store) {
    store.claim_seed(SEED, AcceptNewSeed::No).await.unwrap();
    create_account(store, 1).await;
    create_account(store, 2).await;
    store.claim_seed(OTHER_SEED, AcceptNewSeed::Yes).await.unwrap();
    let write = VaultWrite {
        user_id: user_id(2),
        vault: b"new vault".to_vec(),
        expected_version: 1,
        keep_replaced: false,
        password: Some(password(9, b"new record")),
        keep_session: None,
    };
    store.write_vault(write).await.unwrap();
    create_account(store, 3).await;

    let claim = store.claim_seed(SEED, AcceptNewSeed::Yes).await.unwrap();
    assert_eq!(claim, SeedClaim::Rebound { stale_records: 2 });
    assert!(!is_stale(store, 1).await && is_stale(store, 2).await && is_stale(store, 3).await);
    let claim = store.claim_seed(OTHER_SEED, AcceptNewSeed::Yes).await.unwrap();
    assert_eq!(claim, SeedClaim::Rebound { stale_records: 1 });
    assert!(is_stale(store, 1).await && !is_stale(store, 2).await && !is_stale(store, 3).await);
}

pub async fn a_store_in_order_passes_its_check(store: &dyn Store) {
    store.check().await.unwrap();
    store.check().await.unwrap();
}

pub async fn a_closed_store_takes_no_more_work(store: &dyn Store) {
    create_app(store, 1).await;
    store.close().await.unwrap();
    assert!(matches!(store.check().await, Err(StoreError::Busy)));
    assert!(matches!(store.apps(NOW).await, Err(StoreError::Busy)));
    store.close().await.unwrap();
}

pub async fn apps_are_listed_with_their_keys(store: &dyn Store) {
    create_app(store, 2).await;
    create_app(store, 1).await;
    assert!(store.rotate_api_key(app_id(2), new_key(22), NOW + 60).await.unwrap());
    let apps = store.apps(NOW).await.unwrap();
    assert_eq!(
        apps.iter().map(|app| app.id).collect::<Vec<_>>(),
        [app_id(2), app_id(1)]
    );
    assert_eq!((apps[0].name.as_str(), apps[0].created_at), ("app 2", NOW));
    let keys: Vec<_> = apps[0]
        .keys
        .iter()
        .map(|key| (key.text.as_str(), key.created_at, key.ends_at))
        .collect();
    assert_eq!(keys, [("key_22", NOW, None), ("key_2", NOW, Some(NOW + 60))]);
    assert_eq!(store.apps(NOW + 60).await.unwrap()[0].keys.len(), 1);
}

pub async fn a_key_finds_its_app(store: &dyn Store) {
    create_app(store, 1).await;
    create_app(store, 2).await;
    assert_eq!(store.app_of_key(key(2), NOW).await.unwrap(), Some(app_id(2)));
    assert_eq!(store.app_of_key(key(3), NOW).await.unwrap(), None);
}

pub async fn a_replaced_key_works_until_the_overlap_ends(store: &dyn Store) {
    create_app(store, 1).await;
    assert!(store.rotate_api_key(app_id(1), new_key(11), NOW + 60).await.unwrap());
    assert_eq!(store.app_of_key(key(1), NOW + 59).await.unwrap(), Some(app_id(1)));
    assert_eq!(store.app_of_key(key(1), NOW + 60).await.unwrap(), None);
    assert_eq!(store.app_of_key(key(11), NOW + 60).await.unwrap(), Some(app_id(1)));
}

pub async fn a_second_rotation_does_not_prolong_an_older_key(store: &dyn Store) {
    create_app(store, 1).await;
    assert!(store.rotate_api_key(app_id(1), new_key(11), NOW + 60).await.unwrap());
    assert!(store.rotate_api_key(app_id(1), new_key(12), NOW + 600).await.unwrap());
    assert_eq!(store.app_of_key(key(1), NOW + 60).await.unwrap(), None);
    assert_eq!(store.app_of_key(key(11), NOW + 599).await.unwrap(), Some(app_id(1)));
    assert!(store.rotate_api_key(app_id(1), new_key(13), NOW + 10).await.unwrap());
    assert_eq!(store.app_of_key(key(11), NOW + 10).await.unwrap(), None);
}

pub async fn a_key_of_an_unknown_app_is_not_added(store: &dyn Store) {
    assert!(!store.rotate_api_key(app_id(1), new_key(11), NOW).await.unwrap());
    assert_eq!(store.app_of_key(key(11), NOW).await.unwrap(), None);
}

pub async fn two_apps_never_have_the_same_name(store: &dyn Store) {
    create_app(store, 1).await;
    let second = |name: &str| NewApp {
        id: app_id(2),
        name: name.to_owned(),
        team: None,
        key: new_key(2),
    };
    assert_eq!(store.create_app(second("app 1")).await.unwrap(), AppWrite::NameTaken);
    assert_eq!(store.apps(NOW).await.unwrap().len(), 1);
    assert_eq!(store.app_of_key(key(2), NOW).await.unwrap(), None);
    for name in ["App 1", " app  1", "app\u{a0}1"] {
        assert_eq!(
            store.create_app(second(name)).await.unwrap(),
            AppWrite::NameTaken,
            "{name:?}"
        );
    }
    assert_eq!(store.create_app(second("App 2")).await.unwrap(), AppWrite::Written);
    let renamed = store.rename_app(app_id(2), "app 1".to_owned()).await.unwrap();
    assert_eq!(renamed, AppWrite::NameTaken);
    assert_eq!(store.apps(NOW).await.unwrap()[1].name, "App 2");
}

pub async fn a_renamed_app_keeps_its_keys(store: &dyn Store) {
    create_app(store, 1).await;
    for name in ["Notes", "Notes"] {
        let renamed = store.rename_app(app_id(1), name.to_owned()).await.unwrap();
        assert_eq!(renamed, AppWrite::Written);
    }
    let apps = store.apps(NOW).await.unwrap();
    assert_eq!((apps[0].name.as_str(), apps[0].keys.len()), ("Notes", 1));
    assert_eq!(store.app_of_key(key(1), NOW).await.unwrap(), Some(app_id(1)));
    let renamed = store.rename_app(app_id(2), "Tasks".to_owned()).await.unwrap();
    assert_eq!(renamed, AppWrite::NoSuchApp);
    // The old name is free.
    create_app(store, 3).await;
    let renamed = store.rename_app(app_id(3), "app 1".to_owned()).await.unwrap();
    assert_eq!(renamed, AppWrite::Written);
}

pub async fn redirects_belong_to_one_app(store: &dyn Store) {
    create_app(store, 1).await;
    create_app(store, 2).await;
    let profile = async |n| store.app_profile(app_id(n)).await.unwrap();
    let none = |n| AppProfile {
        name: format!("app {n}"),
        redirects: Vec::new(),
    };
    assert_eq!(profile(1).await, Some(none(1)));
    for uri in ["notes:/b", "notes:/a", "notes:/b"] {
        let put = store.put_redirect(app_id(1), uri.to_owned(), NOW).await.unwrap();
        assert_eq!(put, RedirectWrite::Registered);
    }
    let redirects = vec!["notes:/a".to_owned(), "notes:/b".to_owned()];
    assert_eq!(profile(1).await.unwrap().redirects, redirects);
    assert_eq!(profile(2).await, Some(none(2)));

    assert!(!store.delete_redirect(app_id(2), "notes:/a".to_owned()).await.unwrap());
    assert!(store.delete_redirect(app_id(1), "notes:/a".to_owned()).await.unwrap());
    assert!(!store.delete_redirect(app_id(1), "notes:/a".to_owned()).await.unwrap());
    assert_eq!(profile(1).await.unwrap().redirects, ["notes:/b"]);

    assert!(store.delete_app(app_id(1)).await.unwrap());
    assert_eq!(profile(1).await, None);
    let put = store.put_redirect(app_id(1), "notes:/c".to_owned(), NOW).await.unwrap();
    assert_eq!(put, RedirectWrite::NoSuchApp);
    assert!(!store.delete_redirect(app_id(1), "notes:/b".to_owned()).await.unwrap());
}

pub async fn an_app_has_so_many_redirects(store: &dyn Store) {
    create_app(store, 1).await;
    let put = async |n: usize| {
        let uri = format!("notes:/{n}");
        store.put_redirect(app_id(1), uri, NOW).await.unwrap()
    };
    for n in 0..REDIRECTS_MAX {
        assert_eq!(put(n).await, RedirectWrite::Registered);
    }
    assert_eq!(put(REDIRECTS_MAX).await, RedirectWrite::TooMany);
    assert_eq!(put(0).await, RedirectWrite::Registered);
    assert!(store.delete_redirect(app_id(1), "notes:/0".to_owned()).await.unwrap());
    assert_eq!(put(REDIRECTS_MAX).await, RedirectWrite::Registered);
}
