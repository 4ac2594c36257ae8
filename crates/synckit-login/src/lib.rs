//! Sign-in without revealing the password to the server: OPAQUE (RFC 9807), both sides, as suite 1 of the protocol.
//!
//! A registration takes two messages each way and gives the server a record. A login takes three messages and gives the
//! client the [`ExportKey`], from which the keys of the account vault are derived. Each side ends with a proof of the
//! other's secret.
//!
//! ```text
//! registration  ClientRegistration::start --request-->  ServerLogin::register
//!               ClientRegistration::finish <-response--
//!               RegistrationFinished.upload --------->  ServerLogin::finish_registration -> record to store
//!
//! login         ClientLogin::start --------ke1------->  ServerLogin::start (record, or None) -> state to keep
//!               ClientLogin::finish <------ke2--------
//!               LoginFinished.ke3 ------------------->  ServerLogin::finish (state)
//! ```
//!
//! ```
//! use rand::rngs::OsRng;
//! use synckit_login::{ClientLogin, ClientRegistration, ServerLogin};
//! use synckit_protocol::AppId;
//!
//! # fn main() -> Result<(), synckit_login::LoginError> {
//! let server = ServerLogin::generate(&mut OsRng);
//!
//! let (client, request) = ClientRegistration::start("correct horse", &mut OsRng)?;
//! let response = server.register(&request, &[7; 16])?; // 16 fresh random bytes
//! let registered = client.finish(&response, &mut OsRng)?;
//! let record = ServerLogin::finish_registration(&registered.upload)?;
//!
//! let app_id = AppId::from_bytes([1; 16]); // of the API key
//! let (client, ke1) = ClientLogin::start("correct horse", &mut OsRng)?;
//! let (state, ke2) = server.start(app_id, Some(&record), &ke1, &[7; 16], &mut OsRng)?;
//! let login = client.finish(app_id, &ke2, Some(&registered.server_public_key), &mut OsRng)?;
//! ServerLogin::finish(app_id, &state, &login.ke3)?;
//! assert_eq!(login.export_key, registered.export_key);
//! # Ok(())
//! # }
//! ```
//!
//! This crate deliberately stores nothing, sends nothing, counts no guesses, and has no source of randomness of its
//! own. Messages are opaque bytes of fixed length.
//!
//! Invariant: parameters are compiled in ([`SUITE`]); no value from the peer chooses an algorithm or a cost.

mod client;
mod error;
mod export_key;
mod server;
mod suite;

pub use client::{
    ClientLogin, ClientRegistration, LoginFinished, PASSWORD_BYTES_MAX, RegistrationFinished, check_password,
};
pub use error::LoginError;
pub use export_key::{ExportKey, ServerPublicKey};
pub use server::ServerLogin;
pub use suite::{
    KE1_BYTES, KE2_BYTES, KE3_BYTES, LOGIN_STATE_BYTES, RECORD_BYTES, REGISTRATION_REQUEST_BYTES,
    REGISTRATION_RESPONSE_BYTES, REGISTRATION_UPLOAD_BYTES, SERVER_SETUP_BYTES, SUITE, login_context,
};
