//! Limits: guesses, request rates, concurrent work.

mod guesses;
mod overload;
mod rates;
