//! Devices and the state of the stream in numbers.

use http::Method;
use synckit_protocol::{
    DeviceId, limits,
    wire::{
        devices::{Device, DeviceList, Platform, RegisterDevice, RenameDevice},
        log::Status,
    },
};

use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
};

impl SyncKitClient {
    /// Registers this installation under a name that people recognise, or finds it again by that name. `platform` is
    /// one of `macos`, `windows`, `linux`, `ios`, `android`, `web`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown platform, or a name that is empty or longer than 100 bytes;
    /// [`Error::Problem`] with `device_limit`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// let device = client.register_device("MacBook", "macos").await?;
    /// // The same name at the next start is the same device.
    /// assert_eq!(client.register_device("MacBook", "macos").await?.id, device.id);
    /// assert!(client.register_device("Toaster", "toaster").await.is_err()); // not a platform
    /// # Ok(())
    /// # });
    /// ```
    pub async fn register_device(&self, name: &str, platform: &str) -> Result<Device> {
        let platform: Platform = platform.parse().map_err(|error| Error::InvalidArgument {
            argument: "platform",
            reason: format!("{error}"),
        })?;
        check_name(name)?;
        let request = RegisterDevice {
            device_name: name.to_owned(),
            platform,
        };
        self.stream()?
            .connection
            .authorized(Call::post("/api/sync/devices").body(&request)?)
            .await?
            .decode()
    }

    /// The devices of the user in this app.
    ///
    /// # Errors
    /// Those of any call.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// client.register_device("MacBook", "macos").await?;
    /// client.register_device("Pixel", "android").await?;
    /// let names: Vec<String> = client.devices().await?.into_iter().map(|device| device.device_name).collect();
    /// assert_eq!(names, ["MacBook", "Pixel"]);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn devices(&self) -> Result<Vec<Device>> {
        let list: DeviceList = self
            .stream()?
            .connection
            .authorized(Call::get("/api/sync/devices"))
            .await?
            .decode()?;
        Ok(list.devices)
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that is empty or longer than 100 bytes; [`Error::Problem`] with
    /// `device_not_found`, or with `invalid_value` if another device has this name.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// let device = client.register_device("MacBook", "macos").await?;
    /// let renamed = client.rename_device(device.id, "MacBook in the kitchen").await?;
    /// assert_eq!((renamed.id, renamed.device_name.as_str()), (device.id, "MacBook in the kitchen"));
    /// // The name is what finds the device at the next start.
    /// assert_eq!(client.register_device("MacBook in the kitchen", "macos").await?.id, device.id);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn rename_device(&self, device_id: DeviceId, name: &str) -> Result<Device> {
        check_name(name)?;
        let request = RenameDevice {
            device_name: name.to_owned(),
        };
        let call = Call::new(Method::PATCH, format!("/api/sync/devices/{device_id}")).body(&request)?;
        self.stream()?.connection.authorized(call).await?.decode()
    }

    /// Revokes a device: its sessions end within seconds, and its name becomes free. What it already holds, it keeps.
    ///
    /// # Errors
    /// [`Error::Problem`] with `device_not_found`.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_doctest::note;
    /// # let (client, _) = world.device("laptop").await?;
    /// # let (phone, lost) = world.device("phone").await?;
    /// client.revoke_device(lost.id).await?;
    /// assert!(phone.push(lost.id, vec![note("1", "Buy milk")]).await.is_err());
    /// assert_eq!(client.devices().await?.len(), 1);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn revoke_device(&self, device_id: DeviceId) -> Result<()> {
        self.stream()?
            .connection
            .authorized_unit(Call::new(Method::DELETE, format!("/api/sync/devices/{device_id}")))
            .await
    }

    /// The state of the stream in numbers, as the server claims it.
    ///
    /// # Errors
    /// Those of any call.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// # use synckit_doctest::note;
    /// client.push(device.id, vec![note("1", "Buy milk")]).await?;
    /// let status = client.status().await?;
    /// assert_eq!((status.change_count, status.devices), (1, 1));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn status(&self) -> Result<Status> {
        self.stream()?
            .connection
            .authorized(Call::get("/api/sync/status"))
            .await?
            .decode()
    }
}

fn check_name(name: &str) -> Result<()> {
    if (1..=limits::DEVICE_NAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        argument: "name",
        reason: format!("a device name has 1 to {} bytes", limits::DEVICE_NAME_BYTES_MAX),
    })
}
