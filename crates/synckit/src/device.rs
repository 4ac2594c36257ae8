//! `synckit device`: the devices of a user, as the user sees and ends them.

use std::process::ExitCode;

use anyhow::anyhow;
use serde::Serialize;
use synckit_client::{Device, DeviceId, SyncKitClient};
use synckit_protocol::wire::devices::Platform;

use crate::{
    cli::{DeviceCommand, SignInArgs},
    confirm::confirm,
    failure::Failure,
    runtime, screen, units,
    user::signed_in,
};

const ROTATED: &str = "The master key was replaced: every other device asks for the password once, and who has only the old \
     key reads nothing that is written from now on.";

pub(crate) fn run(command: DeviceCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            DeviceCommand::List { sign_in } => list(&sign_in).await,
            DeviceCommand::Rename { device, name, sign_in } => rename(&device, &name, &sign_in).await,
            DeviceCommand::RotateKey { yes, sign_in } => rotate_key(yes, &sign_in).await,
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

async fn list(sign_in: &SignInArgs) -> Result<(), Failure> {
    let devices = signed_in(sign_in, async |user| Ok(user.client.devices().await?)).await?;
    if screen::is_for_programs() {
        let listed: Vec<Listed<'_>> = devices.iter().map(Listed::new).collect();
        return Ok(screen::json(&listed)?);
    }
    if devices.is_empty() {
        screen::line("no devices: none has been registered in this app, or all were revoked");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = devices
        .iter()
        .map(|device| {
            vec![
                device.device_name.clone(),
                device.platform.to_string(),
                device.id.to_string(),
                units::date(device.created_at),
                units::date(device.last_seen_at),
            ]
        })
        .collect();
    screen::table(&["name", "platform", "id", "registered", "last seen"], &rows, &[]);
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
        let (client, password) = (&user.client, user.password.expose());
        let device = find(wanted, client).await?;
        let consequence = format!(
            "This revokes {} permanently: to sync again, it must sign in as a new device.",
            device.device_name
        );
        confirm(yes, &consequence, &device.device_name)?;
        if rotate {
            // Before the device is shut out: what can fail with the password must fail while nothing is half done.
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
        "{} is revoked: its sessions end within 5 seconds. What it holds already, it keeps.",
        device.device_name
    ));
    screen::line(if rotate {
        ROTATED
    } else {
        "If it was lost or stolen, replace the master key as well: `synckit device rotate-key`."
    });
    Ok(())
}

async fn rotate_key(yes: bool, sign_in: &SignInArgs) -> Result<(), Failure> {
    confirm(
        yes,
        "This replaces the master key: every other device asks for the password once.",
        "yes",
    )?;
    signed_in(sign_in, async |user| {
        let password = user.password.expose();
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

/// The device that an id or a name means.
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
