//! Several accounts of one app on one device: listed, chosen, forgotten.

use synckit_protocol::UserId;

use crate::{
    client::SyncKitClient,
    connection::session::read_session,
    error::{Error, Result},
    secrets::accounts::{Accounts, StoredAccount, use_account},
};

impl SyncKitClient {
    /// The accounts whose session and keys are on this device, in the order of their first sign-in. At most 64. Blocks, as
    /// [`SyncKitClient::try_load_key_from_keychain`] does.
    ///
    /// # Errors
    /// [`Error::Credentials`] if the keychain cannot be read.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// for account in client.stored_accounts()? {
    ///     println!("go on as {}", account.email.as_deref().unwrap_or("somebody"));
    /// }
    /// # assert_eq!(client.stored_accounts()?.len(), 1);
    /// # Ok(())
    /// # });
    /// ```
    pub fn stored_accounts(&self) -> Result<Vec<StoredAccount>> {
        Ok(Accounts::read(&self.app.secrets)?.stored)
    }

    /// Continues as one of the stored accounts, without a prompt and without the server, and uses it at the next start,
    /// too. The account that was signed in before stays stored. Blocks.
    ///
    /// # Errors
    /// [`Error::NoStoredKey`] if this account has no stored session or key, [`Error::Credentials`] if the keychain
    /// cannot be read.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (ada, password) = (client.user_id().unwrap(), world.password);
    /// # client.setup_encryption_new(password).await?;
    /// # client.create_account("bob@example.com", password).await?;
    /// client.authenticate("bob@example.com", password).await?; // another user of this machine
    /// client.load_account(ada)?; // and back
    /// assert_eq!(client.user_id(), Some(ada));
    /// assert_eq!(client.stored_accounts()?.len(), 2);
    /// # Ok(())
    /// # });
    /// ```
    pub fn load_account(&self, user_id: UserId) -> Result<()> {
        self.app.api.server()?;
        match self.stream() {
            Ok(stream) if stream.scope().user_id == user_id => stream.load()?,
            _ => self.load(user_id)?,
        }
        Ok(use_account(&self.app.secrets, user_id, None)?)
    }

    /// Ends the session of a stored account on the server and forgets its session and keys on this device, as
    /// [`SyncKitClient::sign_out`] does for the account that is signed in.
    ///
    /// # Errors
    /// [`Error::Network`] if the server could not be reached; the device has forgotten the account anyway.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (ada, password) = (client.user_id().unwrap(), world.password);
    /// # client.create_account("bob@example.com", password).await?;
    /// # client.authenticate("bob@example.com", password).await?;
    /// client.forget_account(ada).await?;
    /// assert!(client.stored_accounts()?.iter().all(|account| account.user_id != ada));
    /// assert!(client.user_id().is_some()); // bob is still signed in
    /// # Ok(())
    /// # });
    /// ```
    pub async fn forget_account(&self, user_id: UserId) -> Result<()> {
        if let Ok(stream) = self.stream()
            && stream.scope().user_id == user_id
        {
            return self.end_session(&stream).await;
        }
        let stored = self
            .app
            .secrets
            .run(move |secrets| read_session(secrets, user_id))
            .await?;
        match stored {
            Some((scope, tokens)) => self.end_session(&self.new_stream(scope, tokens)).await,
            None => self.forget(user_id).await,
        }
    }
}

impl SyncKitClient {
    /// Signs in a user from the stored records. Fails without a change if the session or the key is missing.
    pub(crate) fn load(&self, user_id: UserId) -> Result<()> {
        let (scope, tokens) = read_session(&self.app.secrets, user_id)?.ok_or(Error::NoStoredKey)?;
        let stream = self.new_stream(scope, tokens);
        stream.load()?;
        self.adopt(stream);
        Ok(())
    }
}
