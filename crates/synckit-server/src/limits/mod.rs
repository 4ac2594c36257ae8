//! Limits of one user, one address and the whole server: token buckets, request rates, password guesses, codes of machines,
//! mails, concurrent work, and the reserve of free disk space.
//!
//! Nothing here speaks HTTP. The API turns a refusal into a problem.
//!
//! Invariant: every counter in memory is bounded, whatever keys a client invents. Guesses and mails are counted in the database, where
//! each network address can add a bounded number of rows.

mod capacity;
mod device_codes;
mod disk_reserve;
mod guesses;
mod mails;
mod pool;
mod rates;
mod token_buckets;

pub(crate) use capacity::{Capacity, SMALL_BODY_BYTES_MAX, kib};
pub(crate) use device_codes::DeviceCodes;
pub(crate) use disk_reserve::{DiskNearlyFull, DiskReserve, Reservation, UploadRoom};
pub(crate) use guesses::{AddressPrefix, GuessTotals, Guesses, NotCounted, Ticket};
pub(crate) use mails::{Mailbox, Mails, Registering};
pub(crate) use pool::{Exhausted, Owners, Permit, Pool};
pub(crate) use rates::{Rates, TooManyRequests};
pub(crate) use token_buckets::{Allowances, Rule};
