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

/// The resources of one request, returned when the last clone is dropped: an extension of every admitted request.
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

    /// Notes the owners of a request. It takes its slot now if it has no body, otherwise after its body has arrived.
    pub(crate) fn enter(&self, state: &ServerState, owners: Owners) -> Result<(), ApiError> {
        // The first owners stay.
        let _ = self.0.owners.set(owners);
        if self.0.has_body { Ok(()) } else { self.begin(state) }
    }

    /// Takes a slot.
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
