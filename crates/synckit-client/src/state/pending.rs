//! The address that this client registered last, while it is not confirmed.
//!
//! Only for a better error: the server does not tell a pending account from none.

use std::fmt;

use parking_lot::Mutex;

#[derive(Default)]
pub(crate) struct PendingAddress(Mutex<Option<String>>);

impl PendingAddress {
    pub(crate) fn set(&self, email: &str) {
        *self.0.lock() = Some(email.to_owned());
    }

    pub(crate) fn is(&self, email: &str) -> bool {
        self.0.lock().as_deref() == Some(email)
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = None;
    }
}

impl fmt::Debug for PendingAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingAddress")
    }
}
