//! Registrations of another person's address, against the honest server's own router.

use std::sync::Arc;

use anyhow::ensure;
use sha2::{Digest as _, Sha256};
use synckit_client::{Error, MemoryStore, Registration, SyncKitClient};
use synckit_protocol::{ProblemCode, SecretText};
use synckit_server::config::MailDelivery;

use super::{Evidence, caught, passes, stage::Stage};
use crate::{
    direct::Direct,
    endpoint::{Endpoint, SimClock, copy_data_dir},
};

const SQUATTER: &str = "the password of a squatter";
const OWNER: &str = "the password of the owner";

/// A server with the same accounts that sends mail, so that it confirms addresses.
async fn mailing_server(stage: &Stage) -> anyhow::Result<Arc<Endpoint>> {
    let copy = stage.path().join("mailing");
    copy_data_dir(&stage.server.data_dir(), &copy)?;
    let clock = SimClock::starting_at(stage.golden.made_at);
    let server = Endpoint::open_as(&copy, clock, |config| {
        // Nobody sends these mails: `mailed` reads them.
        config.mail = MailDelivery::Smtp {
            url: SecretText::new("smtp://mail.example.test"),
            from: "sync@example.test".to_owned(),
        };
    });
    Ok(Arc::new(server.await?))
}

fn installation(stage: &Stage, server: &Arc<Endpoint>) -> SyncKitClient {
    stage
        .golden
        .client(stage.path(), "unused")
        .credential_store(MemoryStore::default())
        .transport(Arc::new(Direct::new(Arc::clone(server))))
        .build()
}

/// The code in the newest mail to an address. The server keeps only a hash of the code, so the reader of the
/// mailbox puts a code of its own there.
fn mailed(server: &Endpoint, email: &str) -> anyhow::Result<&'static str> {
    const CODE: &str = "a code that only the mailbox holds";
    let database = rusqlite::Connection::open(server.data_dir().join("synckit.db"))?;
    let hash: [u8; 32] = Sha256::digest(CODE).into();
    let changed = database.execute(
        "UPDATE pending_accounts SET code = ?1 WHERE email = ?2",
        rusqlite::params![hash, email],
    )?;
    ensure!(changed == 1, "no pending account of {email}");
    Ok(CODE)
}

async fn register(client: &SyncKitClient, email: &str, password: &str) -> anyhow::Result<Registration> {
    passes("a registration", client.create_account(email, password).await)
}

/// Each would be an account of its own, whose mails go to Ada, or to a program.
pub(super) async fn ambiguous_address(stage: Stage) -> anyhow::Result<Evidence> {
    let ada = &stage.golden.ada.email;
    let client = installation(&stage, &stage.server);
    let mut caught_as = String::new();
    for address in [
        format!("x0<{ada}>"),
        format!("\"{ada}\"@elsewhere.example.test"),
        format!("{}%example.test@elsewhere.example.test", ada.replace('@', "%")),
        format!("elsewhere.example.test!{ada}"),
        format!("(a comment){ada}"),
        format!("{ada},eve@elsewhere.example.test"),
        format!("{ada}\r\nBcc: eve@elsewhere.example.test"),
        "eve@[127.0.0.1]".to_owned(),
        "=?utf-8?q?ada=40example.test?=@elsewhere.example.test".to_owned(),
    ] {
        caught_as = caught(client.create_account(&address, SQUATTER).await, |error| {
            error.problem_code() == Some(ProblemCode::InvalidValue)
        })?;
    }
    let registration = register(&client, "x0.ada+notes@elsewhere.example.test", OWNER).await?;
    ensure!(
        matches!(registration, Registration::Complete(_)),
        "the control: {registration:?}"
    );
    Ok(Evidence::new(
        caught_as,
        "an address that every program reads alike is registered",
    ))
}

pub(super) async fn squatted_address(stage: Stage) -> anyhow::Result<Evidence> {
    let server = mailing_server(&stage).await?;
    let is_wrong = |error: &Error| matches!(error, Error::InvalidCredentials);
    let (squatter, owner) = (installation(&stage, &server), installation(&stage, &server));

    // Before its owner: the code of the owner's mail confirms the owner's registration only.
    let email = "carol@example.test";
    for (client, password) in [(&squatter, SQUATTER), (&owner, OWNER)] {
        let registration = register(client, email, password).await?;
        ensure!(registration == Registration::Pending, "{registration:?}");
    }
    let code = mailed(&server, email)?;
    caught(squatter.confirm_account(email, SQUATTER, code).await, is_wrong)?;
    passes("the honest run", owner.confirm_account(email, OWNER, code).await)?;

    // After its owner, who then types the newest code: it fits the squatter's password, and only that.
    let email = "dora@example.test";
    for (client, password) in [(&owner, OWNER), (&squatter, SQUATTER)] {
        register(client, email, password).await?;
    }
    let code = mailed(&server, email)?;
    let caught_at_the_code = caught(owner.confirm_account(email, OWNER, code).await, is_wrong)?;
    let stranger = installation(&stage, &server);
    caught(stranger.authenticate(email, SQUATTER).await, is_wrong)?;

    // Nothing confirms an address where no mail is sent.
    let open = installation(&stage, &stage.server);
    let registration = register(&open, email, SQUATTER).await?;
    ensure!(
        matches!(registration, Registration::Complete(_)),
        "the control: {registration:?}"
    );
    passes("the control", open.authenticate(email, SQUATTER).await)?;
    Ok(Evidence::new(
        caught_at_the_code,
        "on a server that sends no mail, the stranger's account works at once",
    ))
}
