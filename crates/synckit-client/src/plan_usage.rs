//! How much the app has used of its plan, as the server tells it.

use http::HeaderMap;

/// The header of an app that has used most of its plan: a dictionary of integers (RFC 9651).
const HEADER: &str = "synckit-usage";

/// How much the app, with all its users, has used of its plan, in percent, rounded down. 100 or more is a limit: of storage it
/// is [`Quota::AppStorage`](crate::Quota::AppStorage), of transfer [`Error::RetryLater`](crate::Error::RetryLater) with the code
/// `transfer_limit`.
///
/// The server claims it, and nothing proves it: show it, and decide nothing by it.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let client = world.client();
/// // Below 80 % of both parts there is none.
/// let is_nearly_full = client.plan_usage().is_some_and(|usage| usage.storage_percent >= 95);
/// assert!(!is_nearly_full);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PlanUsage {
    /// Of what the app may store.
    pub storage_percent: u64,
    /// Of what it may move in this calendar month (UTC).
    pub transfer_percent: u64,
}

impl PlanUsage {
    /// Reads the header; a value that cannot be read is none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(HEADER)?.to_str().ok()?;
        let part = |wanted: &str| {
            let mut members = text.rsplit(',').filter_map(|member| member.trim().split_once('='));
            members.find(|(name, _)| *name == wanted)?.1.parse::<u64>().ok()
        };
        Some(Self {
            storage_percent: part("storage")?,
            transfer_percent: part("transfer")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{HEADER, PlanUsage};

    #[test]
    fn usage_is_read_or_there_is_none() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(text));
            PlanUsage::of(&headers).map(|usage| (usage.storage_percent, usage.transfer_percent))
        };
        assert_eq!(of("storage=85, transfer=49"), Some((85, 49)));
        assert_eq!(of("users=3,transfer=149 ,storage=0"), Some((0, 149)));
        // RFC 9651: the last of two members with one name counts.
        assert_eq!(of("storage=1, transfer=2, storage=3"), Some((3, 2)));
        for text in [
            "",
            "storage=85",
            "storage=-1, transfer=2",
            "storage=1.5, transfer=2",
            "storage, transfer",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(PlanUsage::of(&HeaderMap::new()), None);
    }
}
