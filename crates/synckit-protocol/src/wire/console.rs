//! `/console`: what the pages for app developers ask by script.

use serde::{Deserialize, Serialize};

/// How far the first steps with an app have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FirstSteps {
    /// Somebody has signed in.
    pub signed_in: bool,
    /// Something was pushed.
    pub pushed: bool,
    /// An account has a second device, which is not revoked. Only the first accounts of the app are looked at.
    pub second_device: bool,
}
