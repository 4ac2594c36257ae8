//! One app on one server: what every user of a client shares.

use synckit_protocol::{ApiKey, AppId};

use super::api::Api;
use crate::{error::Result, secrets::records::Secrets, tampering::Tampering};

/// How the server is reached, as which app, and where the app keeps its secrets.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) api: Api,
    pub(crate) api_key: String,
    /// How many sealed bytes one page of a pull requests.
    pub(crate) page_bytes: u32,
    pub(crate) secrets: Secrets,
}

impl App {
    /// The app that the API key names. The server is never asked which one this is.
    pub(crate) fn app_id(&self) -> Result<AppId> {
        Ok(ApiKey::publishable(&self.api_key)?.app_id())
    }

    /// Refuses an answer about another app: a hostile server could lead this one into the stream of the other.
    pub(crate) fn check_app(&self, answered: AppId) -> Result<()> {
        if answered == self.app_id()? {
            Ok(())
        } else {
            Err(Tampering::OtherApp { answered }.into())
        }
    }
}
