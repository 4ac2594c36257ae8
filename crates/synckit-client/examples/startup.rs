//! How a desktop app starts: from the keychain without a prompt, or with one password prompt on a new device.
//!
//! `SYNCKIT_URL=… SYNCKIT_API_KEY=… cargo run --example startup -- me@example.com`, twice: the second run asks nothing.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::{
    env,
    io::{self, BufRead as _},
};

use anyhow::Context as _;
use synckit_client::{Error, SyncKitClient, SyncKitConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = SyncKitClient::new(SyncKitConfig {
        server_url: env::var("SYNCKIT_URL").context("set SYNCKIT_URL")?,
        api_key: env::var("SYNCKIT_API_KEY").context("set SYNCKIT_API_KEY")?,
    });
    match client.try_load_key_from_keychain() {
        Ok(()) => println!("session and key came from the keychain"),
        // Only an empty keychain leads to a prompt. One that is locked or missing is an error to show, with its hint.
        Err(Error::NoStoredKey) => sign_in(&client).await?,
        Err(error) => return Err(error.into()),
    }
    let device = client.register_device("Desktop", "linux").await?;
    let status = client.status().await?;
    println!(
        "{} is ready; the stream holds {} changes",
        device.device_name, status.change_count
    );
    Ok(())
}

async fn sign_in(client: &SyncKitClient) -> anyhow::Result<()> {
    let email = env::args().nth(1).context("usage: startup EMAIL")?;
    eprint!("password: ");
    let password = io::stdin().lock().lines().next().context("no password")??;
    client.authenticate(&email, &password).await?;
    if client.has_server_key().await? {
        client.setup_encryption_existing(&password).await?;
        println!("this device joined");
    } else {
        client.setup_encryption_new(&password).await?;
        println!("this is the first device");
    }
    Ok(())
}
