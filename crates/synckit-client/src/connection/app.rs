//! One app on one server: the part that all users of a client share.

use synckit_protocol::{ApiKey, AppId};

use super::api::Api;
use crate::{error::Result, secrets::records::Secrets, state::pending::PendingAddress, tampering::Tampering};

/// The API of the server, the app's key, and the app's store of secrets.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) api: Api,
    pub(crate) api_key: String,
    /// Requested size of one page of a pull in sealed bytes.
    pub(crate) page_bytes: u32,
    pub(crate) secrets: Secrets,
    /// The address that was registered and is not confirmed yet.
    pub(crate) pending: PendingAddress,
}

impl App {
    /// The app of the API key. The server is never asked for it.
    pub(crate) fn app_id(&self) -> Result<AppId> {
        Ok(ApiKey::publishable(&self.api_key)?.app_id())
    }

    /// Refuses an answer about another app: a hostile server could lead this app into another app's stream.
    pub(crate) fn check_app(&self, answered: AppId) -> Result<()> {
        if answered == self.app_id()? {
            Ok(())
        } else {
            Err(Tampering::OtherApp { answered }.into())
        }
    }
}
