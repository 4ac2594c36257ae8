//! Limits: guesses, request rates, concurrent work.

mod guesses;
mod mail_queue;
mod overload;
mod plans;
mod quotas;
mod rates;

pub(crate) use overload::{figure, patiently, wait_for};
