//! The handle of one stream: its connection, its keys, its state.

use std::sync::Arc;

use synckit_crypto::StreamScope;
use synckit_protocol::Position;

use crate::{
    connection::session::Connection,
    error::{Error, Result},
    runtime::Turns,
    state::{
        keys::{KeyState, Keys},
        line::Line,
        news::NewsTasks,
        stream::StreamState,
        uploads::PendingUploads,
    },
};

/// The stream of one user of one app. All of its state ends with it; another user gets another stream.
pub(crate) struct Stream {
    pub(crate) connection: Arc<Connection>,
    pub(crate) key_state: KeyState,
    pub(crate) state: StreamState,
    pub(crate) uploads: PendingUploads,
    /// Serialises changes of the record of unfinished uploads.
    pub(crate) noting: Turns,
    pub(crate) line: Line,
    pub(crate) news: NewsTasks,
    /// Serialises writes: parallel pushes of one client would only cause each other's retries.
    pub(crate) writing: Turns,
}

impl Stream {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
            key_state: KeyState::default(),
            state: StreamState::default(),
            uploads: PendingUploads::default(),
            noting: Turns::default(),
            line: Line::default(),
            news: NewsTasks::default(),
            writing: Turns::default(),
        }
    }

    pub(crate) fn scope(&self) -> StreamScope {
        self.connection.scope()
    }

    /// The keys in memory.
    pub(crate) fn keys(&self) -> Result<Arc<Keys>> {
        self.key_state.current().ok_or(Error::EncryptionNotSetUp)
    }

    /// The first position of the stream.
    pub(crate) fn start(&self) -> Position {
        let StreamScope { app_id, user_id } = self.scope();
        Position::start_of(app_id, user_id)
    }

    /// The newest position that this device knows; new batches are sealed on top of it.
    pub(crate) fn newest_known(&self) -> Position {
        self.state.known().unwrap_or_else(|| self.start())
    }
}
