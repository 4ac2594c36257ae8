//! Confirmation of an irreversible action.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::anyhow;

use crate::{failure::Failure, shown::shown};

/// Asks for `answer`, unless `yes` on the command line has confirmed already. Fails without a terminal.
pub(crate) fn confirm(yes: bool, consequence: &str, answer: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            anyhow!("confirmation is needed, but standard input is not a terminal: {consequence}"),
            "add --yes",
        )
        .with_code("not_confirmed"));
    }
    let mut prompt = io::stderr().lock();
    write!(prompt, "{}\nType {} to continue: ", shown(consequence), shown(answer))?;
    prompt.flush()?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim().eq_ignore_ascii_case(answer.trim()) {
        return Ok(());
    }
    Err(Failure::new(
        anyhow!("nothing was changed"),
        format!("type {answer} to confirm, or add --yes"),
    )
    .with_code("not_confirmed"))
}
