//! Limits: guesses, request rates, concurrent work.

mod guesses;
mod overload;
mod quotas;
mod rates;

pub(crate) use overload::figure;
