//! How a store uses a PostgreSQL.

use std::time::Duration;

use crate::{OpenedBy, rules::quotas::Quotas};

/// How a [`crate::PostgresStore`] uses the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// On whose behalf it is opened. A command by default, which changes no schema under a server.
    pub opened_by: OpenedBy,
    /// Maximum connections, from 1 to [`PostgresOptions::CONNECTIONS_MAX`]: a value outside is taken as the nearer bound.
    /// Sixteen by default.
    pub connections: usize,
    /// How long a request waits for a connection before it fails with [`crate::Unavailable::Acquire`]. Five seconds by
    /// default.
    pub acquire_timeout: Duration,
    /// How long a new connection may take before it fails with [`crate::Unavailable::Connect`]. Five seconds by default.
    pub connect_timeout: Duration,
    /// How long a statement may take before it fails with [`crate::Unavailable::Statement`], from a millisecond to
    /// [`PostgresOptions::STATEMENT_TIMEOUT_MAX`]: a value outside is taken as the nearer bound. Thirty seconds by default.
    pub statement_timeout: Duration,
    /// The quotas of one account. Nodes that store at the same moment may exceed one by what they store at that moment.
    pub quotas: Quotas,
}

impl PostgresOptions {
    /// The most connections of one store: far more than a PostgreSQL serves well.
    pub const CONNECTIONS_MAX: usize = 10_000;
    /// The longest time limit of a statement. PostgreSQL counts it in milliseconds, in 32 bits.
    pub const STATEMENT_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            opened_by: OpenedBy::Command,
            connections: 16,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            quotas: Quotas::default(),
        }
    }
}
