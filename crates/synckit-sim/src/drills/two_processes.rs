//! Two processes of one app on one device: one credential store, one session, one device id, and no word between them.
//!
//! Both push, pull and change the key. Now and then the server forgets the key that signed their token, so that both
//! refresh the session at the same moment, from the same secret.

use std::{fs, process::Command, sync::mpsc, thread};

use anyhow::{Context as _, ensure};

use super::{
    Sizes, block_on,
    books::{Books, whole_log},
    client::journal_file,
    journal::{Journal, Record},
    process::{Process, Programs},
    site::{Launch, Site},
};
use crate::golden::{Account, Member};

/// Changes of the key by each process.
const KEY_CHANGES: u32 = 3;

pub(super) fn run(programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
    let mut site = Site::open(programs, Launch::default())?;
    let account = block_on(site.sign_up("ada", 2))?;
    let member = account.devices.first().context("no device")?.clone();
    let names = ["left", "right"];
    let (lines, said) = mpsc::channel();
    let mut processes = Vec::new();
    for (index, name) in names.into_iter().enumerate() {
        let process = site.start_client(live(&site, &account, &member, name, sizes, index as u64))?;
        processes.push(watch(process, lines.clone()));
    }
    drop(lines);

    // Each line is something that was done; the tokens are lost at even distances of them.
    let every = usize::try_from(sizes.batches * 2 / (u64::from(sizes.kills) + 1))?.max(1);
    let mut lost = 0;
    for (number, _) in said.iter().enumerate() {
        if number % every == every - 1 && lost < sizes.kills {
            lost += 1;
            site.stop()?;
            fs::remove_file(site.data_dir().join("keys/tokens.json"))?;
            site.start()?;
        }
    }
    for process in processes {
        let ended = process.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?;
        ended.context("one of two processes of a device")?;
    }

    let pulls = block_on(audit(&site, &account, &names))?;
    Ok(format!(
        "{} batches and {} changes of the key by two processes, {lost} times both lost their token at once: every \
         acknowledged entry is there exactly once ({}), both read the same history, nobody was signed out, no false alarm",
        sizes.batches * 2,
        KEY_CHANGES * 2,
        pulls
    ))
}

fn live(site: &Site, account: &Account, member: &Member, name: &str, sizes: &Sizes, index: u64) -> Command {
    let mut command = site.client_command(member);
    command
        .args(["live", "--process", name, "--password", &account.password])
        .args(["--seed", &(sizes.seed * 2 + index).to_string()])
        .args(["--batches", &sizes.batches.to_string()])
        .args(["--key-changes", &KEY_CHANGES.to_string()]);
    command
}

/// Passes a process's lines on, and waits for its end.
fn watch(process: Process, lines: mpsc::Sender<String>) -> thread::JoinHandle<anyhow::Result<()>> {
    thread::spawn(move || {
        while let Some(line) = process.next_line() {
            // Nobody listens any more once the drill has failed.
            let _ = lines.send(line);
        }
        process.finish()
    })
}

async fn audit(site: &Site, account: &Account, names: &[&str]) -> anyhow::Result<u64> {
    let reader = account.devices.last().context("no device")?;
    let client = site.resumed(&reader.name)?;
    client.setup_encryption_existing(&account.password).await?;
    let log = whole_log(&client, reader.id).await?;
    let mut books = Books::default();
    for name in names {
        let records = Journal::read(&journal_file(site.directory(), name))?;
        books.enter(&records);
        let applied = records.iter().filter_map(|record| match record {
            Record::Applied { rows, .. } => Some(rows),
            _ => None,
        });
        let applied: Vec<&String> = applied.flatten().collect();
        let is_beginning =
            applied.len() <= log.len() && applied.iter().zip(&log).all(|(row, entry)| **row == entry.row_id);
        ensure!(is_beginning, "{name} has read another history");
    }
    ensure!(books.open() == 0, "{} batches were never acknowledged", books.open());
    Ok(books.audit(&log)?.acknowledged)
}
