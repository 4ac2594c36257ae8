//! A tracked table as its declaration is kept in the file.

use serde_json::{Value as Json, json};

use crate::track::Identity;

/// A tracked table, and what the app said about it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// The number of the table in the tables beside it.
    pub(crate) number: i64,
    /// Its name, here and in the log.
    pub(crate) name: String,
    pub(crate) identity: Identity,
    /// Columns that refer to rows and are no declared foreign keys, with the tables that they refer to.
    pub(crate) references: Vec<(String, String)>,
    pub(crate) local: Vec<String>,
    /// Foreign keys that the app does not enforce: rows without their parent were found.
    pub(crate) unenforced: Vec<String>,
    /// The columns that were there at the last look.
    pub(crate) known: Vec<String>,
    /// The columns that named a row when the table was tracked, none for a local number; `None` until it is tracked.
    pub(crate) key: Option<Vec<String>>,
}

impl Declared {
    pub(crate) fn to_json(&self) -> String {
        let identity = match &self.identity {
            Identity::Mapped => json!("mapped"),
            Identity::Verbatim => json!("verbatim"),
            Identity::WholeRow => json!("whole_row"),
            Identity::OfParent { parent } => json!({ "of_parent": parent }),
            Identity::Columns(columns) => json!({ "columns": columns }),
        };
        json!({
            "identity": identity,
            "references": self.references,
            "local": self.local,
            "unenforced": self.unenforced,
            "known": self.known,
            "key": self.key,
        })
        .to_string()
    }

    /// `None` if another program wrote the text.
    pub(crate) fn from_json(number: i64, name: String, text: &str) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let references = json["references"].as_array()?.iter();
        let references = references.map(|pair| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())));
        Some(Self {
            number,
            name,
            identity: identity(&json["identity"])?,
            references: references.collect::<Option<_>>()?,
            local: names(&json["local"])?,
            unenforced: names(&json["unenforced"])?,
            known: names(&json["known"])?,
            key: Some(names(&json["key"])?),
        })
    }
}

fn identity(json: &Json) -> Option<Identity> {
    Some(match json.as_str() {
        Some("mapped") => Identity::Mapped,
        Some("verbatim") => Identity::Verbatim,
        Some("whole_row") => Identity::WholeRow,
        Some(_) => return None,
        None => match json["of_parent"].as_str() {
            Some(parent) => Identity::OfParent { parent: parent.into() },
            None => Identity::Columns(names(&json["columns"])?),
        },
    })
}

fn names(json: &Json) -> Option<Vec<String>> {
    let names = json.as_array()?.iter();
    names.map(|name| name.as_str().map(str::to_owned)).collect()
}
