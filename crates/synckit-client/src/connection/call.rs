//! One request and its answer, as typed values.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use synckit_protocol::{MEDIA_TYPE_CBOR, MEDIA_TYPE_JSON, SecretText, is_well_formed_cbor};
use url::form_urlencoded;

use crate::error::{Error, Result};

/// A request that can be repeated. Clones share the body.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) bearer: Option<&'a SecretText>,
    pub(crate) body: Option<Bytes>,
    pub(crate) encoding: Encoding,
    pub(crate) attempts: Attempts,
}

/// How a call is written, and how its answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Both in CBOR.
    Cbor,
    /// A form, answered in JSON: the endpoints of OAuth.
    Form,
}

impl Encoding {
    /// The media type of the body.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Cbor => MEDIA_TYPE_CBOR,
            Self::Form => "application/x-www-form-urlencoded",
        }
    }

    /// The media type of the answer.
    pub(crate) const fn accept(self) -> &'static str {
        match self {
            Self::Cbor => MEDIA_TYPE_CBOR,
            Self::Form => MEDIA_TYPE_JSON,
        }
    }
}

/// The number of attempts before an error is returned to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// One: the caller decides about the next attempt.
    One,
    /// As many as [`crate::connection::retry`] allows.
    Several,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            bearer: None,
            body: None,
            encoding: Encoding::Cbor,
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

    /// Sends an already encoded body.
    pub(crate) fn encoded_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    /// Sends a form, to be answered in JSON.
    pub(crate) fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        self.encoding = Encoding::Form;
        self.encoded_body(form.into())
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

    /// Sends a token with the call.
    pub(crate) fn bearer(mut self, token: &'a SecretText) -> Self {
        self.bearer = Some(token);
        self
    }
}

/// A successful answer, with its whole body. Only the status and type that are documented for the endpoint count: a
/// proxy or a captive portal answers every request with a page of its own, and a success.
#[derive(Debug)]
#[must_use = "a success counts only as the answer that is documented"]
pub(crate) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// Decodes the fields of an answer with a body.
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T> {
        self.of_status(StatusCode::OK)
            .filter(|body| is_well_formed_cbor(body))
            .and_then(|body| minicbor_serde::from_slice(body).ok())
            .ok_or_else(|| self.unexpected("a CBOR body of this endpoint"))
    }

    /// Decodes the fields of an answer to a form.
    pub(crate) fn decode_json<T: DeserializeOwned>(self) -> Result<T> {
        self.of_status(StatusCode::OK)
            .and_then(|body| serde_json::from_slice(body).ok())
            .ok_or_else(|| self.unexpected("a JSON body of this endpoint"))
    }

    /// Checks that this is an answer without a body.
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
