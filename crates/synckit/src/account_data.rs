//! `synckit account export` and `synckit account delete`: an operator's duties towards a user of the server.

use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::{
    admin::{account_of, open},
    cli::DataArgs,
    confirm::confirm,
    failure::{Failure, WithHint as _},
    screen, units,
};

/// Writes a temporary file and renames it at the end, so that the final name never means an incomplete export.
pub(crate) async fn export(email: &str, out: &Path, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let user_id = account_of(&admin, email).await?;
    let directory = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if out.exists() {
        return Err(Failure::new(
            anyhow!("{} exists already", out.display()),
            "name a new file with --out",
        )
        .with_code("export_exists"));
    }
    // A temporary file is private from its creation, because it holds a user's data.
    let file = tempfile::NamedTempFile::new_in(directory).with_context(|| format!("cannot write {}", out.display()))?;
    let writer = tokio::io::BufWriter::new(tokio::fs::File::from_std(file.reopen()?));
    let lines = admin.export_account(user_id, writer).await?;
    file.as_file().sync_all()?;
    file.persist_noclobber(out)
        .map_err(|error| anyhow!(error.error).context(format!("cannot write {}", out.display())))
        .hint("name a new file with --out")?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "user_id": user_id, "out": out.to_string_lossy(), "lines": lines }),
        )?);
    }
    screen::line(format_args!(
        "{} written to {}",
        units::counted(lines, "line"),
        out.display()
    ));
    screen::line(
        "Lines of the kind \"blob\" name files; each is in the data directory as blobs/<first byte>/<object key>.",
    );
    Ok(())
}

pub(crate) async fn delete(email: &str, yes: bool, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let user_id = account_of(&admin, email).await?;
    let consequence = format!("This deletes {email} and all of the account's data, in every app, for good.");
    confirm(yes, &consequence, email)?;
    let sessions_ended = admin.delete_account(user_id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "user_id": user_id, "deleted": true, "sessions_ended": sessions_ended }),
        )?);
    }
    let ended = units::counted(sessions_ended as u64, "session");
    screen::line(format_args!("{email} is deleted, and {ended} ended"));
    screen::line(
        "The server sweeps the account's files within two hours. Backups, and mails in mail/, are yours to clear.",
    );
    Ok(())
}
