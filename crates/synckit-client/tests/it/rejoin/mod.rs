//! Going on after the server was restored from an older copy, or past a batch that nobody can read: by the user's
//! decision, and with nothing lost.

mod app;
mod refused;
mod restored;
mod rotated;
mod skipped;
