//! The resources that a request holds while it is processed.
//!
//! A request takes a place after its body has arrived, not before: a client that trickles a body holds a connection and a
//! little memory, and blocks no other client.

use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use http::request::Parts;
use parking_lot::Mutex;
use synckit_protocol::ProblemCode;

use super::ApiError;
use crate::{
    limits::{Exhausted, Owners, Permit},
    state::ServerState,
};

/// The holdings of one request, given back when the last clone is dropped: an extension of every admitted request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work(Arc<Holdings>);

#[derive(Debug, Default)]
struct Holdings {
    has_body: bool,
    owners: OnceLock<Owners>,
    held: Mutex<Vec<Permit>>,
}

impl Work {
    /// The work of a request that has a body, or has none.
    pub(super) fn of_request(request: &Request) -> Self {
        use http_body::Body as _;
        Self(Arc::new(Holdings {
            has_body: !request.body().is_end_stream(),
            ..Holdings::default()
        }))
    }

    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Notes who asks. A request without a body begins to work now, any other when its body was read.
    pub(crate) fn enter(&self, state: &ServerState, owners: Owners) -> Result<(), ApiError> {
        // The first one stays.
        let _ = self.0.owners.set(owners);
        if self.0.has_body { Ok(()) } else { self.begin(state) }
    }

    /// Takes a place at work.
    pub(super) fn begin(&self, state: &ServerState) -> Result<(), ApiError> {
        self.hold(state.capacity.begin_request(self.owners())?);
        Ok(())
    }

    pub(super) fn owners(&self) -> Owners {
        self.0.owners.get().copied().unwrap_or(Owners::NOBODY)
    }

    /// Holds something until the request is answered.
    pub(super) fn hold(&self, permit: Permit) {
        self.0.held.lock().push(permit);
    }
}

impl From<Exhausted> for ApiError {
    fn from(exhausted: Exhausted) -> Self {
        Self::new(ProblemCode::Overloaded).with_detail(match exhausted {
            Exhausted::Total => "the server is at its limit",
            Exhausted::Share => "earlier requests of yours are still at work",
        })
    }
}
