//! Where a form was sent from.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::{HeaderValue, request::Parts};

/// Where a form was sent from, as far as the browser says so (Fetch Metadata).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// This server's page, or a program that is no browser.
    Own,
    /// No page: a typed address, a bookmark, a link in a mail.
    Nowhere,
    /// A page of another site.
    Foreign,
}

impl<S: Send + Sync> FromRequestParts<S> for Site {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let site = parts.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        Ok(match site {
            None | Some(b"same-origin") => Self::Own,
            Some(b"none") => Self::Nowhere,
            Some(_) => Self::Foreign,
        })
    }
}
