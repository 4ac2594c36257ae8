//! The number of connections that the descriptors of the process allow.

use crate::{platform::raise_descriptor_limit, startup::config::Bounds};

/// Descriptors that are neither connections nor blobs: the database, the listener, the log, mails, the runtime.
const OTHERS: u64 = 64;
/// The least that is served with.
const CONNECTIONS_MIN: u64 = 4;

/// The connections that this process can serve at once: as many as configured, if the descriptors are enough for them and
/// for a file for each transfer. Raises the limit of the process first, and warns if that is too low.
pub(super) fn connections_to_serve(bounds: &Bounds) -> usize {
    let Some(limit) = raise_descriptor_limit() else {
        return bounds.connections;
    };
    let affordable = affordable_connections(limit, bounds.transfers as u64);
    if affordable >= bounds.connections as u64 {
        return bounds.connections;
    }
    tracing::warn!(
        descriptors = limit,
        connections_max = bounds.connections,
        connections = affordable,
        "the process may open too few descriptors for connections_max: fewer connections are served; raise LimitNOFILE"
    );
    usize::try_from(affordable).unwrap_or(bounds.connections)
}

fn affordable_connections(limit: u64, transfers: u64) -> u64 {
    let free = limit.saturating_sub(OTHERS);
    // A transfer takes two: its connection and its file.
    let connections = if free >= transfers.saturating_mul(2) {
        free - transfers
    } else {
        free / 2
    };
    connections.max(CONNECTIONS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_their_files_fit_the_limit() {
        for limit in [128, 256, 1024, 65_536] {
            let connections = affordable_connections(limit, 128);
            assert!(connections + connections.min(128) + OTHERS <= limit, "{limit}");
        }
        assert_eq!(affordable_connections(1024, 128), 832);
        assert_eq!(affordable_connections(0, 128), CONNECTIONS_MIN);
    }
}
