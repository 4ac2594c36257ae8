//! One request and its answer, before and after they are bytes.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use synckit_protocol::SecretText;

use crate::error::{Error, Result};

/// A request that can be sent again. Clones share the body.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) bearer: Option<&'a SecretText>,
    pub(crate) body: Option<Bytes>,
    pub(crate) attempts: Attempts,
}

/// How often a call is sent before its error is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// Once: the caller has something to look at before the next.
    One,
    /// As often as [`crate::connection::retry`] says.
    Several,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            bearer: None,
            body: None,
            attempts: Attempts::Several,
        }
    }

    pub(crate) fn once(mut self) -> Self {
        self.attempts = Attempts::One;
        self
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// Encodes a body in CBOR.
    pub(crate) fn body(self, body: &impl Serialize) -> Result<Self> {
        Ok(self.encoded_body(Self::encode(body)?))
    }

    /// Sends a body that was encoded before.
    pub(crate) fn encoded_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Encodes a body in CBOR.
    pub(crate) fn encode(body: &impl Serialize) -> Result<Bytes> {
        minicbor_serde::to_vec(body)
            .map(Bytes::from)
            .map_err(|_| Error::InvalidArgument {
                argument: "request",
                reason: "it cannot be encoded".into(),
            })
    }

    /// Sends a token along.
    pub(crate) fn bearer(mut self, token: &'a SecretText) -> Self {
        self.bearer = Some(token);
        self
    }
}

/// A successful answer, read whole. Only the one that is documented for its endpoint counts: a proxy or a captive portal
/// answers every request with a page of its own, and a success.
#[derive(Debug)]
#[must_use = "a success counts only as the answer that is documented"]
pub(crate) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The fields of an answer that has some.
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T> {
        self.of_status(StatusCode::OK)
            .and_then(|body| minicbor_serde::from_slice(body).ok())
            .ok_or_else(|| self.unexpected("a CBOR body of this endpoint"))
    }

    /// Checks that this is the answer that has none.
    pub(crate) fn empty(self) -> Result<()> {
        match self.of_status(StatusCode::NO_CONTENT) {
            Some(body) if body.is_empty() => Ok(()),
            _ => Err(self.unexpected("no content (status 204)")),
        }
    }

    fn of_status(&self, status: StatusCode) -> Option<&Bytes> {
        (self.status == status).then_some(&self.body)
    }

    fn unexpected(&self, reason: &'static str) -> Error {
        Error::Protocol {
            status: self.status.as_u16(),
            reason,
        }
    }
}
