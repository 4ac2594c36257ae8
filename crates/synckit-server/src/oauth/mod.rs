//! Sign-in by browser: an authorization server for the apps of this server (RFC 6749 with PKCE, RFC 9700), and its pages.
//!
//! The handlers are in `api::oauth`. Nothing of a sign-in by browser is stored before a code is exchanged: what happens between two
//! requests is sealed and carried by the browser, so any node can go on.

mod assets;
mod device;
mod filters;
mod pages;
mod redirect;
mod request;
mod sealed;

pub(crate) use device::{Allowed, Machine, Question, UserCode};
pub(crate) use pages::{Exchange, Page, Pages, VaultPage, WORKER_POLICY, common_headers};
pub use redirect::RedirectError;
pub(crate) use redirect::{check as check_redirect, is_permitted, target};
pub(crate) use request::{Authorization, Refused, answer, is_text, is_verifier, query, read};
pub(crate) use sealed::{
    Code, Grant, open_authorization, open_code, open_grant, seal_authorization, seal_code, seal_grant,
};
