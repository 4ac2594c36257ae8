//! `synckit device`: the devices of a user, for the user.

use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use synckit_client::{Device, DeviceId, DeviceSession, SessionId, SyncKitClient};
use synckit_protocol::{ProblemCode, wire::devices::Platform};

use crate::{
    cli::{DeviceCommand, SignInArgs},
    confirm::confirm,
    failure::Failure,
    runtime, screen, units,
    user::signed_in,
};

const ROTATED: &str = "The master key was replaced: every other device asks for the password once. Later changes are \
     readable only with the new key.";

pub(crate) fn run(command: DeviceCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            DeviceCommand::List { sign_in } => list(&sign_in).await,
            DeviceCommand::EndSession { session, sign_in } => end_session(&session, &sign_in).await,
            DeviceCommand::Rename { device, name, sign_in } => rename(&device, &name, &sign_in).await,
            DeviceCommand::SafetyCode { sign_in } => safety_code(&sign_in).await,
            DeviceCommand::RotateKey { yes, sign_in } => rotate_key(yes, &sign_in).await,
            DeviceCommand::ReplaceAccountKey { yes, sign_in } => replace_account_key(yes, &sign_in).await,
            DeviceCommand::Revoke {
                device,
                rotate,
                yes,
                sign_in,
            } => revoke(&device, rotate, yes, &sign_in).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Listed<'a> {
    device_id: DeviceId,
    name: &'a str,
    platform: Platform,
    created_at: u64,
    last_seen_at: u64,
}

impl<'a> Listed<'a> {
    fn new(device: &'a Device) -> Self {
        Self {
            device_id: device.id,
            name: &device.device_name,
            platform: device.platform,
            created_at: device.created_at,
            last_seen_at: device.last_seen_at,
        }
    }
}

#[derive(Serialize)]
struct ListedSession {
    session_id: SessionId,
    device_id: Option<DeviceId>,
    created_at: u64,
    refreshed_at: u64,
}

async fn list(sign_in: &SignInArgs) -> Result<(), Failure> {
    let (devices, mut sessions) = signed_in(sign_in, async |user| {
        Ok((user.client.devices().await?, user.client.device_sessions().await?))
    })
    .await?;
    // The session of a command that asked for the password ends with it.
    sessions.retain(|session| !session.current || session.device_id.is_some());
    if screen::is_for_programs() {
        let sessions: Vec<ListedSession> = sessions
            .iter()
            .map(|session| ListedSession {
                session_id: session.id,
                device_id: session.device_id,
                created_at: session.created_at,
                refreshed_at: session.refreshed_at,
            })
            .collect();
        let devices: Vec<Listed<'_>> = devices.iter().map(Listed::new).collect();
        return Ok(screen::json(
            &serde_json::json!({ "devices": devices, "sessions": sessions }),
        )?);
    }
    list_devices(&devices, &sessions);
    list_homeless(&sessions);
    Ok(())
}

fn list_devices(devices: &[Device], sessions: &[DeviceSession]) {
    if devices.is_empty() {
        screen::line("no devices: none has been registered in this app, or all were revoked");
        return;
    }
    let rows: Vec<Vec<String>> = devices
        .iter()
        .map(|device| {
            vec![
                device.device_name.clone(),
                device.platform.to_string(),
                sessions
                    .iter()
                    .filter(|session| session.device_id == Some(device.id))
                    .count()
                    .to_string(),
                device.id.to_string(),
                units::date(device.created_at),
                units::date(device.last_seen_at),
            ]
        })
        .collect();
    screen::table(
        &["name", "platform", "sessions", "id", "registered", "last seen"],
        &rows,
        &[2],
    );
}

/// Lists sessions without a device, which no revocation ends.
fn list_homeless(sessions: &[DeviceSession]) {
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .filter(|session| session.device_id.is_none())
        .map(|session| {
            vec![
                session.id.to_string(),
                units::date(session.created_at),
                units::date(session.refreshed_at),
            ]
        })
        .collect();
    if rows.is_empty() {
        return;
    }
    screen::line("");
    screen::line(
        "Sessions without a device. If one is not yours: `synckit device end-session ID`, then a new password.",
    );
    screen::table(&["session", "signed in", "last refreshed"], &rows, &[]);
}

async fn end_session(session: &str, sign_in: &SignInArgs) -> Result<(), Failure> {
    let unknown = || {
        Failure::new(
            anyhow!("this account has no session {session:?}"),
            "`synckit device list` shows the sessions without a device",
        )
        .with_code("session_not_found")
    };
    let id: SessionId = session.parse().map_err(|_| unknown())?;
    signed_in(sign_in, async |user| match user.client.revoke_session(id).await {
        Err(error) if error.problem_code() == Some(ProblemCode::SessionNotFound) => Err(unknown()),
        ended => Ok(ended?),
    })
    .await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "session_id": id, "ended": true }))?);
    }
    screen::line("The session has ended.");
    Ok(())
}

async fn rename(wanted: &str, name: &str, sign_in: &SignInArgs) -> Result<(), Failure> {
    let (before, renamed) = signed_in(sign_in, async |user| {
        let device = find(wanted, &user.client).await?;
        let renamed = user.client.rename_device(device.id, name).await?;
        Ok((device.device_name, renamed))
    })
    .await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&Listed::new(&renamed))?);
    }
    screen::line(format_args!("{before} is now called {}", renamed.device_name));
    Ok(())
}

async fn revoke(wanted: &str, rotate: bool, yes: bool, sign_in: &SignInArgs) -> Result<(), Failure> {
    let device = signed_in(sign_in, async |user| {
        let client = &user.client;
        let device = find(wanted, client).await?;
        let consequence = format!(
            "This revokes {} permanently: to sync again, it must sign in as a new device.",
            device.device_name
        );
        confirm(yes, &consequence, &device.device_name)?;
        if rotate {
            // Check the password before revoking the device, because afterwards a failure would leave half the work
            // undone.
            let password = user.password()?;
            client.setup_encryption_existing(password).await?;
            client.revoke_device_and_rotate(device.id, password).await?;
        } else {
            client.revoke_device(device.id).await?;
        }
        Ok(device)
    })
    .await?;
    if screen::is_for_programs() {
        let revoked = serde_json::json!({
            "device_id": device.id, "name": device.device_name, "revoked": true, "rotated": rotate,
        });
        return Ok(screen::json(&revoked)?);
    }
    screen::line(format_args!(
        "{} is revoked: all of its sessions end within 5 seconds. It keeps the data that it already holds.",
        device.device_name
    ));
    screen::line(if rotate {
        ROTATED
    } else {
        "If it was lost or stolen, replace the master key as well: `synckit device rotate-key`."
    });
    Ok(())
}

async fn safety_code(sign_in: &SignInArgs) -> Result<(), Failure> {
    let code = signed_in(sign_in, async |user| {
        user.open_keys().await?;
        Ok(user.client.safety_code().await?)
    })
    .await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "safety_code": code.to_string() }))?);
    }
    screen::line(code);
    screen::note(format_args!(
        "A device with other words holds other keys: compare again; if they still differ, revoke it and do not trust the server."
    ));
    Ok(())
}

async fn rotate_key(yes: bool, sign_in: &SignInArgs) -> Result<(), Failure> {
    confirm(
        yes,
        "This replaces the master key: every other device asks for the password once.",
        "yes",
    )?;
    signed_in(sign_in, async |user| {
        let password = user.password()?;
        user.client.setup_encryption_existing(password).await?;
        Ok(user.client.rotate_keys(password).await?)
    })
    .await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "rotated": true }))?);
    }
    screen::line(ROTATED);
    Ok(())
}

async fn replace_account_key(yes: bool, sign_in: &SignInArgs) -> Result<(), Failure> {
    confirm(
        yes,
        "This replaces the account key and the master key of this app. The recovery code stops working, and other apps of the \
         account need it once more, or a device that holds their keys.",
        "yes",
    )?;
    signed_in(sign_in, async |user| {
        Ok(user.client.replace_account_key(user.password()?).await?)
    })
    .await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "replaced": true, "rotated": true }))?);
    }
    screen::line(ROTATED);
    screen::line("The old recovery code no longer opens the data of this app: create a new one in the app.");
    Ok(())
}

/// Finds a device by id or name.
async fn find(wanted: &str, client: &SyncKitClient) -> Result<Device, Failure> {
    let devices = client.devices().await?;
    let id = wanted.parse::<DeviceId>().ok();
    devices
        .into_iter()
        .find(|device| Some(device.id) == id || device.device_name == wanted)
        .ok_or_else(|| {
            Failure::new(
                anyhow!("this account has no device {wanted:?} in this app"),
                "`synckit device list` shows the devices of this account",
            )
            .with_code("device_not_found")
        })
}
