//! Limits: guesses, request rates, concurrent work.

mod guesses;
mod overload;
mod rates;

pub(crate) use overload::figure;
