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

/// The code in a mail to an address, counted from 0. The server keeps only hashes of the codes, so the reader of the
/// mailbox puts codes of its own there.
fn mailed(server: &Endpoint, email: &str, number: u32) -> anyhow::Result<String> {
    let code = format!("code {number} that only the mailbox of {email} holds");
    let database = rusqlite::Connection::open(server.data_dir().join("synckit.db"))?;
    let hash: [u8; 32] = Sha256::digest(&code).into();
    let changed = database.execute(
        "UPDATE pending_accounts SET code = ?1 WHERE pending_key =
         (SELECT pending_key FROM pending_accounts WHERE email = ?2 ORDER BY pending_key LIMIT 1 OFFSET ?3)",
        rusqlite::params![hash, email, number],
    )?;
    ensure!(changed == 1, "no pending account of {email}");
    Ok(code)
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

    // Before and after its owner, who has all codes. Each fits the password of its own registration, and only that.
    let email = "carol@example.test";
    for (client, password) in [(&squatter, SQUATTER), (&owner, OWNER), (&squatter, SQUATTER)] {
        let registration = register(client, email, password).await?;
        ensure!(registration == Registration::Pending, "{registration:?}");
    }
    let mut caught_at_the_code = String::new();
    for number in [0, 2] {
        let code = mailed(&server, email, number)?;
        caught_at_the_code = caught(owner.confirm_account(email, OWNER, &code).await, is_wrong)?;
    }
    let own = mailed(&server, email, 1)?;
    caught(squatter.confirm_account(email, SQUATTER, &own).await, is_wrong)?;
    passes("the honest run", owner.confirm_account(email, OWNER, &own).await)?;
    let stranger = installation(&stage, &server);
    caught(stranger.authenticate(email, SQUATTER).await, is_wrong)?;

    // Nothing confirms an address where no mail is sent.
    let email = "dora@example.test";
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
