//! Numbers in readable form.

use std::time::Duration;

/// A whole number with separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in decimal units: `999 B`, `65.5 kB`, `500.0 MB`.
pub(crate) fn bytes(number: u64) -> String {
    let scaled = |unit: f64, name: &str| format!("{:.1} {name}", number as f64 / unit);
    match number {
        0..1_000 => format!("{number} B"),
        1_000..999_950 => scaled(1e3, "kB"),
        999_950..999_950_000 => scaled(1e6, "MB"),
        _ => scaled(1e9, "GB"),
    }
}

/// A duration: `12 ms`, `1.25 s`.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "under 1 ms".to_owned(),
        millis @ 1..1_000 => format!("{millis} ms"),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

/// A number with its noun: `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Seconds since 1970 as a date and a time of day: `2026-01-31 09:05 UTC`.
pub(crate) fn date(unix_seconds: u64) -> String {
    let (days, second_of_day) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years start in March here, so that the leap day is the last day of a year. 400 years have 146,097 days, and
    // 0000-03-01 is 719,468 days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second_of_day / 3_600, second_of_day % 3_600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [0, 951_782_400, 951_868_800, 1_709_164_799, 1_709_251_200, 4_102_444_799];
        assert_eq!(
            cases.map(date),
            [
                "1970-01-01 00:00 UTC",
                "2000-02-29 00:00 UTC",
                "2000-03-01 00:00 UTC",
                "2024-02-28 23:59 UTC",
                "2024-03-01 00:00 UTC",
                "2099-12-31 23:59 UTC"
            ]
        );
    }

    #[test]
    fn numbers_get_separators_and_units() {
        assert_eq!(
            [0, 12, 999, 1_000, 1_234_567].map(count),
            ["0", "12", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0, 999, 1_000, 65_536, 999_999, 500_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "65.5 kB", "1.0 MB", "500.0 MB"]
        );
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_000, "row"), "1,000 rows");
    }
}
