//! Sessions and their refresh counters.

use crate::{
    AppWrite, CredentialOf, EndSessions, FinishedLogin, LoginUse, NewSession, PAGES_APP, RefreshUse, Store, StoreError,
    StreamId, VaultWrite, VersionedWrite,
};
use synckit_protocol::limits::{LOGIN_SECONDS, PAGE_SESSION_SECONDS, PAGE_SESSIONS_MAX, REFRESH_SECONDS};

use crate::conformance::fixture::{
    NOW, create_account, create_app, create_stream, open_session, password, register, secret, session_id, stream_of,
    user_id,
};

fn next(counter: u64) -> RefreshUse {
    RefreshUse::Next {
        counter,
        stream: stream_of(1, 1),
    }
}

pub async fn an_opened_session_is_found(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    let session = store.session(session_id(1), NOW).await.unwrap().unwrap();
    assert_eq!((session.id, session.stream), (session_id(1), stream));
    assert_eq!(session.app_name, "app 1");
    assert_eq!((session.device_id, session.device_name), (None, None));
    assert_eq!((session.created_at, session.refreshed_at), (NOW, NOW));
    assert_eq!(store.session(session_id(2), NOW).await.unwrap(), None);
}

pub async fn a_page_session_belongs_to_no_listed_app(store: &dyn Store) {
    create_stream(store, 1).await;
    let stream = StreamId {
        app_id: PAGES_APP,
        user_id: user_id(1),
    };
    open_session(store, stream, 1).await;
    open_session(store, stream, 2).await;
    let session = store.session(session_id(1), NOW).await.unwrap().unwrap();
    assert_eq!((session.stream, session.app_name.as_str()), (stream, "Account page"));
    assert_eq!(store.apps(NOW).await.unwrap().len(), 1);
    assert_eq!(store.account(user_id(1)).await.unwrap().unwrap().apps, []);
    assert_eq!(store.app_profile(PAGES_APP).await.unwrap(), None);
    assert!(!store.delete_app(PAGES_APP).await.unwrap());
    assert!(matches!(
        store.rename_app(PAGES_APP, "x".to_owned()).await.unwrap(),
        AppWrite::NoSuchApp
    ));
    // Nothing refreshes it.
    let refreshed = store.advance_refresh(session_id(1), 1, NOW).await.unwrap();
    assert_eq!(refreshed, RefreshUse::Refused);
    assert!(store.session(session_id(1), NOW).await.unwrap().is_some());
    // It ends with its account.
    let ended = store.delete_account(user_id(1)).await.unwrap().unwrap();
    assert!(ended.contains(&session_id(1)));
}

pub async fn browsers_push_out_no_device(store: &dyn Store) {
    let of_app = create_stream(store, 1).await;
    let stream = StreamId {
        app_id: PAGES_APP,
        user_id: user_id(1),
    };
    open_session(store, of_app, 1).await;
    for n in 0..=u64::from(PAGE_SESSIONS_MAX) {
        open_session(store, stream, 2 + n).await;
    }
    let sessions = store.sessions(user_id(1), NOW).await.unwrap();
    assert_eq!(sessions.len(), 1 + PAGE_SESSIONS_MAX as usize);
    assert!(store.session(session_id(1), NOW).await.unwrap().is_some());
    assert!(store.session(session_id(2), NOW).await.unwrap().is_none());
    let others = EndSessions::OthersOfUser(user_id(1), session_id(3));
    assert_eq!(
        store.end_sessions(others).await.unwrap().len(),
        PAGE_SESSIONS_MAX as usize
    );
    assert!(store.session(session_id(3), NOW).await.unwrap().is_some());
}

pub async fn a_page_session_ends_after_twelve_hours(store: &dyn Store) {
    let of_app = create_stream(store, 1).await;
    let stream = StreamId {
        app_id: PAGES_APP,
        user_id: user_id(1),
    };
    open_session(store, stream, 1).await;
    open_session(store, of_app, 2).await;
    for (now, lives) in [
        (NOW + PAGE_SESSION_SECONDS - 1, true),
        (NOW + PAGE_SESSION_SECONDS, false),
    ] {
        assert_eq!(store.session(session_id(1), now).await.unwrap().is_some(), lives);
        assert_eq!(
            store.sessions(user_id(1), now).await.unwrap().len(),
            1 + usize::from(lives)
        );
    }
}

pub async fn a_session_needs_its_account_and_its_app(store: &dyn Store) {
    create_stream(store, 1).await;
    for stream in [stream_of(1, 2), stream_of(2, 1)] {
        let session = NewSession {
            id: session_id(1),
            stream,
            login: None,
            credential: None,
            now: NOW,
        };
        assert!(matches!(
            store.open_session(session).await,
            Err(StoreError::NoSuchStream)
        ));
    }
    assert_eq!(store.session(session_id(1), NOW).await.unwrap(), None);
}

pub async fn sessions_are_listed_newest_first_across_apps(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    create_stream(store, 2).await;
    open_session(store, stream, 3).await;
    open_session(store, stream_of(2, 1), 1).await;
    open_session(store, stream, 2).await;
    open_session(store, stream_of(2, 2), 4).await;
    let sessions = store.sessions(user_id(1), NOW).await.unwrap();
    let listed: Vec<_> = sessions
        .iter()
        .map(|session| (session.id, session.app_name.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            (session_id(2), "app 1"),
            (session_id(1), "app 2"),
            (session_id(3), "app 1")
        ]
    );
}

pub async fn a_session_ends_ninety_days_after_its_last_refresh(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    open_session(store, stream, 2).await;
    let later = NOW + REFRESH_SECONDS - 1;
    assert_eq!(store.advance_refresh(session_id(1), 1, later).await.unwrap(), next(2));
    assert!(store.session(session_id(2), later).await.unwrap().is_some());

    let end = NOW + REFRESH_SECONDS;
    assert_eq!(store.session(session_id(2), end).await.unwrap(), None);
    assert_eq!(
        store.advance_refresh(session_id(2), 1, end).await.unwrap(),
        RefreshUse::Refused
    );
    assert_eq!(store.sessions(user_id(1), end).await.unwrap().len(), 1);
    assert_eq!(
        store.session(session_id(1), end).await.unwrap().unwrap().refreshed_at,
        later
    );
    // A clock that was ahead has ended nothing.
    assert_eq!(store.advance_refresh(session_id(2), 1, later).await.unwrap(), next(2));
}

pub async fn a_refresh_moves_the_counter_on(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    for counter in 1..5 {
        assert_eq!(
            store
                .advance_refresh(session_id(1), counter, NOW + counter)
                .await
                .unwrap(),
            next(counter + 1)
        );
    }
    assert_eq!(
        store.session(session_id(1), NOW).await.unwrap().unwrap().refreshed_at,
        NOW + 4
    );
    assert_eq!(
        store.advance_refresh(session_id(2), 1, NOW).await.unwrap(),
        RefreshUse::Ended
    );
}

pub async fn the_counter_before_returns_the_current_one(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    for _ in 0..3 {
        assert_eq!(store.advance_refresh(session_id(1), 1, NOW).await.unwrap(), next(2));
    }
    assert_eq!(store.advance_refresh(session_id(1), 2, NOW).await.unwrap(), next(3));
}

pub async fn an_older_counter_ends_the_session(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    for counter in [1, 2] {
        store.advance_refresh(session_id(1), counter, NOW).await.unwrap();
    }
    assert_eq!(
        store.advance_refresh(session_id(1), 1, NOW).await.unwrap(),
        RefreshUse::Ended
    );
    assert_eq!(store.session(session_id(1), NOW).await.unwrap(), None);
    assert_eq!(
        store.advance_refresh(session_id(1), 3, NOW).await.unwrap(),
        RefreshUse::Ended
    );
}

pub async fn an_unknown_refresh_counter_changes_nothing(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    assert_eq!(
        store.advance_refresh(session_id(1), 2, NOW).await.unwrap(),
        RefreshUse::Refused
    );
    assert!(store.session(session_id(1), NOW).await.unwrap().is_some());
    assert_eq!(store.advance_refresh(session_id(1), 1, NOW).await.unwrap(), next(2));
}

pub async fn a_login_is_finished_once(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let finish = async |login, session: Option<u64>, now| {
        let finished = FinishedLogin {
            login: secret(login),
            user_id: user_id(1),
            session_id: session.map(session_id),
            now,
        };
        store.finish_login(finished).await.unwrap()
    };
    assert_eq!(finish(1, Some(1), NOW).await, LoginUse::First);
    open_session(store, stream, 1).await;
    assert_eq!(finish(2, Some(2), NOW).await, LoginUse::First);
    open_session(store, stream, 2).await;
    register(store, stream, 2).await;
    assert_eq!(finish(3, None, NOW).await, LoginUse::First);

    // A session that nobody registered ends, and one that is in use does not.
    let ended = vec![session_id(1)];
    assert_eq!(
        finish(1, Some(4), NOW + LOGIN_SECONDS).await,
        LoginUse::Repeated { ended }
    );
    assert_eq!(store.session(session_id(1), NOW).await.unwrap(), None);
    for (login, session) in [(1, Some(4)), (2, Some(5)), (3, None)] {
        let repeated = finish(login, session, NOW + LOGIN_SECONDS).await;
        assert_eq!(repeated, LoginUse::Repeated { ended: vec![] });
    }
    assert!(store.session(session_id(2), NOW).await.unwrap().is_some());
}

pub async fn a_repeated_login_opens_no_session_later(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let finished = |login, session| FinishedLogin {
        login: secret(login),
        user_id: user_id(1),
        session_id: Some(session_id(session)),
        now: NOW,
    };
    let open = async |login, session| {
        let session = NewSession {
            id: session_id(session),
            stream,
            login: Some(secret(login)),
            credential: None,
            now: NOW,
        };
        store.open_session(session).await
    };
    // Two copies of a last message at once: the second is seen before the first has opened its session.
    assert_eq!(store.finish_login(finished(1, 1)).await.unwrap(), LoginUse::First);
    let repeated = store.finish_login(finished(1, 2)).await.unwrap();
    assert_eq!(repeated, LoginUse::Repeated { ended: vec![] });
    for session in [1, 2] {
        assert!(matches!(open(1, session).await, Err(StoreError::LoginRepeated)));
        assert_eq!(store.session(session_id(session), NOW).await.unwrap(), None);
    }
    // A login that nobody repeats opens the session that it named, and no other.
    assert_eq!(store.finish_login(finished(2, 3)).await.unwrap(), LoginUse::First);
    assert!(matches!(open(2, 4).await, Err(StoreError::LoginRepeated)));
    open(2, 3).await.unwrap();
    assert!(store.session(session_id(3), NOW).await.unwrap().is_some());
}

pub async fn ending_one_session_leaves_the_others(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    open_session(store, stream, 1).await;
    open_session(store, stream, 2).await;
    assert_eq!(
        store.end_sessions(EndSessions::One(session_id(1))).await.unwrap(),
        [session_id(1)]
    );
    assert!(
        store
            .end_sessions(EndSessions::One(session_id(1)))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.session(session_id(1), NOW).await.unwrap(), None);
    assert!(store.session(session_id(2), NOW).await.unwrap().is_some());
}

pub async fn ending_sessions_leaves_other_accounts(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    create_stream(store, 2).await;
    create_account(store, 3).await;
    open_session(store, stream, 1).await;
    open_session(store, stream_of(2, 1), 2).await;
    open_session(store, stream_of(1, 3), 3).await;
    let mut ended = store.end_sessions(EndSessions::OfUser(user_id(1))).await.unwrap();
    ended.sort();
    assert_eq!(ended, [session_id(1), session_id(2)]);
    assert!(store.sessions(user_id(1), NOW).await.unwrap().is_empty());
    assert_eq!(store.sessions(user_id(3), NOW).await.unwrap().len(), 1);
}

pub async fn a_session_is_ended_for_its_own_account_only(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    create_account(store, 2).await;
    open_session(store, stream, 1).await;
    let end = async |n| {
        store
            .end_sessions(EndSessions::OneOfUser(user_id(n), session_id(1)))
            .await
            .unwrap()
    };
    assert!(end(2).await.is_empty());
    assert!(store.session(session_id(1), NOW).await.unwrap().is_some());
    assert_eq!(end(1).await, [session_id(1)]);
    assert!(end(1).await.is_empty());
}

pub async fn live_sessions_are_told_from_ended_ones(store: &dyn Store) {
    let stream = create_stream(store, 1).await;
    let ids = |numbers: std::ops::Range<u64>| numbers.map(session_id).collect::<Vec<_>>();
    assert_eq!(store.live_sessions(vec![], NOW).await.unwrap(), []);
    for n in 0..50 {
        open_session(store, stream, n).await;
    }
    let live = async |now| {
        // Unknown ones are among them, and one comes twice.
        let mut asked = ids(0..60);
        asked.push(session_id(7));
        let mut live = store.live_sessions(asked, now).await.unwrap();
        live.sort();
        live.dedup();
        live
    };
    assert_eq!(live(NOW).await, ids(0..50));
    store.end_sessions(EndSessions::One(session_id(49))).await.unwrap();
    assert_eq!(live(NOW).await, ids(0..49));
    let end = NOW + REFRESH_SECONDS;
    store.advance_refresh(session_id(3), 1, end - 1).await.unwrap();
    assert_eq!(live(end).await, [session_id(3)]);
    store.delete_app(stream.app_id).await.unwrap();
    assert_eq!(live(NOW).await, []);
}

pub async fn a_replaced_password_opens_no_session(store: &dyn Store) {
    create_app(store, 1).await;
    create_account(store, 1).await;
    let credential = async || {
        let found = store.credential(CredentialOf::User(user_id(1))).await.unwrap();
        found.unwrap().password.credential_id
    };
    let open = async |n: u64, user: u64, credential| {
        let session = NewSession {
            id: session_id(n),
            stream: stream_of(1, user),
            login: None,
            credential: Some(credential),
            now: NOW,
        };
        store.open_session(session).await
    };
    let proven = credential().await;
    open(1, 1, proven).await.unwrap();
    let write = VaultWrite {
        user_id: user_id(1),
        vault: b"new vault".to_vec(),
        expected_version: 1,
        keep_replaced: false,
        password: Some(password(9, b"new record")),
        keep_session: None,
    };
    assert_eq!(store.write_vault(write).await.unwrap(), VersionedWrite::Written(2));
    assert!(matches!(open(2, 1, proven).await, Err(StoreError::PasswordReplaced)));
    assert!(matches!(open(3, 9, proven).await, Err(StoreError::NoSuchStream)));
    open(4, 1, credential().await).await.unwrap();
    let mut open: Vec<_> = store
        .sessions(user_id(1), NOW)
        .await
        .unwrap()
        .iter()
        .map(|session| session.id)
        .collect();
    open.sort_unstable();
    assert_eq!(open, [session_id(4)]);
}
