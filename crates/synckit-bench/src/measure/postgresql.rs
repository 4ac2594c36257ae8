//! The rows of a server on PostgreSQL, beside those of the embedded database in the same run.
//!
//! Driver, server and database share the cores. The processor time is that of the server and of every process named
//! `postgres` on this machine.

use std::path::Path;

use synckit_client::SyncKitConfig;

use super::{account::Account, figures::Row, machine::Machine, many_accounts, one_user, server::ServerProcess};
use crate::cli::{BenchRow, DatabaseUrl, MeasureArgs};

pub(super) async fn measure(
    args: &MeasureArgs,
    program: &Path,
    directory: &Path,
    machine: &Machine,
    database: &DatabaseUrl,
) -> anyhow::Result<Vec<Row>> {
    let (mut server, api_key) = ServerProcess::start(program, &directory.join("postgresql"), Some(database), "")?;
    let config = SyncKitConfig {
        server_url: server.url.clone(),
        api_key,
    };
    let mut rows = Vec::new();
    if args.wants(BenchRow::Sdk) {
        let account = Account::create(config.clone()).await?;
        let (laptop, phone) = (account.first_device().await?, account.device("phone").await?);
        rows.extend(one_user::measure(args, machine, &mut server, &laptop, &phone).await?);
    }
    if args.wants(BenchRow::Users) || args.wants(BenchRow::Singles) {
        rows.extend(many_accounts(args, machine, &server, &config).await?);
    }
    server.stop()?;
    Ok(rows.into_iter().map(on_postgresql).collect())
}

/// The row under an id of its own, with the target for PostgreSQL.
fn on_postgresql(row: Row) -> Row {
    let is_of_row_before = row.name.starts_with(' ');
    let name = row.name.replace("server CPU", "server and database CPU");
    let name = if is_of_row_before {
        name
    } else {
        format!("on PostgreSQL: {name}")
    };
    let id = format!("postgresql_{}", row.id);
    let row = row.of_other_server(id, name);
    match row.id.as_str() {
        "postgresql_push" => row.at_least(150_000.0),
        "postgresql_pull" => row.at_least(500_000.0),
        "postgresql_push_users" => row.at_least(300_000.0),
        "postgresql_pull_users" => row.at_least(2_000_000.0),
        "postgresql_push_singles" => row.at_least(6_000.0),
        "postgresql_push_cpu" | "postgresql_push_users_cpu" => row.at_most(2.0),
        "postgresql_pull_cpu" | "postgresql_pull_users_cpu" => row.at_most(0.5),
        _ => row,
    }
}
