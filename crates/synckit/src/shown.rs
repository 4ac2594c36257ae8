//! Texts for a terminal, with control characters escaped.
//!
//! The output of a command contains names and messages that a server chose. A terminal obeys escape sequences, which
//! move the cursor, set the title or fill the clipboard; and marks of writing direction can reverse a name. So no such
//! character reaches a terminal unescaped.
//!
//! Invariant: every text of [`crate::screen`] and every question passes through here.

use std::borrow::Cow;

/// A text for a terminal. Characters that a terminal obeys are replaced by their number. A line break stays, and the
/// next line is indented, so that no text looks like a line of the program itself.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return on_one_line(text);
    }
    let lines = text.split('\n').enumerate().map(|(n, line)| match (n, line) {
        (0, line) => on_one_line(line).into_owned(),
        (_, "") => String::new(),
        (_, line) => format!("    {}", on_one_line(line)),
    });
    Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
}

/// A text without line breaks: the cell of a table.
pub(crate) fn on_one_line(text: &str) -> Cow<'_, str> {
    escape(text, |c, out| out.extend(c.escape_unicode()))
}

/// A JSON document whose texts may contain such characters, with JSON escapes in their place.
pub(crate) fn in_json(document: &str) -> Cow<'_, str> {
    escape(document, |c, out| match c {
        // A line break between two values; inside a text the encoder has escaped it.
        '\n' => out.push('\n'),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    })
}

fn escape(text: &str, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            replace(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal obeys the character instead of drawing it: control characters (ECMA-48, C0 and C1), marks of
/// direction (Unicode Annex 9), separators of lines and paragraphs, tags, and characters without width.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' // Arabic letter mark
                | '\u{200b}'..='\u{200f}' // without a width, and marks of direction
                | '\u{2028}'..='\u{202e}' // separators, embeddings and overrides
                | '\u{2060}'..='\u{206f}' // without a width, isolates, deprecated
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' // annotations
                | '\u{e0000}'..='\u{e007f}' // tags
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_becomes_its_number() {
        let cases = [
            (
                "Ada's MacBook \u{1f4bb}, b\u{fc}ro",
                "Ada's MacBook \u{1f4bb}, b\u{fc}ro",
            ),
            ("\u{1b}]52;c;cm0gLXJm\u{7}", "\\u{1b}]52;c;cm0gLXJm\\u{7}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("a\rb\tc\u{7f}", "a\\u{d}b\\u{9}c\\u{7f}"),
            ("\u{202e}gnp.exe\u{2066}", "\\u{202e}gnp.exe\\u{2066}"),
            ("a\nhint: b\n\n", "a\n    hint: b\n\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(on_one_line("a\nb"), "a\\u{a}b");
    }

    #[test]
    fn json_says_the_same_after_escaping() {
        let value = serde_json::json!({ "name": "a\u{1b}\u{9b}\u{202e}\u{e0041}\n\u{7f}b" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let escaped = in_json(&text);
        assert!(!escaped.chars().any(|c| is_obeyed(c) && c != '\n'), "{escaped:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
