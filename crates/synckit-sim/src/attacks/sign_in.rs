//! Lies during the sign-in: to get the password, a weaker hash of it, or a device that trusts another server.

use std::sync::Arc;

use anyhow::ensure;
use serde::{Serialize, de::DeserializeOwned};
use synckit_client::{Error, MemoryStore, SyncKitClient, Tampering};
use synckit_protocol::{
    LOGIN_SUITE, ProblemCode,
    wire::auth::{LoginFinish, LoginStart, SignedIn},
};

use super::{
    Evidence, caught, passes,
    stage::{Stage, invented, rewriting},
};
use crate::{
    direct::{Direct, Lie, Sent},
    endpoint::{Answer, Endpoint, SimClock},
};

type Requests = Arc<parking_lot::Mutex<Vec<Sent>>>;

impl Stage {
    /// A new installation, over a connection to a liar.
    fn new_installation(
        &self,
        tell: impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync + 'static,
    ) -> (SyncKitClient, Requests) {
        let transport = Direct::lying(Arc::clone(&self.server), tell);
        let sent = transport.sent();
        let client = self
            .golden
            .client(self.path(), "unused")
            .credential_store(MemoryStore::default())
            .transport(Arc::new(transport))
            .build();
        (client, sent)
    }
}

fn holds(sent: &Requests, needle: &str) -> bool {
    let sent = sent.lock();
    sent.iter().any(|sent| {
        sent.body
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    })
}

/// Asks the server something else.
fn asking<T: Serialize + DeserializeOwned>(sent: &Sent, change: impl FnOnce(&mut T)) -> Lie {
    let Ok(mut body) = minicbor_serde::from_slice::<T>(&sent.body) else {
        return Lie::Truth;
    };
    change(&mut body);
    minicbor_serde::to_vec(&body).map_or(Lie::Truth, |body| Lie::Asking(body.into()))
}

fn refusing(code: ProblemCode) -> impl Fn(&Sent, Option<Answer>) -> Lie + Send + Sync {
    move |sent, answer| {
        if answer.is_some() || !sent.path().starts_with("/api/sync/auth") {
            return Lie::Truth;
        }
        let problem = synckit_protocol::Problem::new(code);
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        invented(problem.status, &[("content-type", "application/problem+json")], body)
    }
}

pub(super) async fn no_other_suite(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let (client, sent) = stage.new_installation(refusing(ProblemCode::UnsupportedSuite));
    let caught = caught(client.authenticate(&ada.email, &ada.password).await, |error| {
        error.problem_code() == Some(ProblemCode::UnsupportedSuite)
    })?;
    let suites = |sent: &Requests| -> Vec<u16> {
        let sent = sent.lock();
        let starts = sent.iter().filter(|sent| sent.path() == "/api/sync/auth/start");
        starts
            .filter_map(|sent| minicbor_serde::from_slice::<LoginStart>(&sent.body).ok())
            .map(|start| start.suite)
            .collect()
    };
    ensure!(suites(&sent) == [LOGIN_SUITE], "suites were tried: {:?}", suites(&sent));
    let (client, sent) = stage.new_installation(|_, _| Lie::Truth);
    passes("the honest run", client.authenticate(&ada.email, &ada.password).await)?;
    ensure!(suites(&sent) == [LOGIN_SUITE], "the detector of suites does not work");
    Ok(Evidence::new(
        caught,
        "the suite is compiled in: nothing else was sent in either run",
    ))
}

pub(super) async fn no_password_in_a_body(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    // A server that says that its OPAQUE is out of order.
    let (client, sent) = stage.new_installation(refusing(ProblemCode::MalformedBody));
    let caught = caught(client.authenticate(&ada.email, &ada.password).await, |error| {
        error.problem_code() == Some(ProblemCode::MalformedBody)
    })?;
    ensure!(!holds(&sent, &ada.password), "the password was sent");
    let (client, honest) = stage.new_installation(|_, _| Lie::Truth);
    passes("the honest run", client.authenticate(&ada.email, &ada.password).await)?;
    ensure!(
        !holds(&honest, &ada.password),
        "the password was sent to an honest server"
    );
    ensure!(
        holds(&sent, &ada.email) && holds(&honest, &ada.email),
        "the detector does not find what is sent"
    );
    Ok(Evidence::new(
        caught,
        "the e-mail address, which is sent, is found in the same bodies",
    ))
}

pub(super) async fn other_server(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    // Another server with the same accounts: same database, other login keys.
    let copy = stage.path().join("impostor");
    crate::endpoint::copy_data_dir(&stage.server.data_dir(), &copy)?;
    std::fs::remove_file(copy.join("keys/opaque.key"))?;
    let clock = SimClock::starting_at(stage.golden.made_at);
    let impostor = Arc::new(Endpoint::open_as(&copy, clock, |config| config.accept_new_oprf_seed = true).await?);
    let connect = |endpoint: &Arc<Endpoint>, device: &str| {
        stage
            .golden
            .client(stage.path(), device)
            .transport(Arc::new(Direct::new(Arc::clone(endpoint))))
            .build()
    };
    // A device that has signed in before knows the server's key; the impostor's answer cannot be under it.
    let member = &ada.devices[1].name;
    let known = connect(&stage.server, member);
    passes("the honest run", known.authenticate(&ada.email, &ada.password).await)?;
    let fooled = connect(&impostor, member);
    let caught = caught(fooled.authenticate(&ada.email, &ada.password).await, |error| {
        matches!(
            error,
            Error::InvalidCredentials | Error::Tampering(Tampering::ServerKeyChanged)
        )
    })?;
    let again = connect(&stage.server, member);
    passes("the control", again.authenticate(&ada.email, &ada.password).await)?;
    Ok(Evidence::new(
        caught,
        "the server itself is believed by the same device, before and after",
    ))
}

pub(super) async fn other_app(stage: Stage) -> anyhow::Result<Evidence> {
    const FINISH: &str = "/api/sync/auth";
    let ada = &stage.golden.ada;
    let other = stage.server.create_app("another").await?.app_id;
    let (client, _) = stage.new_installation(rewriting(FINISH, move |answer: &mut SignedIn| answer.app_id = other));
    let caught = caught(
        client.authenticate(&ada.email, &ada.password).await,
        |error| matches!(error, Error::Tampering(Tampering::OtherApp { answered }) if *answered == other),
    )?;
    ensure!(client.user_id().is_none(), "the session was kept");
    let own = stage.golden.app_id;
    let (client, _) = stage.new_installation(rewriting(FINISH, move |answer: &mut SignedIn| answer.app_id = own));
    passes("the control", client.authenticate(&ada.email, &ada.password).await)?;
    Ok(Evidence::new(
        caught.replace(&other.to_string(), "APP"),
        "rewritten to the app of the API key, the answer is believed",
    ))
}

/// An attacker between app and server replaces the API key, which is public, in every message.
pub(super) async fn swapped_api_key(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada;
    let other = stage.server.create_app("another").await?.api_key;
    let between = |key: String| {
        let (client, _) = stage.new_installation(move |sent, answer| match (sent.path(), answer) {
            ("/api/sync/auth/start", None) => asking(sent, |body: &mut LoginStart| body.api_key.clone_from(&key)),
            ("/api/sync/auth", None) => asking(sent, |body: &mut LoginFinish| body.api_key.clone_from(&key)),
            _ => Lie::Truth,
        });
        client
    };
    let fooled = between(other.expose().to_owned());
    let caught = caught(fooled.authenticate(&ada.email, &ada.password).await, |error| {
        matches!(error, Error::InvalidCredentials)
    })?;
    let client = between(stage.golden.api_key.clone());
    passes("the control", client.authenticate(&ada.email, &ada.password).await)?;
    Ok(Evidence::new(
        caught,
        "replaced by a key of its own app, the sign-in passes",
    ))
}
