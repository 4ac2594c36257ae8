//! How pages write numbers.

use jiff::Timestamp;
use minijinja::Value;
use synckit_protocol::wire::UnixSeconds;

/// A time as an element: for machines, and for readers until the script writes it in their zone.
pub(super) fn time(seconds: UnixSeconds) -> Value {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    let time = time.unwrap_or(Timestamp::MAX);
    let (machine, text) = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        time.strftime("%-d %b %Y, %H:%M UTC"),
    );
    Value::from_safe_string(format!("<time datetime=\"{machine}\">{text}</time>"))
}

/// A day of the calendar in UTC: a text, which no script writes in another zone.
pub(super) fn day(seconds: UnixSeconds) -> String {
    let time = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX).strftime("%-d %b %Y").to_string()
}

/// A size: 1 GB is 1,000,000,000 bytes, and the space before the unit does not break.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    // The largest unit of which it is one or more, when it is written with one decimal.
    match UNITS.iter().find(|(unit, _)| bytes >= unit - unit / 20_000) {
        Some((unit, name)) => {
            let tenths = bytes.saturating_add(unit / 20) / (unit / 10);
            format!("{}.{}\u{a0}{name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}\u{a0}bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::{size, time};

    #[test]
    fn sizes_have_one_decimal_and_a_unit() {
        for (bytes, text) in [
            (0, "0\u{a0}bytes"),
            (999, "999\u{a0}bytes"),
            (1_000, "1.0\u{a0}kB"),
            (1_049, "1.0\u{a0}kB"),
            (1_050, "1.1\u{a0}kB"),
            (999_499, "999.5\u{a0}kB"),
            (999_949, "999.9\u{a0}kB"),
            (999_950, "1.0\u{a0}MB"),
            (1_840_000_000, "1.8\u{a0}GB"),
            (u64::MAX, "18446744.0\u{a0}TB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn every_number_is_a_time() {
        let text = "<time datetime=\"2026-11-30T00:53:20Z\">30 Nov 2026, 00:53 UTC</time>";
        assert_eq!(time(1_796_000_000).to_string(), text);
        assert!(time(0).to_string().contains("1970"));
        assert!(time(u64::MAX).to_string().contains("9999"));
    }
}
