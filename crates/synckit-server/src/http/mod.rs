//! HTTP as the API speaks it: bodies in JSON or CBOR, problems, request ids, addresses, and the bounds on connections.
//!
//! This module knows nothing of the resources of the API.

mod address;
mod body;
mod connections;
mod drain;
mod error;
mod fields;
mod framing;
mod observe;
mod pace;
mod site;
mod stall;
mod turn;
mod work;

pub(crate) use address::{ClientAddress, PeerAddress};
pub(crate) use body::{
    Form, Format, MEDIA_TYPE_FORM, PathText, Received, Reply, announced_length, content_format, decode,
    held_until_sent, malformed, read_body,
};
pub(crate) use connections::serve_connections;
pub(crate) use error::ApiError;
pub(crate) use fields::Fields;
pub(crate) use observe::{Observer, RequestScope, admit, count_by_address, observe};
pub(crate) use pace::Pace;
pub(crate) use site::Site;
pub(crate) use work::Work;
