//! Which of the three kinds of number a JSON number becomes: `u64`, `i64` or finite `f64`.
//!
//! serde_json usually stores a number as one of the three. If any crate of an app enables its feature
//! `arbitrary_precision`, it stores a text instead. That text is read as serde_json reads it without the feature, so
//! `2.50`, `1e5` and `-0` remain floats; but a text whose value would change is refused.

use serde_json::Number;

/// A number in the body of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum NumberKind {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

/// The kind of a number, or `None` if no kind can represent its value.
pub(super) fn kind_of(number: &Number) -> Option<NumberKind> {
    // The comparison matters for `-0`, which `as_i64` reads as the integer 0.
    if let Some(unsigned) = number.as_u64().filter(|unsigned| Number::from(*unsigned) == *number) {
        Some(NumberKind::Unsigned(unsigned))
    } else if let Some(signed) = number.as_i64().filter(|signed| Number::from(*signed) == *number) {
        Some(NumberKind::Signed(signed))
    } else {
        let float = number.as_f64()?;
        let shortest = Number::from_f64(float)?;
        let same_value = shortest == *number || decimal(&shortest.to_string())? == decimal(&number.to_string())?;
        same_value.then_some(NumberKind::Float(float))
    }
}

/// The value of a decimal text: its sign, and its digits without zeros at either end times a power of ten.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    let shift = i64::try_from(digits.len() - significant.len()).ok()?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        // Zero, whatever its exponent.
        return Some((negative, String::new(), 0));
    }
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let exponent = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(shift)?;
    Some((negative, significant.to_owned(), exponent))
}
