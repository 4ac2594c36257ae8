//! Devices and the state of the stream in numbers.

use http::Method;
use synckit_protocol::{
    DeviceId, check_name, limits,
    wire::{
        devices::{Device, DeviceList, DeviceSession, Platform, RenameDevice},
        log::Status,
    },
};

use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
};

impl SyncKitClient {
    /// Registers this installation under a name that people recognise, or finds its device again. Call it at every
    /// start: the same installation is the same device, also after a new sign-in and after a rename. `platform` is one
    /// of `macos`, `windows`, `linux`, `ios`, `android`, `web`.
    ///
    /// Show the returned name. It differs from `name` if the device was renamed, or if another device of the user
    /// already has this name (`MacBook (2)`). A credential store that ends with the process, like
    /// [`MemoryStore`](crate::MemoryStore), cannot recognise the installation: its device is found by the name.
    ///
    /// From now on the session belongs to this device. After a new sign-in the SDK registers the device again by
    /// itself, as soon as a call names it. After a revocation the next call of this method registers a new device, with
    /// another id.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown platform, or a name that is empty or longer than 100 bytes;
    /// [`Error::Problem`] with `device_limit`, or with `device_mismatch` if the session belongs to another device.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// let device = client.register_device("MacBook", "macos").await?;
    /// println!("this device is called {}", device.device_name);
    /// // The next start is the same device.
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
        check_device_name(name)?;
        self.stream()?.connection.register_device(name, platform).await
    }

    /// The device that this installation registered last, if it did. It is another one than before if the device was revoked, the
    /// user signed in again, and a call named the old device: [`Error::Problem`] with `device_mismatch`.
    ///
    /// # Errors
    /// [`Error::NotSignedIn`], [`Error::Credentials`]. No request is made.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// assert_eq!(client.registered_device().await?, None);
    /// let device = client.register_device("MacBook", "macos").await?;
    /// assert_eq!(client.registered_device().await?, Some(device.id));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn registered_device(&self) -> Result<Option<DeviceId>> {
        self.stream()?.connection.registered_device().await
    }

    /// The devices of the user in this app.
    ///
    /// # Errors
    /// Those of any call.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, _) = world.device("MacBook").await?;
    /// # world.device("Pixel").await?;
    /// let names: Vec<String> = client.devices().await?.into_iter().map(|device| device.device_name).collect();
    /// assert_eq!(names, ["MacBook", "Pixel"]);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn devices(&self) -> Result<Vec<Device>> {
        Ok(self.device_list().await?.devices)
    }

    /// The sessions of the user in this app, newest first, each with its device: for display beside the devices. A
    /// session without a device cannot read or write the log, and no revocation of a device ends it:
    /// [`SyncKitClient::revoke_session`] does.
    ///
    /// # Errors
    /// Those of any call.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("MacBook").await?;
    /// # let elsewhere = world.signed_in().await?;
    /// for session in client.device_sessions().await? {
    ///     match session.device_id {
    ///         Some(id) => println!("signed in on {id}, last refreshed at {}", session.refreshed_at),
    ///         None => println!("signed in without a device: was it you?"),
    ///     }
    /// }
    /// # let sessions = client.device_sessions().await?;
    /// # assert_eq!(sessions.iter().map(|session| session.device_id).collect::<Vec<_>>(), [None, Some(device.id)]);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn device_sessions(&self) -> Result<Vec<DeviceSession>> {
        Ok(self.device_list().await?.sessions)
    }

    async fn device_list(&self) -> Result<DeviceList> {
        let call = Call::get("/api/sync/devices");
        self.stream()?.connection.authorized(call).await?.decode()
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
    /// # use synckit_client::{FileStore, SyncKitClient};
    /// # world.signed_in().await?;
    /// # let store = FileStore::new(world.path("credentials.json"));
    /// # let client = SyncKitClient::builder(world.config()).credential_store(store).build();
    /// # client.authenticate(world.email, world.password).await?;
    /// let device = client.register_device("MacBook", "macos").await?;
    /// let renamed = client.rename_device(device.id, "MacBook in the kitchen").await?;
    /// assert_eq!((renamed.id, renamed.device_name.as_str()), (device.id, "MacBook in the kitchen"));
    /// // It is the same device at the next start, and keeps the name.
    /// let registered = client.register_device("MacBook", "macos").await?;
    /// assert_eq!((registered.id, registered.device_name), (device.id, renamed.device_name));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn rename_device(&self, device_id: DeviceId, name: &str) -> Result<Device> {
        check_device_name(name)?;
        let request = RenameDevice {
            device_name: name.to_owned(),
        };
        let call = Call::new(Method::PATCH, format!("/api/sync/devices/{device_id}")).body(&request)?;
        let connection = &self.stream()?.connection;
        let renamed: Device = connection.authorized(call).await?.decode()?;
        connection.note_renamed(&renamed).await?;
        Ok(renamed)
    }

    /// Revokes a device: all of its sessions end within seconds, and its name becomes free. The device keeps the data
    /// that it already holds.
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

fn check_device_name(name: &str) -> Result<()> {
    check_name(name, limits::DEVICE_NAME_BYTES_MAX).map_err(|error| Error::InvalidArgument {
        argument: "name",
        reason: error.to_string(),
    })
}
