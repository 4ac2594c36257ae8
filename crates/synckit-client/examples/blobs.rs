//! Files with progress: uploads a file, downloads it again, and compares.
//!
//! `SYNCKIT_URL=… SYNCKIT_API_KEY=… cargo run --example blobs -- FILE`, after `startup` has signed in.
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use synckit_client::{BlobProgress, SyncKitClient, SyncKitConfig};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = SyncKitClient::new(SyncKitConfig {
        server_url: env::var("SYNCKIT_URL").context("set SYNCKIT_URL")?,
        api_key: env::var("SYNCKIT_API_KEY").context("set SYNCKIT_API_KEY")?,
    });
    client
        .try_load_key_from_keychain()
        .context("run the example startup first")?;
    let source = PathBuf::from(env::args().nth(1).context("usage: blobs FILE")?);
    let show = |what: &'static str| {
        move |progress: BlobProgress| {
            let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
            eprint!("\r{what} {percent} %");
        }
    };
    let hash = client.blob_put(&source, show("up")).await?;
    let target = source.with_extension("downloaded");
    let size = client.blob_get(&hash, &target, show("down")).await?;
    eprintln!();
    ensure!(fs::read(&source)? == fs::read(&target)?, "the two files differ");
    println!("{size} bytes came back as they went; their SHA-256 is {hash}");
    Ok(())
}
