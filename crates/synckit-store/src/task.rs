//! The abnormal end of a task, as far as it may be logged: see `panics` of the server, which sets the panic hook.

use std::any::Any;

use tokio::task::JoinError;

/// In the place of a text that was made while the program ran.
const WITHHELD: &str = "(a text that may quote a request, withheld)";

/// Why a task did not end by itself. In place of [`JoinError`], which shows the text of a panic.
#[derive(Debug, thiserror::Error)]
pub enum TaskLost {
    /// It panicked.
    #[error("panic: {0}")]
    Panicked(&'static str),
    /// The runtime stopped before it began.
    #[error("the task was cut off")]
    CutOff,
}

impl TaskLost {
    /// From a caught panic.
    pub fn by_panic(payload: &(dyn Any + Send)) -> Self {
        Self::Panicked(panic_text(payload))
    }
}

impl From<JoinError> for TaskLost {
    fn from(error: JoinError) -> Self {
        match error.try_into_panic() {
            Ok(payload) => Self::by_panic(payload.as_ref()),
            Err(_) => Self::CutOff,
        }
    }
}

/// The text of a panic, if it was written into the program.
pub fn panic_text(payload: &(dyn Any + Send)) -> &'static str {
    // A message that was formatted at run time is a `String`.
    payload.downcast_ref::<&'static str>().copied().unwrap_or(WITHHELD)
}
