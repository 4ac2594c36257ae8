//! Failures as people see them: what, and what to do about it.

use std::{fmt, io};

/// What a command fails with.
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
}

/// Any error becomes a failure; what can be done about the well-known ones is known here.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let hint = hint_for(&error).map(str::to_owned);
        Self { error, hint }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl Failure {
    /// A failure that the user can do something about.
    pub(crate) fn new(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            hint: Some(hint.into()),
        }
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) {
        eprintln!("error: {:#}", self.error);
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

/// Adds to an error what the user can do about it.
pub(crate) trait WithHint<T> {
    /// Replaces any other hint.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(error, hint))
    }
}

fn hint_for(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<synckit_client::Error>() {
            return hint_for_sdk(error);
        }
        let error = cause.downcast_ref::<io::Error>()?;
        match error.kind() {
            io::ErrorKind::StorageFull => Some("free some space on the disk, or use another one"),
            io::ErrorKind::PermissionDenied => Some("run it as a user who may, or choose another place"),
            _ => None,
        }
    })
}

fn hint_for_sdk(error: &synckit_client::Error) -> Option<&'static str> {
    use synckit_client::{Error, ProblemCode};
    match error {
        Error::InvalidServerUrl { .. } => Some("give the server's address as --server https://sync.example.com"),
        Error::Network(_) => Some("check that the server runs and can be reached from here"),
        Error::ApiKeyInvalid => {
            Some("show the apps with `synckit app list`, make a new key with `synckit app rotate-key`")
        }
        Error::RetryLater { .. } => Some("wait as long as the server asks, then try again"),
        Error::Problem(problem) => match problem.known_code()? {
            ProblemCode::RegistrationClosed => Some("ask the operator for an account, or use another server"),
            ProblemCode::InviteInvalid => Some("get a code with `synckit account invite` and pass it as --invite CODE"),
            _ => None,
        },
        _ => None,
    }
}
