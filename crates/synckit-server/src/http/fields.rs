//! The fields of a form or a query.

use url::form_urlencoded;

/// The fields of a form or a query, each at most once (RFC 6749, section 3.1).
#[derive(Debug)]
pub(crate) struct Fields(Vec<(String, String)>);

/// A field stands twice.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

impl Fields {
    pub(crate) fn parse(encoded: &[u8]) -> Result<Self, Repeated> {
        let fields: Vec<(String, String)> = form_urlencoded::parse(encoded).into_owned().collect();
        let is_repeated = |at: usize, name: &str| fields.iter().take(at).any(|(other, _)| other == name);
        if fields.iter().enumerate().any(|(at, (name, _))| is_repeated(at, name)) {
            return Err(Repeated);
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(other, _)| other == name)?;
        (!value.is_empty()).then_some(value)
    }
}
