//! Tokens end and are renewed without anybody noticing; sessions that are revoked end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use synckit_client::{Cursor, Error, Tampering};
use synckit_protocol::{
    AppId, Problem, ProblemCode,
    wire::auth::{Refreshed, SignedIn},
};

use crate::{
    interference::{Fate, Interference},
    world::{World, changes},
};

#[tokio::test]
async fn expired_token_is_refreshed_and_the_call_repeated() {
    // A token that the server calls expired is refreshed and the call repeated.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let (expire, refreshes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (expiring, counted) = (Arc::clone(&expire), Arc::clone(&refreshes));
    let transport = Interference::new(move |request| match request.uri().path() {
        "/api/sync/auth/refresh" => {
            counted.fetch_add(1, Ordering::SeqCst);
            Fate::Delivered
        }
        "/api/sync/status" if expiring.swap(false, Ordering::SeqCst) => Fate::Answered(
            401,
            serde_json::to_vec(&Problem::new(ProblemCode::TokenExpired)).unwrap(),
        ),
        _ => Fate::Delivered,
    });
    let client = world.resumed_over(&user, transport);
    client.status().await.unwrap();
    assert_eq!(refreshes.load(Ordering::SeqCst), 1);
    // The new token is the one that the next start of the app finds.
    world.another_client(&user).await.status().await.unwrap();
}

#[tokio::test]
async fn refresh_of_another_app_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let over = async |app_id: Option<AppId>| {
        let expire = AtomicBool::new(true);
        let liar = Interference::new(move |request| match request.uri().path() {
            "/api/sync/auth/refresh" => Fate::Changed(Box::new(move |body| {
                let mut refreshed: Refreshed = minicbor_serde::from_slice(&body).unwrap();
                refreshed.app_id = app_id.unwrap_or(refreshed.app_id);
                minicbor_serde::to_vec(&refreshed).unwrap()
            })),
            "/api/sync/status" if expire.swap(false, Ordering::SeqCst) => Fate::Answered(
                401,
                serde_json::to_vec(&Problem::new(ProblemCode::TokenExpired)).unwrap(),
            ),
            _ => Fate::Delivered,
        });
        let file = world.file(&format!("{} laptop.json", user.email));
        let before = std::fs::read(&file).unwrap();
        let status = world.resumed_over(&user, liar).status().await;
        (status, std::fs::read(&file).unwrap() == before)
    };
    let other = AppId::from_bytes([7; 16]);
    let (refused, is_unchanged) = over(Some(other)).await;
    let error = refused.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::OtherApp { answered }) if answered == other),
        "{error:?}"
    );
    assert!(is_unchanged, "a secret of the refused answer was stored");
    let (answered, is_unchanged) = over(None).await;
    answered.unwrap();
    assert!(!is_unchanged, "the control stores the new secret");
}

#[tokio::test]
async fn token_near_its_end_is_refreshed_once() {
    // A token near its end is refreshed before the call and once for all calls.
    let world = World::start().await;
    let user = world.user().await;
    let refreshes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refreshes);
    let transport = Interference::new(move |request| match request.uri().path() {
        "/api/sync/auth" => Fate::Changed(Box::new(|body| {
            let mut signed_in: SignedIn = minicbor_serde::from_slice(&body).unwrap();
            signed_in.expires_at = 1;
            minicbor_serde::to_vec(&signed_in).unwrap()
        })),
        "/api/sync/auth/refresh" => {
            counted.fetch_add(1, Ordering::SeqCst);
            Fate::Delivered
        }
        _ => Fate::Delivered,
    });
    let client = world.signed_in_over(&user, transport).await;
    let (a, b, c) = tokio::join!(client.status(), client.devices(), client.status());
    a.unwrap();
    b.unwrap();
    c.unwrap();
    assert_eq!(refreshes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lost_answer_to_a_refresh_keeps_the_session() {
    // A lost answer to a refresh does not end the session.
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let lost = AtomicUsize::new(0);
    let transport = Interference::new(move |request| match request.uri().path() {
        "/api/sync/auth/refresh" if lost.fetch_add(1, Ordering::SeqCst) < 2 => Fate::AnswerLost,
        "/api/sync/status" if lost.load(Ordering::SeqCst) == 0 => Fate::Answered(
            401,
            serde_json::to_vec(&Problem::new(ProblemCode::TokenExpired)).unwrap(),
        ),
        _ => Fate::Delivered,
    });
    let client = world.resumed_over(&user, transport);
    client.status().await.unwrap();
}

#[tokio::test]
async fn a_session_that_was_signed_out_elsewhere_ends() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let copy = world.another_client(&user).await;
    laptop.sign_out().await.unwrap();
    assert!(matches!(
        laptop.pull(laptop_id, Cursor::START).await,
        Err(Error::NotSignedIn)
    ));
    let error = copy.pull(laptop_id, Cursor::START).await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded), "{error:?}");
    let restarted = world.client(&user, "laptop", None);
    assert!(matches!(
        restarted.try_load_key_from_keychain(),
        Err(Error::NoStoredKey)
    ));
}

#[tokio::test]
async fn a_server_with_another_sign_in_key_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    // What a server with other keys looks like to a device that remembers the ones before.
    let file = world.file(&format!("{} laptop.json", user.email));
    let mut records: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (_, pinned) = records
        .iter_mut()
        .find(|(name, _)| name.ends_with(" server key"))
        .unwrap();
    *pinned = serde_json::json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    std::fs::write(&file, serde_json::to_vec(&records).unwrap()).unwrap();
    let client = world.another_client(&user).await;
    let error = client.authenticate(&user.email, &user.password).await.unwrap_err();
    assert!(
        matches!(error, Error::Tampering(Tampering::ServerKeyChanged)),
        "{error:?}"
    );
}

#[tokio::test]
async fn lost_answer_to_a_login_leaves_one_session() {
    let world = World::start().await;
    let user = world.user().await;
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let lossy = Interference::new(move |request| match request.uri().path() {
        "/api/sync/auth" if count.fetch_add(1, Ordering::SeqCst) == 0 => Fate::AnswerLost,
        _ => Fate::Delivered,
    });
    let client = world.signed_in_over(&user, lossy).await;
    assert_eq!(
        lost.load(Ordering::SeqCst),
        3,
        "lost, refused as repeated, and once more"
    );
    assert_eq!(client.device_sessions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn retries_stop_and_say_how_long_to_wait() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let transport = Interference::new(|request| {
        if request.uri().path() == "/api/sync/push" {
            Fate::Answered(503, b"<html>no upstream</html>".to_vec())
        } else {
            Fate::Delivered
        }
    });
    let client = world.resumed_over(&user, transport.clone());
    let device = client.register_device("laptop", "linux").await.unwrap();
    let before = transport.requests();
    let error = client.push(device.id, changes(1)).await.unwrap_err();
    assert!(
        matches!(&error.source, Error::Problem(problem) if problem.status == 503),
        "{error:?}"
    );
    assert_eq!(transport.requests() - before, 4, "one attempt and three retries");
    assert_eq!(error.accepted, 0);
}

#[tokio::test]
async fn long_retry_after_is_an_error_of_any_size() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    for seconds in [61, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
        let transport = Interference::new(move |request| match request.uri().path() {
            "/api/sync/devices" => Fate::Busy(seconds),
            _ => Fate::Delivered,
        });
        let client = world.resumed_over(&user, transport);
        let error = client.devices().await.unwrap_err();
        assert!(
            matches!(error, Error::RetryLater { retry_after, .. } if retry_after.as_secs() == seconds),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn calls_of_the_user_before_find_nobody() {
    // A call that is made while another user signs in must not write under that user's session.
    let world = World::start().await;
    let (ada, bob) = (world.user().await, world.user().await);
    world.first_device(&ada).await;
    let pushes = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&pushes);
    let transport = Interference::new(move |request| {
        if request.uri().path() == "/api/sync/push" {
            sent.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Delivered
    });
    let client = world.resumed_over(&ada, transport);
    let device = client.register_device("laptop", "linux").await.unwrap();
    // Two batches: the first is sent as ada, and its answer is read after bob has signed in.
    let mut push = Box::pin(client.push(device.id, changes(501)));
    while pushes.load(Ordering::SeqCst) == 0 {
        assert!(futures_util::FutureExt::now_or_never(&mut push).is_none());
        tokio::task::yield_now().await;
    }
    client.authenticate(&bob.email, &bob.password).await.unwrap();
    let failed = push.await.unwrap_err();
    assert!(matches!(failed.source, Error::NotSignedIn), "{failed:?}");
    assert_eq!((failed.accepted, pushes.load(Ordering::SeqCst)), (500, 1));

    client.setup_encryption_new(&bob.password).await.unwrap();
    let device = client.register_device("phone", "android").await.unwrap();
    assert_eq!(client.push(device.id, changes(1)).await.unwrap(), Cursor::START);
    assert_eq!(client.status().await.unwrap().change_count, 1);
}

#[tokio::test]
async fn statuses_that_pass_are_retried_and_no_other() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    // As the gateways between an app and its server answer.
    for (status, attempts) in [
        (400, 1),
        (403, 1),
        (404, 1),
        (408, 4),
        (413, 1),
        (429, 4),
        (500, 4),
        (501, 1),
        (502, 4),
        (503, 4),
        (504, 4),
        (505, 1),
        (507, 1),
        (519, 1),
        (520, 4),
        (530, 4),
        (531, 1),
    ] {
        let transport = Interference::new(move |request| {
            if request.uri().path() == "/api/sync/push" {
                Fate::Answered(status, b"<html>no upstream</html>".to_vec())
            } else {
                Fate::Delivered
            }
        });
        let client = world.resumed_over(&user, transport.clone());
        let device = client.register_device("laptop", "linux").await.unwrap();
        let before = transport.requests();
        let error = client.push(device.id, changes(1)).await.unwrap_err();
        let said = match &error.source {
            Error::Problem(problem) => problem.status,
            Error::Protocol { status, .. } => *status,
            _ => panic!("{error:?}"),
        };
        assert_eq!((said, transport.requests() - before), (status, attempts), "{error:?}");
    }
}

#[tokio::test]
async fn nothing_is_retried_that_a_retry_cannot_help() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    for code in [
        ProblemCode::ServerFull,
        ProblemCode::BodyTooLarge,
        ProblemCode::Internal,
    ] {
        let transport = Interference::new(move |request| {
            if request.uri().path() == "/api/sync/push" {
                Fate::Answered(code.status(), serde_json::to_vec(&Problem::new(code)).unwrap())
            } else {
                Fate::Delivered
            }
        });
        let client = world.resumed_over(&user, transport.clone());
        let device = client.register_device("laptop", "linux").await.unwrap();
        let before = transport.requests();
        let error = client.push(device.id, changes(1)).await.unwrap_err();
        assert_eq!(error.source.problem_code(), Some(code), "{error:?}");
        assert_eq!(transport.requests() - before, 1);
    }
}

#[tokio::test]
async fn a_password_that_is_no_secret_is_refused() {
    let world = World::start().await;
    let user = world.user().await;
    let (client, _) = world.first_device(&user).await;
    for weak in ["", "a", "abc", "aaaaaaaa", "    "] {
        let calls = [
            client.create_account("new@example.com", weak).await.map(drop),
            client
                .create_account_with_invite("new@example.com", weak, "code")
                .await
                .map(drop),
            client.change_password(&user.password, weak).await,
            client.reset_password("code", weak).await.map(drop),
        ];
        for refused in calls {
            let error = refused.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::InvalidArgument {
                        argument: "password",
                        ..
                    }
                ),
                "{weak:?}: {error:?}"
            );
        }
    }
    // Four characters are enough for the SDK; an app asks for more.
    client.create_account("new@example.com", "pass").await.unwrap();
}
