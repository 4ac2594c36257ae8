//! The floor under new passwords. The server never sees one, so only the SDK can refuse it.

use crate::error::{Error, Result};

/// Fewest characters of a new password. It is a floor against empty fields and slips, not advice: apps should ask for eight
/// and more (NIST SP 800-63B, 5.1.1.2).
const CHARACTERS_MIN: usize = 4;

/// Refuses a new password that is no secret: too short, or one character again and again.
pub(crate) fn check(password: &str) -> Result<()> {
    let refused = |reason: String| {
        Err(Error::InvalidArgument {
            argument: "password",
            reason,
        })
    };
    let mut characters = password.chars();
    let first = characters.next();
    if password.chars().count() < CHARACTERS_MIN {
        return refused(format!("a new password needs {CHARACTERS_MIN} characters or more"));
    }
    if characters.all(|character| Some(character) == first) {
        return refused("a new password needs two different characters or more".to_owned());
    }
    Ok(())
}
