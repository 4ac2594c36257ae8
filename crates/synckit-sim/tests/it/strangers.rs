//! Whether an address has an account is nobody's business: a known and an unknown one are alike in status, in bytes, in
//! how guesses are counted, and in time.
//!
//! Time is compared by medians of interleaved measurements, and may be alike in any of a few attempts: a machine that is
//! busy disturbs one, while a server that skips its work for unknown addresses is faster in every one.

use std::time::{Duration, Instant};

use axum::body::Body;
use rand::rngs::OsRng;
use synckit_login::ClientLogin;
use synckit_protocol::{LOGIN_SUITE, wire::auth::LoginStart};
use synckit_sim::{
    endpoint::{Answer, Endpoint, SERVER_URL, SimClock},
    golden::run_directory,
};

use crate::world::golden;

const UNKNOWN: &str = "zoe@example.test";
/// Measurements of each kind in an attempt.
const SAMPLES: usize = 40;
const ATTEMPTS: usize = 6;
/// How far two medians may be apart, as a factor.
const ALIKE: f64 = 1.3;

async fn open(directory: &std::path::Path) -> Endpoint {
    golden().copy_to(directory).unwrap();
    Endpoint::open(&directory.join("data"), SimClock::starting_at(golden().made_at))
        .await
        .unwrap()
}

async fn start_login(endpoint: &Endpoint, email: &str) -> (Answer, Duration) {
    let (_, ke1) = ClientLogin::start("some password", &mut OsRng).unwrap();
    let body = minicbor_serde::to_vec(&LoginStart {
        api_key: golden().api_key.clone(),
        email: email.to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
        code: None,
    })
    .unwrap();
    let request = http::Request::post(format!("{SERVER_URL}/api/sync/auth/start"))
        .header("content-type", "application/cbor")
        .body(Body::from(body))
        .unwrap();
    let started = Instant::now();
    let answer = endpoint.call(request).await.unwrap();
    (answer, started.elapsed())
}

fn header_names(answer: &Answer) -> Vec<String> {
    answer.head.headers.keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_known_and_an_unknown_address_answer_alike() {
    let directory = run_directory("strangers").unwrap();
    let endpoint = open(directory.path()).await;
    let known = &golden().ada.email;
    // As often as somebody guesses, and after the guesses are used up.
    for guess in 0..15 {
        let (first, _) = start_login(&endpoint, known).await;
        let (second, _) = start_login(&endpoint, UNKNOWN).await;
        assert_eq!(first.head.status, second.head.status, "guess {guess}");
        assert_eq!(header_names(&first), header_names(&second), "guess {guess}");
        assert_eq!(first.body.len(), second.body.len(), "guess {guess}");
        assert_eq!(first.head.status == 429, guess >= 10, "guess {guess}");
    }
    endpoint.close();
}

#[tokio::test]
async fn a_known_and_an_unknown_address_take_the_same_time() {
    let directory = run_directory("strangers").unwrap();
    let endpoint = open(directory.path()).await;
    let mut ratios = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut times = [Vec::new(), Vec::new()];
        for sample in 0..SAMPLES {
            if sample % 8 == 0 {
                // Guesses are counted in windows of a quarter of an hour.
                endpoint.clock().jump(Duration::from_secs(3600));
            }
            for (times, email) in times.iter_mut().zip([golden().ada.email.as_str(), UNKNOWN]) {
                let (answer, took) = start_login(&endpoint, email).await;
                assert_eq!(answer.head.status, 200);
                times.push(took);
            }
        }
        let [known, unknown] = times.map(|mut times| {
            times.sort();
            times[SAMPLES / 2].as_secs_f64()
        });
        ratios.push(known / unknown);
        if (1.0 / ALIKE..=ALIKE).contains(&(known / unknown)) {
            endpoint.close();
            return;
        }
    }
    panic!("the time tells whether an address is known: {ratios:?}");
}
