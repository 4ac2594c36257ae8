//! Rows of tables that are not synced, and that refer to synced rows by a foreign key.
//!
//! Our connection enforces no foreign keys, because the merge decides what follows a deletion. It does not know tables that belong
//! to this device only, so that here their rows follow the deletions of other devices as the schema says.

use rusqlite::{Connection, Result, params_from_iter};

use crate::{
    inspect::catalog::{Kind, TableInfo, quoted},
    rows::Value,
    sql::Bound,
};

/// A foreign key of a table that is not synced.
#[derive(Debug)]
pub(crate) struct Follower {
    table: String,
    parent: String,
    /// The columns here, and those there.
    columns: Vec<(String, String)>,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// RESTRICT and NO ACTION, too: the parent is gone in the log already.
    Delete,
    /// The columns get these expressions.
    Set(Vec<String>),
}

/// The foreign keys of all tables but the synced ones.
pub(crate) fn followers(all: &[TableInfo], is_synced: impl Fn(&str) -> bool) -> Vec<Follower> {
    let others = all
        .iter()
        .filter(|table| table.kind == Kind::Table && !is_synced(&table.name));
    let followers = others.flat_map(|table| {
        let keys = table.foreign_keys.iter();
        keys.filter_map(|key| {
            let parent = all.iter().find(|known| known.name.eq_ignore_ascii_case(&key.parent))?;
            let there = key.columns.iter().zip(parent.key());
            let columns: Vec<(String, String)> = match key.columns.iter().all(|(_, there)| there.is_some()) {
                true => key
                    .columns
                    .iter()
                    .filter_map(|(here, there)| Some((here.clone(), there.clone()?)))
                    .collect(),
                false => there
                    .map(|((here, _), there)| (here.clone(), there.name.clone()))
                    .collect(),
            };
            Some(Follower {
                table: table.name.clone(),
                parent: parent.name.clone(),
                action: action(table, key.on_delete.as_str(), &columns),
                columns,
            })
        })
    });
    followers.collect()
}

fn action(table: &TableInfo, on_delete: &str, columns: &[(String, String)]) -> Action {
    let default = |name: &String| table.column(name).and_then(|column| column.default.clone());
    let columns = columns.iter().map(|(here, _)| here);
    match on_delete.to_ascii_uppercase().as_str() {
        "SET NULL" => Action::Set(columns.map(|_| "NULL".to_owned()).collect()),
        "SET DEFAULT" => Action::Set(
            columns
                .map(|name| default(name).unwrap_or_else(|| "NULL".into()))
                .collect(),
        ),
        _ => Action::Delete,
    }
}

impl Follower {
    fn names(&self) -> (String, String) {
        let here: Vec<String> = self.columns.iter().map(|(here, _)| quoted(here)).collect();
        let there: Vec<String> = self.columns.iter().map(|(_, there)| quoted(there)).collect();
        (here.join(", "), there.join(", "))
    }

    /// Whether the app enforces the foreign key: no row leads nowhere.
    fn is_enforced(&self, connection: &Connection) -> Result<bool> {
        let (here, there) = self.names();
        let not_null: Vec<String> = self
            .columns
            .iter()
            .map(|(here, _)| format!("{} IS NOT NULL", quoted(here)))
            .collect();
        let sql = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {} WHERE {} AND ({here}) NOT IN (SELECT {there} FROM {}))",
            quoted(&self.table),
            not_null.join(" AND "),
            quoted(&self.parent)
        );
        connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
    }
}

/// Lets rows follow the rows of `parent` under a condition, which are about to be deleted.
pub(crate) fn follow(
    connection: &Connection,
    followers: &[Follower],
    parent: &str,
    condition: &str,
    values: &[Value],
) -> Result<()> {
    // Tables that refer to each other in a circle: a row is deleted once, with what refers to it.
    let mut open = vec![(parent.to_owned(), condition.to_owned(), Vec::new())];
    let mut statements = Vec::new();
    while let Some((parent, condition, path)) = open.pop() {
        let children = followers
            .iter()
            .filter(|follower| follower.parent.eq_ignore_ascii_case(&parent));
        for child in children.filter(|child| !path.contains(&child.table)) {
            if !child.is_enforced(connection)? {
                continue;
            }
            let (here, there) = child.names();
            let referring = format!(
                "({here}) IN (SELECT {there} FROM {} WHERE {condition})",
                quoted(&parent)
            );
            let table = quoted(&child.table);
            match &child.action {
                Action::Set(values) => {
                    statements.push(format!(
                        "UPDATE {table} SET ({here}) = ({}) WHERE {referring}",
                        values.join(", ")
                    ));
                }
                Action::Delete => {
                    statements.push(format!("DELETE FROM {table} WHERE {referring}"));
                    let path = path.iter().cloned().chain([child.table.clone()]).collect();
                    open.push((child.table.clone(), referring, path));
                }
            }
        }
    }
    // What refers to a row goes before it.
    for sql in statements.iter().rev() {
        let mut statement = connection.prepare_cached(sql)?;
        let count = statement.parameter_count();
        statement.execute(params_from_iter(values.iter().take(count).map(Bound)))?;
    }
    Ok(())
}
