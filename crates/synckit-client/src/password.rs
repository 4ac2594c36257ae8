//! Which passwords are taken. The server never sees one, so only the SDK can refuse it, and does so before it sends anything.

use synckit_login::{PASSWORD_BYTES_MAX, check_password};

use crate::error::{Error, Result};

/// Fewest characters of a new password. It is a floor against empty fields and slips, not advice: apps should ask for eight
/// and more (NIST SP 800-63B, 5.1.1.2).
const CHARACTERS_MIN: usize = 4;

/// Refuses a password that no account can have.
pub(crate) fn check(password: &str) -> Result<()> {
    Ok(check_password(password)?)
}

/// Refuses a new password that is no secret: too short, or one character again and again.
pub(crate) fn check_new(password: &str) -> Result<()> {
    let mut characters = password.chars();
    let first = characters.next();
    if password.chars().count() < CHARACTERS_MIN {
        return Err(refused(format!(
            "a new password needs {CHARACTERS_MIN} characters or more"
        )));
    }
    if characters.all(|character| Some(character) == first) {
        return Err(refused(
            "a new password needs two different characters or more".to_owned(),
        ));
    }
    check(password)
}

/// The error of a password that no account can have.
pub(crate) fn unusable() -> Error {
    refused(format!("it is empty, or longer than {PASSWORD_BYTES_MAX} bytes"))
}

fn refused(reason: String) -> Error {
    Error::InvalidArgument {
        argument: "password",
        reason,
    }
}
