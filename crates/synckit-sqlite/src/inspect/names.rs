//! How telling the name of a column is: whether it seems to name rows of another table.

/// How a column's name points at a table, the most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hint {
    /// `list_id`, `listId` or `list`, for `lists`. A column without such an end in the table of its own name is what the table is
    /// about: `ratings.rating`.
    Table,
    /// `itemID`, for the table whose key is called so.
    Key,
    /// `parent`, for the table itself.
    Relative,
    /// `parent_product_id`, for `products`; `media`, for `FeedMedia`.
    End,
    /// `qu_id_stock`, for `quantity_units`.
    Initials,
    /// Any column in a UNIQUE of several columns of `books_languages_link`, for `languages`.
    Link,
}

/// The words for a row of the same table.
const RELATIVES: &[&str] = &[
    "parent", "root", "previous", "prev", "next", "original", "ancestor", "replyto",
];
/// The words at the end of a column that is a reference.
const ENDS: &[&str] = &["id", "uid", "uuid", "key"];
/// Shorter names are at the end of too many others.
const TELLING_LETTERS: usize = 4;

/// A column, and where it is.
pub(super) struct Place<'a> {
    pub(super) table: &'a str,
    pub(super) column: &'a str,
    /// Whether it is in a UNIQUE or key of several columns.
    pub(super) is_in_pair: bool,
}

/// What the name of a column says about a table and its key.
pub(super) fn hint(place: &Place<'_>, parent: &str, key: &str) -> Option<Hint> {
    let (column, tables) = (words(place.column), numbers(&words(parent).concat()));
    let (stem, has_end) = match column.split_last() {
        Some((end, rest)) if ENDS.contains(&end.as_str()) && !rest.is_empty() => (rest.concat(), true),
        _ => (column.concat(), false),
    };
    let initials: String = words(parent).iter().filter_map(|word| word.chars().next()).collect();
    let is_link = || {
        place.is_in_pair
            && numbers(&words(place.table).concat())
                .iter()
                .any(|child| contains(child, &tables))
    };
    let is_subject = parent == place.table && !has_end && tables.contains(&stem);
    if tables.contains(&stem) && !is_subject {
        Some(Hint::Table)
    } else if key.len() > 2 && place.column.eq_ignore_ascii_case(key) {
        Some(Hint::Key)
    } else if parent == place.table && RELATIVES.contains(&stem.as_str()) {
        Some(Hint::Relative)
    } else if has_end && ends_with_one(&stem, &tables)
        || !is_subject
            && tables
                .iter()
                .any(|table| ends_with_one(table, std::slice::from_ref(&stem)))
    {
        Some(Hint::End)
    } else if initials.len() > 1 && column.contains(&initials) {
        Some(Hint::Initials)
    } else {
        (parent != place.table && is_link()).then_some(Hint::Link)
    }
}

fn ends_with_one(name: &str, ends: &[String]) -> bool {
    ends.iter()
        .any(|end| end.len() >= TELLING_LETTERS && name.ends_with(end.as_str()))
}

fn contains(child: &str, tables: &[String]) -> bool {
    tables
        .iter()
        .any(|table| table.len() >= TELLING_LETTERS && child.contains(table.as_str()))
}

/// A name, and without its plural.
fn numbers(name: &str) -> Vec<String> {
    let singular = name
        .strip_suffix("ies")
        .map(|stem| format!("{stem}y"))
        .or_else(|| name.strip_suffix('s').map(str::to_owned));
    [Some(name.to_owned()), singular].into_iter().flatten().collect()
}

/// The words of a name in lower case: `parent_product_id`, `parentProductID` and `Parent Product Id` are the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = !letter.is_alphanumeric() || letter.is_uppercase() && was_lower;
        if begins && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        was_lower = letter.is_lowercase() || letter.is_numeric();
        if letter.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(column: &str, table: &str, parent: &str, key: &str, expected: Option<Hint>) {
        let place = Place {
            table,
            column,
            is_in_pair: true,
        };
        assert_eq!(hint(&place, parent, key), expected);
    }

    #[test]
    fn names_point_at_tables() {
        for column in ["list_id", "listId", "list", "lists", "LIST_UUID", "List Key"] {
            check(column, "tasks", "lists", "id", Some(Hint::Table));
        }
        check("category", "tasks", "categories", "id", Some(Hint::Table));
        check("itemID", "annotation", "thing", "itemID", Some(Hint::Key));
        check("parent", "tasks", "tasks", "id", Some(Hint::Relative));
        check("parent_product_id", "products", "products", "id", Some(Hint::End));
        check("qu_id_stock", "products", "quantity_units", "id", Some(Hint::Initials));
        check("qu_id_stock", "products", "stock", "id", None);
        check("media", "FeedItems", "FeedMedia", "id", Some(Hint::End));
        check("value", "books_languages_link", "languages", "id", Some(Hint::Link));
    }

    #[test]
    fn other_names_point_nowhere() {
        check("priority", "tasks", "lists", "id", None);
        check("id", "tasks", "lists", "id", None);
        check("parent", "tasks", "lists", "id", None);
        check("value", "tasks", "tasks", "id", None);
        check("tag", "tasks", "a", "id", None);
        check("rating", "ratings", "ratings", "id", None);
        check("ratings", "ratings", "ratings", "id", None);
    }
}
