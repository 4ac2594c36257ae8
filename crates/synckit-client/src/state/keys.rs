//! The keys of a stream.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;
use synckit_crypto::{KeyRing, StreamKeys, StreamScope};
use synckit_protocol::{KeyId, Position, SealedHash};

/// The keys of the stream, derived from its key ring.
pub(crate) struct Keys {
    pub(crate) ring: KeyRing,
    current: Arc<StreamKeys>,
    retired: HashMap<KeyId, Arc<StreamKeys>>,
    ends: Ends,
}

/// Whether retired keys have an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Enforced,
    Ignored,
}

impl Keys {
    pub(crate) fn new(scope: &StreamScope, ring: KeyRing) -> Self {
        Self::with_ends(scope, ring, Ends::Enforced)
    }

    /// Keys without the ends of the retired ones: for a history without these rotations, which the user decided to
    /// accept.
    pub(crate) fn without_ends(scope: &StreamScope, ring: KeyRing) -> Self {
        Self::with_ends(scope, ring, Ends::Ignored)
    }

    fn with_ends(scope: &StreamScope, ring: KeyRing, ends: Ends) -> Self {
        let current = Arc::new(ring.current().subkeys(scope));
        let retired = ring
            .retired()
            .iter()
            .map(|retired| (retired.key_id(), Arc::new(retired.key().subkeys(scope))))
            .collect();
        Self {
            ring,
            current,
            retired,
            ends,
        }
    }

    /// The keys that new batches and blobs are sealed under.
    pub(crate) fn current(&self) -> &Arc<StreamKeys> {
        &self.current
    }

    /// The keys with this id, including retired ones.
    pub(crate) fn find(&self, key_id: &KeyId) -> Option<&Arc<StreamKeys>> {
        if *key_id == self.current.key_id {
            Some(&self.current)
        } else {
            self.retired.get(key_id)
        }
    }

    /// Whether a batch that ends at `after` may be sealed under this key: a retired key has a last position.
    pub(crate) fn permits(&self, key_id: &KeyId, after: Position) -> bool {
        let key = self.ring.key_for(key_id);
        key.is_some_and(|key| self.ends == Ends::Ignored || key.permits(after))
    }

    /// Whether a snapshot may be sealed under this key: a retired key covers only the snapshot that was the newest at
    /// its end.
    pub(crate) fn permits_snapshot(&self, key_id: &KeyId, position: Position, manifest: SealedHash) -> bool {
        let key = self.ring.key_for(key_id);
        key.is_some_and(|key| self.ends == Ends::Ignored || key.permits_snapshot(position, manifest))
    }
}

/// The keys in memory. Absent until encryption is set up.
#[derive(Default)]
pub(crate) struct KeyState(RwLock<Option<Arc<Keys>>>);

impl KeyState {
    pub(crate) fn current(&self) -> Option<Arc<Keys>> {
        self.0.read().clone()
    }

    pub(crate) fn install(&self, keys: Keys) {
        *self.0.write() = Some(Arc::new(keys));
    }
}

impl fmt::Debug for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyState").field(&self.0.read().is_some()).finish()
    }
}
