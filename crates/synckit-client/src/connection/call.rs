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

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Decodes the body of a successful answer.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        minicbor_serde::from_slice(&self.body).map_err(|_| Error::Protocol {
            status: self.status.as_u16(),
            reason: "a CBOR body of this endpoint",
        })
    }
}
