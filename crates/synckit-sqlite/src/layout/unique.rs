//! How the values of a UNIQUE are made, where they are not simply those of its columns: by collations, by expressions, and for
//! some rows only.

use std::sync::Arc;

use super::scratch::Scratch;
use crate::{
    inspect::catalog::{TableInfo, UniqueInfo},
    merge::{Unique, UniqueValues},
    rows::{Row, Value},
};

/// A UNIQUE as the merge compares it. `None`: it needs what is not synced. Then the table itself refuses rows that violate it.
pub(super) fn unique(scratch: &Scratch, table: &TableInfo, info: &UniqueInfo, synced: &[String]) -> Option<Unique> {
    let folds: Vec<Fold> = info.collations.iter().map(|name| Fold::of(name, scratch)).collect();
    let plain: Option<Vec<String>> = info.columns.iter().cloned().collect();
    let Some(columns) = plain.filter(|_| !info.is_partial) else {
        return of_expressions(scratch, table, info, synced, folds);
    };
    if !columns.iter().all(|column| synced.contains(column)) {
        return None;
    }
    if folds.iter().all(|fold| matches!(fold, Fold::Nothing)) {
        return Some(columns.into());
    }
    let names = columns.clone();
    let values = move |row: &Row| {
        let values = names.iter().map(|name| row.get(name).cloned().unwrap_or(Value::Null));
        folded(values, &folds)
    };
    Some(Unique {
        columns,
        values: Some(UniqueValues(Arc::new(values))),
    })
}

fn of_expressions(
    scratch: &Scratch,
    table: &TableInfo,
    info: &UniqueInfo,
    synced: &[String],
    folds: Vec<Fold>,
) -> Option<Unique> {
    let parts = Parts::of(info.sql.as_deref()?)?;
    let named: Vec<String> = words(&parts.whole()).collect();
    let is_named = |column: &&String| named.iter().any(|word| word.eq_ignore_ascii_case(column));
    let columns: Vec<String> = synced.iter().filter(is_named).cloned().collect();
    let others = table
        .columns
        .iter()
        .map(|column| &column.name)
        .filter(|name| !synced.contains(name));
    if others.clone().any(|column| is_named(&column)) {
        return None;
    }
    let select = format!(
        "SELECT {} FROM {} WHERE {}",
        parts.items.join(", "),
        crate::inspect::catalog::quoted(&table.name),
        parts.condition.as_deref().unwrap_or("1")
    );
    let (scratch, table, names) = (scratch.clone(), table.name.clone(), columns.clone());
    let values = move |row: &Row| folded(scratch.evaluate(&table, row, &names, &select)?, &folds);
    Some(Unique {
        columns,
        values: Some(UniqueValues(Arc::new(values))),
    })
}

/// What a collation takes for equal.
#[derive(Debug, Clone)]
enum Fold {
    Nothing,
    Case,
    TrailingSpaces,
    /// What the app registered: only its own function knows what it takes for equal.
    Registered(String, Scratch),
}

impl Fold {
    fn of(collation: &str, scratch: &Scratch) -> Self {
        match collation.to_ascii_uppercase().as_str() {
            "BINARY" => Self::Nothing,
            "NOCASE" => Self::Case,
            "RTRIM" => Self::TrailingSpaces,
            _ => Self::Registered(collation.to_owned(), scratch.clone()),
        }
    }

    fn fold(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::Registered(collation, scratch), Value::Text(_)) => scratch.representative(collation, value),
            (Self::Case, Value::Text(text)) => Value::Text(text.to_ascii_lowercase()),
            (Self::TrailingSpaces, Value::Text(text)) => {
                let end = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                Value::Text(text.iter().take(end).copied().collect())
            }
            (_, other) => other.as_key(),
        }
    }
}

fn folded(values: impl IntoIterator<Item = Value>, folds: &[Fold]) -> Option<Vec<Value>> {
    let values = values.into_iter().zip(folds);
    values
        .map(|(value, fold)| (value != Value::Null).then(|| fold.fold(&value)))
        .collect()
}

/// The parts of a CREATE INDEX.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    items: Vec<String>,
    condition: Option<String>,
}

impl Parts {
    /// SQLite keeps the statement as it was written, and has parsed it already: only quotes and brackets matter here.
    fn of(sql: &str) -> Option<Self> {
        let (mut depth, mut items, mut item) = (0_u32, Vec::new(), String::new());
        let mut tokens = Tokens(sql);
        for token in tokens.by_ref() {
            match token {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1)?,
                _ => {}
            }
            match (token, depth) {
                ("(", 1) => item.clear(),
                (",", 1) => items.push(std::mem::take(&mut item)),
                (")", 0) => break,
                _ => item.push_str(token),
            }
        }
        items.push(item);
        let items = items.iter().map(|item| without_order(item)).collect();
        let rest = tokens.0.trim();
        let condition = rest.get(..5).filter(|word| word.eq_ignore_ascii_case("where"));
        Some(Self {
            items,
            condition: condition.and_then(|_| Some(rest.get(5..)?.trim().to_owned())),
        })
    }

    fn whole(&self) -> String {
        format!(
            "{} {}",
            self.items.join(" "),
            self.condition.as_deref().unwrap_or_default()
        )
    }
}

fn without_order(item: &str) -> String {
    let item = item.trim();
    let cut = [" asc", " desc"].iter().find_map(|order| {
        let end = item.len().checked_sub(order.len())?;
        item.get(end..).filter(|tail| tail.eq_ignore_ascii_case(order))?;
        item.get(..end)
    });
    cut.unwrap_or(item).to_owned()
}

/// Words outside of texts, without their quotes.
fn words(sql: &str) -> impl Iterator<Item = String> {
    let is_word = |token: &&str| !token.starts_with('\'') && token.chars().any(char::is_alphanumeric);
    let words: Vec<String> = Tokens(sql)
        .filter(is_word)
        .flat_map(|token| match token.chars().next() {
            Some('"' | '`' | '[') => vec![token.get(1..token.len() - 1).unwrap_or_default().to_owned()],
            _ => token
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .map(str::to_owned)
                .collect(),
        })
        .collect();
    words.into_iter()
}

/// Quoted texts and names, single brackets and commas, comments, and what is between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        let first = text.chars().next()?;
        let end = match first {
            '\'' | '"' | '`' => text.get(1..)?.find(first).map(|at| at + 2),
            '[' => text.find(']').map(|at| at + 1),
            '(' | ')' | ',' => Some(1),
            '-' if text.starts_with("--") => text.find('\n'),
            '/' if text.starts_with("/*") => text.find("*/").map(|at| at + 2),
            _ => {
                let rest = text.get(first.len_utf8()..)?;
                rest.find(['\'', '"', '`', '[', '(', ')', ',', '-', '/'])
                    .map(|at| at + first.len_utf8())
            }
        };
        let (token, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_index_are_found() {
        let sql = "CREATE UNIQUE INDEX \"a(b\" ON t (lower(name), \"x,y\" COLLATE NOCASE DESC) WHERE gone IS NULL";
        let parts = Parts::of(sql).unwrap();
        assert_eq!(parts.items, ["lower(name)", "\"x,y\" COLLATE NOCASE"]);
        assert_eq!(parts.condition.as_deref(), Some("gone IS NULL"));
        let named: Vec<String> = words(&parts.whole()).collect();
        assert!(
            ["name", "x,y", "gone"]
                .iter()
                .all(|name| named.iter().any(|word| word == name)),
            "{named:?}"
        );
    }
}
