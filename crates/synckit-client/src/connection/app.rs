//! One app on one server: what every user of a client shares.

use super::api::Api;
use crate::secrets::records::Secrets;

/// How the server is reached, as which app, and where the app keeps its secrets.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) api: Api,
    pub(crate) api_key: String,
    /// How many sealed bytes one page of a pull requests.
    pub(crate) page_bytes: u32,
    pub(crate) secrets: Secrets,
}
