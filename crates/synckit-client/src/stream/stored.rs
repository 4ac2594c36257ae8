//! The records of a stream in the credential store: the keys, the newest known position, the skipped span.

use synckit_crypto::{Envelope, KeyRing};
use synckit_protocol::UserId;
use zeroize::Zeroizing;

use super::handle::Stream;
use crate::{
    error::{Error, Result},
    history::ledger::SkippedSpan,
    runtime,
    secrets::{
        error::CredentialError,
        records::{Record, Secrets},
    },
    state::keys::Keys,
};

impl Stream {
    /// The key ring in the credential store.
    pub(crate) async fn stored_ring(&self) -> Result<Option<KeyRing>> {
        let scope = self.scope();
        let record = self
            .connection
            .secrets()
            .run(move |secrets| secrets.read(Record::Keys(scope.user_id)))
            .await?;
        record
            .map(|record| KeyRing::from_secret_bytes(&scope, &record).map_err(Error::Key))
            .transpose()
    }

    /// Makes keys current in memory and in the credential store.
    pub(crate) async fn install_keys(&self, ring: KeyRing, envelope: &Envelope) -> Result<()> {
        self.restore().await?;
        self.state.know(ring.floor());
        let secret = Zeroizing::new(ring.to_secret_bytes().to_vec());
        self.key_state.install(Keys::new(&self.scope(), ring));
        self.store_keys(secret, envelope).await
    }

    /// Writes a key ring to the credential store.
    pub(crate) async fn store_keys(&self, secret: Zeroizing<Vec<u8>>, envelope: &Envelope) -> Result<()> {
        let (user_id, envelope) = (self.scope().user_id, envelope.encode());
        self.connection
            .secrets()
            .run(move |secrets| {
                secrets.write(Record::Keys(user_id), &secret)?;
                secrets.write(Record::Envelope(user_id), &envelope)
            })
            .await
    }

    /// Restores the known history from the credential store.
    pub(crate) async fn restore(&self) -> Result<()> {
        let user_id = self.scope().user_id;
        let (positions, skipped) = self
            .connection
            .secrets()
            .run(move |secrets| read_history(secrets, user_id))
            .await?;
        self.state.restore(
            positions.as_deref().map(Vec::as_slice),
            skipped.as_deref().map(Vec::as_slice),
        );
        Ok(())
    }

    /// Restores everything from the credential store. Blocks. Fails without a change if the key is missing.
    pub(crate) fn load(&self) -> Result<()> {
        let (scope, secrets) = (self.scope(), self.connection.secrets());
        let ring = secrets.read(Record::Keys(scope.user_id))?.ok_or(Error::NoStoredKey)?;
        let ring = KeyRing::from_secret_bytes(&scope, &ring).map_err(Error::Key)?;
        let (positions, skipped) = read_history(secrets, scope.user_id)?;
        self.state.restore(
            positions.as_deref().map(Vec::as_slice),
            skipped.as_deref().map(Vec::as_slice),
        );
        self.state.know(ring.floor());
        self.key_state.install(Keys::new(&scope, ring));
        Ok(())
    }

    /// Writes the newest known position to the credential store, at most once a minute, so that the device still
    /// notices a rolled-back server after a restart.
    pub(crate) async fn save_position(&self) -> Result<()> {
        if self.state.take_save(runtime::now()) {
            self.save_position_now().await?;
        }
        Ok(())
    }

    pub(crate) async fn save_position_now(&self) -> Result<()> {
        let (user_id, record) = (self.scope().user_id, self.state.to_record());
        self.connection
            .secrets()
            .run(move |secrets| secrets.write(Record::Position(user_id), &record))
            .await
    }

    /// Remembers the span of skipped batches, in the credential store and in memory.
    pub(crate) async fn store_skipped(&self, skipped: Option<SkippedSpan>) -> Result<()> {
        let (user_id, record) = (self.scope().user_id, skipped.map(|skipped| skipped.encode()));
        self.connection
            .secrets()
            .run(move |secrets| match record {
                Some(record) => secrets.write(Record::Skipped(user_id), &record),
                None => secrets.delete(Record::Skipped(user_id)),
            })
            .await?;
        self.state.skip(skipped);
        Ok(())
    }
}

type Bytes = Option<Zeroizing<Vec<u8>>>;

/// The records of positions and of the skipped span.
fn read_history(secrets: &Secrets, user_id: UserId) -> Result<(Bytes, Bytes), CredentialError> {
    Ok((
        secrets.read(Record::Position(user_id))?,
        secrets.read(Record::Skipped(user_id))?,
    ))
}
