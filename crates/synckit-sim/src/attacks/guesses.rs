//! Guessing, against the honest server's own router: of accounts, and of their passwords.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};
use axum::body::Body;
use http::Method;
use rand::rngs::OsRng;
use serde::Serialize;
use synckit_login::ClientLogin;
use synckit_protocol::{
    LOGIN_SUITE, Problem,
    wire::{
        accounts::{PasswordChangeStart, RegisterStarted},
        auth::{LoginFinish, LoginStart, LoginStarted, SignedIn},
    },
};

use super::{Evidence, caught, stage::Stage, thief::refused};
use crate::{
    direct::Lie,
    endpoint::{Answer, SERVER_URL},
    golden::Account,
};

const START: &str = "/api/sync/auth/start";
const FINISH: &str = "/api/sync/auth";
const CHANGE: &str = "/api/account/password/start";
/// A blinded element: the first bytes of KE1, KE2 and a registration response.
const ELEMENT_BYTES: usize = 32;
/// Guesses at one account before the next one waits.
const GUESSES: usize = 10;

async fn post(stage: &Stage, path: &str, body: &impl Serialize) -> anyhow::Result<Answer> {
    post_as(stage, path, None, body).await
}

async fn post_as(stage: &Stage, path: &str, token: Option<&str>, body: &impl Serialize) -> anyhow::Result<Answer> {
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("{SERVER_URL}{path}"))
        .header(http::header::CONTENT_TYPE, "application/cbor")
        .header(http::header::ACCEPT, "application/cbor");
    if let Some(token) = token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = minicbor_serde::to_vec(body)?;
    stage.server.call(request.body(Body::from(body))?).await
}

/// The first two messages of a sign-in.
async fn start(stage: &Stage, email: &str, password: &str) -> anyhow::Result<(ClientLogin, Answer)> {
    let (login, ke1) = ClientLogin::start(password, &mut OsRng)?;
    let body = LoginStart {
        api_key: stage.golden.api_key.clone(),
        email: email.to_owned(),
        suite: LOGIN_SUITE,
        ke1: ke1.into(),
        code: None,
    };
    Ok((login, post(stage, START, &body).await?))
}

/// The last two messages. Without the right password an attacker cannot make the third, and sends any bytes.
async fn finish(stage: &Stage, started: &Answer, ke3: Option<Vec<u8>>) -> anyhow::Result<Answer> {
    let started: LoginStarted = minicbor_serde::from_slice(&started.body)?;
    let body = LoginFinish {
        api_key: stage.golden.api_key.clone(),
        login: started.login,
        ke3: ke3.unwrap_or_else(|| vec![0; 64]).into(),
    };
    post(stage, FINISH, &body).await
}

/// Signs in without the SDK.
pub(super) async fn sign_in(stage: &Stage, email: &str, password: &str) -> anyhow::Result<SignedIn> {
    let (login, answer) = start(stage, email, password).await?;
    let started: LoginStarted = minicbor_serde::from_slice(&answer.body)?;
    let finished = login.finish(stage.golden.app_id, &started.ke2.0, None, &mut OsRng)?;
    let answer = finish(stage, &answer, Some(finished.ke3)).await?;
    ensure!(answer.head.status.is_success(), "a sign-in: {}", answer.head.status);
    Ok(minicbor_serde::from_slice(&answer.body)?)
}

fn outcome(answer: &Answer) -> anyhow::Result<Result<(), Problem>> {
    if answer.head.status.is_success() {
        return Ok(Ok(()));
    }
    Ok(Err(serde_json::from_slice(&answer.body)?))
}

/// Everything of an answer that does not differ between two of the same kind.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    status: http::StatusCode,
    headers: Vec<String>,
    fields: BTreeSet<String>,
    length: usize,
}

impl Look {
    fn of(answer: &Answer) -> anyhow::Result<Self> {
        let fields: serde_json::Map<String, serde_json::Value> = if answer.head.status.is_success() {
            let LoginStarted { login, ke2 } = minicbor_serde::from_slice(&answer.body)?;
            // Only the lengths of the byte strings are compared.
            let lengths = [("login", login.0.len()), ("ke2", ke2.0.len())];
            let lengths = lengths.map(|(name, length)| (name.to_owned(), length.into()));
            lengths.into_iter().collect()
        } else {
            let mut problem: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&answer.body)?;
            problem.remove("request_id");
            problem
        };
        let mut headers: Vec<String> = answer.head.headers.keys().map(ToString::to_string).collect();
        headers.sort();
        Ok(Self {
            status: answer.head.status,
            headers,
            fields: fields.iter().map(|(name, value)| format!("{name}: {value}")).collect(),
            length: answer.body.len(),
        })
    }
}

/// The two answers to a sign-in with a wrong password.
async fn wrong_sign_in(stage: &Stage, email: &str) -> anyhow::Result<[Answer; 2]> {
    let (_, started) = start(stage, email, "a guess").await?;
    let finished = finish(stage, &started, None).await?;
    Ok([started, finished])
}

/// The SDK's requests for a sign-in with a wrong password, and the result.
async fn wrong_sign_in_by_the_sdk(stage: &Stage, email: &str) -> anyhow::Result<(Vec<String>, String)> {
    let actor = stage.victim(0, |_, _| Lie::Truth)?;
    let result = actor.client.authenticate(email, "a guess").await;
    let said = caught(result, |error| {
        matches!(error, synckit_client::Error::InvalidCredentials)
    })?;
    let sent = actor.sent.lock();
    Ok((sent.iter().map(|sent| sent.path().to_owned()).collect(), said))
}

pub(super) async fn who_has_an_account(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    // As long as hers.
    let unknown = "nob@example.test";
    ensure!(unknown.len() == email.len(), "addresses of two lengths");
    let [known, absent] = [
        wrong_sign_in(&stage, email).await?,
        wrong_sign_in(&stage, unknown).await?,
    ];
    for (known, absent) in known.iter().zip(&absent) {
        let [known, absent] = [Look::of(known)?, Look::of(absent)?];
        ensure!(known == absent, "told apart: {known:?} and {absent:?}");
    }
    let caught = refused(outcome(&absent[1])?, "invalid_credentials")?;
    let [known, absent] = [
        wrong_sign_in_by_the_sdk(&stage, email).await?,
        wrong_sign_in_by_the_sdk(&stage, unknown).await?,
    ];
    ensure!(known == absent, "told apart by the SDK: {known:?} and {absent:?}");
    // The comparison would see it.
    let signed_in = sign_in(&stage, email, password).await.context("the control")?;
    ensure!(signed_in.user_id == stage.golden.ada.user_id, "somebody else signed in");
    let malformed = post(&stage, START, &serde_json::json!({ "email": email })).await?;
    ensure!(
        Look::of(&malformed)? != Look::of(&wrong_sign_in(&stage, email).await?[0])?,
        "the comparison sees nothing"
    );
    Ok(Evidence::new(
        format!("{caught}, for a wrong password as well: the same fields, lengths, headers and round trips"),
        "the right password signs in, and the same comparison distinguishes another refusal",
    ))
}

/// An attacker copied the last message of a sign-in from a proxy or a log of bodies, and sends it again within the minute.
pub(super) async fn replayed_sign_in(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    let (login, answer) = start(&stage, email, password).await?;
    let started: LoginStarted = minicbor_serde::from_slice(&answer.body)?;
    let ke3 = login.finish(stage.golden.app_id, &started.ke2.0, None, &mut OsRng)?.ke3;
    // The first to arrive opens a session.
    let first = finish(&stage, &answer, Some(ke3.clone())).await?;
    ensure!(first.head.status.is_success(), "the control: {}", first.head.status);
    let first: SignedIn = minicbor_serde::from_slice(&first.body)?;

    let caught = refused(outcome(&finish(&stage, &answer, Some(ke3)).await?)?, "login_expired")?;
    // The server cannot tell which one is the owner's, so a session that has no device yet ends.
    let status = http::Request::get(format!("{SERVER_URL}/api/sync/status"))
        .header(http::header::AUTHORIZATION, format!("Bearer {}", first.token.expose()));
    let status = stage.server.call(status.body(Body::empty())?).await?;
    refused(outcome(&status)?, "session_ended")?;
    sign_in(&stage, email, password).await.context("the honest run")?;
    Ok(Evidence::new(
        caught,
        "the same message opens a session where it arrives first; the copy ends that one, and the owner signs in again",
    ))
}

pub(super) async fn unfinished_guesses(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    // A guesser knows after the second message whether the guess was right, and need not send the third.
    for guess in 0..GUESSES {
        let (_, started) = start(&stage, email, "a guess").await?;
        ensure!(started.head.status.is_success(), "guess {guess} was refused");
        if guess % 2 == 0 {
            refused(outcome(&finish(&stage, &started, None).await?)?, "invalid_credentials")?;
        }
    }
    let (_, eleventh) = start(&stage, email, password).await?;
    let caught = refused(outcome(&eleventh)?, "too_many_guesses")?;
    let wait = eleventh.head.headers.get(http::header::RETRY_AFTER);
    ensure!(wait.is_some(), "nothing says when to go on");

    // The same number of starts in a world of its own, one of which was finished with the right password.
    let stage = Stage::open(&stage.golden).await?;
    for _ in 1..GUESSES {
        start(&stage, email, "a guess").await?;
    }
    sign_in(&stage, email, password).await.context("the control")?;
    let (_, eleventh) = start(&stage, email, password).await?;
    if let Err(problem) = outcome(&eleventh)? {
        bail!("the control was refused: {}", problem.code);
    }
    let (_, twelfth) = start(&stage, email, password).await?;
    refused(outcome(&twelfth)?, "too_many_guesses")?;
    Ok(Evidence::new(
        caught,
        "of eleven starts, one that was finished with the right password does not count",
    ))
}

/// An attacker with one KE2 of an account could test passwords against it without limit, if any other request evaluated
/// elements under the same OPRF key.
pub(super) async fn uncounted_evaluations(stage: Stage) -> anyhow::Result<Evidence> {
    let Account { email, password, .. } = &stage.golden.ada;
    let user = sign_in(&stage, email, password).await.context("the honest run")?;
    let account = user.account_token.context("no token for the account")?;
    let (_, ke1) = ClientLogin::start("a guess", &mut OsRng)?;
    let counted = async || {
        let body = LoginStart {
            api_key: stage.golden.api_key.clone(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: ke1.clone().into(),
            code: None,
        };
        let answer = post(&stage, START, &body).await?;
        let started: LoginStarted = minicbor_serde::from_slice(&answer.body)?;
        anyhow::Ok(started.ke2.0[..ELEMENT_BYTES].to_vec())
    };
    let current = counted().await?;
    ensure!(counted().await? == current, "the control: one element, two evaluations");

    let body = PasswordChangeStart {
        suite: LOGIN_SUITE,
        request: ke1[..ELEMENT_BYTES].to_vec().into(),
    };
    let mut evaluations = BTreeSet::from([current]);
    let refusal = loop {
        let answer = post_as(&stage, CHANGE, Some(account.expose()), &body).await?;
        if let Err(problem) = outcome(&answer)? {
            break problem;
        }
        let started: RegisterStarted = minicbor_serde::from_slice(&answer.body)?;
        let is_new = evaluations.insert(started.response.0[..ELEMENT_BYTES].to_vec());
        ensure!(
            is_new,
            "a change of password evaluated under a key that was used before"
        );
        ensure!(evaluations.len() <= GUESSES, "nothing counts changes of a password");
    };
    let caught = refused(Err(refusal), "too_many_guesses")?;
    Ok(Evidence::new(
        format!("every answer uses a different key, and after a few: {caught}"),
        "two sign-in starts, which count as guesses, evaluate one element equally",
    ))
}
