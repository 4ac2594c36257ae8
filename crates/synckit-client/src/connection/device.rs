//! The device of a session: its registration, and its automatic registration after a sign-in.
//!
//! A session belongs to one device permanently, and a new session to none. The record of the device outlives sessions,
//! so that an app keeps its device. The server finds the device again by the installation, a random id that this SDK
//! draws for each user of an app and sends only to the server.

use rand::{RngCore as _, rngs::OsRng};
use serde::{Deserialize, Serialize};
use synckit_protocol::{
    DeviceId, InstallationId, ProblemCode,
    wire::devices::{Device, Platform, RegisterDevice},
};
use zeroize::Zeroizing;

use super::{
    call::{Answer, Call},
    session::Connection,
};
use crate::{
    error::Result,
    secrets::{error::CredentialError, records::Record},
};

/// The record of the device in the credential store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceRecord {
    /// `None` in a store that ends with the process: after a restart, the id would be lost.
    installation_id: Option<InstallationId>,
    device: Option<RegisteredDevice>,
}

/// The device of the app's last registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RegisteredDevice {
    id: DeviceId,
    name: String,
    platform: Platform,
}

impl Connection {
    /// Registers this installation, or finds its device again.
    pub(crate) async fn register_device(&self, name: &str, platform: Platform) -> Result<Device> {
        let stored = self.device_record().await?;
        let mut record = stored.clone();
        if record.installation_id.is_none() && self.secrets().is_lasting() {
            record.installation_id = Some(draw());
            // Store the id before the request: if the answer is lost, the next registration must find the same device.
            self.store_device(&record).await?;
        }
        let request = RegisterDevice {
            device_name: name.to_owned(),
            platform,
            installation_id: record.installation_id,
        };
        let device: Device = self
            .authorized(Call::post("/api/sync/devices").body(&request)?)
            .await?
            .decode()?;
        record.device = Some(RegisteredDevice {
            id: device.id,
            name: name.to_owned(),
            platform,
        });
        if record != stored {
            self.store_device(&record).await?;
        }
        Ok(device)
    }

    /// The device of the app's last registration.
    pub(crate) async fn registered_device(&self) -> Result<Option<DeviceId>> {
        Ok(self.device_record().await?.device.map(|device| device.id))
    }

    /// Sends a call that names a device. A session without a device is first bound to it, if it is the device that this
    /// installation registered last.
    pub(crate) async fn authorized_as(&self, device_id: DeviceId, call: Call<'_>) -> Result<Answer> {
        match self.authorized(call.clone()).await {
            Err(error) if error.is_problem(ProblemCode::DeviceMismatch) => {
                if self.register_again(device_id).await? {
                    self.authorized(call).await
                } else {
                    Err(error)
                }
            }
            answer => answer,
        }
    }

    /// Repeats the app's last registration for a new session. `false` if that was another device.
    async fn register_again(&self, device_id: DeviceId) -> Result<bool> {
        match self.device_record().await?.device {
            Some(device) if device.id == device_id => {
                let found = self.register_device(&device.name, device.platform).await?;
                Ok(found.id == device_id)
            }
            _ => Ok(false),
        }
    }

    /// Notes a new name of this device: without an installation, the server finds the device by its name.
    pub(crate) async fn note_renamed(&self, renamed: &Device) -> Result<()> {
        let mut record = self.device_record().await?;
        match &mut record.device {
            Some(device) if device.id == renamed.id && record.installation_id.is_none() => {
                device.name.clone_from(&renamed.device_name);
            }
            _ => return Ok(()),
        }
        self.store_device(&record).await
    }

    async fn device_record(&self) -> Result<DeviceRecord> {
        let user_id = self.scope().user_id;
        let bytes = self
            .secrets()
            .run(move |secrets| secrets.read(Record::Device(user_id)))
            .await?;
        let Some(bytes) = bytes else {
            return Ok(DeviceRecord::default());
        };
        Ok(minicbor_serde::from_slice(&bytes).map_err(|_| CredentialError::Damaged("device"))?)
    }

    async fn store_device(&self, record: &DeviceRecord) -> Result<()> {
        let user_id = self.scope().user_id;
        let bytes = Zeroizing::new(minicbor_serde::to_vec(record).map_err(|_| CredentialError::Damaged("device"))?);
        self.secrets()
            .run(move |secrets| secrets.write(Record::Device(user_id), &bytes))
            .await
    }
}

fn draw() -> InstallationId {
    let mut bytes = [0; 16];
    OsRng.fill_bytes(&mut bytes);
    InstallationId::from_bytes(bytes)
}
