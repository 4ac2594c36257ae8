//! What an app declares about its tables: what SQLite cannot know.

/// A table to sync, and what the schema does not say about it.
///
/// # Examples
/// ```
/// use synckit_sqlite::track::{Identity, Track};
///
/// let tasks = Track::new("tasks")
///     .references("parent", "tasks")
///     .local("file_url");
/// let plain: Track = "tags".into();
/// assert_eq!(plain, Track::new("tags"));
/// assert_eq!(Track::new("film").identity(Identity::Verbatim).to_string(), r#"Track::new("film").identity(Identity::Verbatim)"#);
/// # assert_eq!(tasks.to_string(), r#"Track::new("tasks").references("parent", "tasks").local("file_url")"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    table: String,
    identity: Option<Identity>,
    references: Vec<(String, String)>,
    local: Vec<String>,
    plain: Vec<String>,
}

/// What makes a row the same row on every device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The integer key is a number of this device only. The row has an id of its own in the log.
    Mapped,
    /// The integer key is data: the same number is the same row.
    Verbatim,
    /// The key is a reference: the row is the one of its parent.
    OfParent {
        /// The table of the parent.
        parent: String,
    },
    /// The values of these columns.
    Columns(Vec<String>),
    /// All values together: equal rows are one row.
    WholeRow,
}

impl Track {
    /// A table with nothing to say about it.
    pub fn new(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            identity: None,
            references: Vec::new(),
            local: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// What makes a row the same row on every device, where the schema suggests something else.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// A column that refers to rows of another table, and is no declared foreign key.
    #[must_use]
    pub fn references(mut self, column: impl Into<String>, parent: impl Into<String>) -> Self {
        self.references.push((column.into(), parent.into()));
        self
    }

    /// A column that looks like a reference and is none.
    #[must_use]
    pub fn plain(mut self, column: impl Into<String>) -> Self {
        self.plain.push(column.into());
        self
    }

    /// A column that belongs to this device and is not sent.
    #[must_use]
    pub fn local(mut self, column: impl Into<String>) -> Self {
        self.local.push(column.into());
        self
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn declared_identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub(crate) fn declared_parent(&self, column: &str) -> Option<&str> {
        let mut references = self.references.iter();
        let (_, parent) = references.find(|(declared, _)| declared.eq_ignore_ascii_case(column))?;
        Some(parent)
    }

    pub(crate) fn local_columns(&self) -> &[String] {
        &self.local
    }

    pub(crate) fn is_settled(&self, column: &str) -> bool {
        let mut named = self.local.iter().chain(&self.plain);
        self.declared_parent(column).is_some() || named.any(|name| name.eq_ignore_ascii_case(column))
    }

    /// Every column that is named.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        let of_identity = match &self.identity {
            Some(Identity::Columns(columns)) => columns.as_slice(),
            _ => &[],
        };
        let references = self.references.iter().map(|(column, _)| column);
        references
            .chain(of_identity)
            .chain(&self.local)
            .chain(&self.plain)
            .map(String::as_str)
    }
}

impl<Name: Into<String>> From<Name> for Track {
    fn from(table: Name) -> Self {
        Self::new(table)
    }
}

/// The Rust code that makes the declaration.
impl std::fmt::Display for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Track::new({:?})", self.table)?;
        if let Some(identity) = &self.identity {
            write!(f, ".identity({identity})")?;
        }
        for (column, parent) in &self.references {
            write!(f, ".references({column:?}, {parent:?})")?;
        }
        for column in &self.plain {
            write!(f, ".plain({column:?})")?;
        }
        for column in &self.local {
            write!(f, ".local({column:?})")?;
        }
        Ok(())
    }
}

/// The Rust code of the identity.
impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mapped => f.write_str("Identity::Mapped"),
            Self::Verbatim => f.write_str("Identity::Verbatim"),
            Self::OfParent { parent } => write!(f, "Identity::OfParent {{ parent: {parent:?}.into() }}"),
            Self::Columns(columns) => {
                let columns: Vec<String> = columns.iter().map(|column| format!("{column:?}.into()")).collect();
                write!(f, "Identity::Columns(vec![{}])", columns.join(", "))
            }
            Self::WholeRow => f.write_str("Identity::WholeRow"),
        }
    }
}
