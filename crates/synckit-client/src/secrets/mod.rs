//! Where a session and its keys live between two starts of the app.

pub(crate) mod credentials;
