//! A Rust file as the checks read it: its code without comments, texts and unit tests, cut into names and signs.

use super::texts::production_lines;

/// A name, or one sign.
pub(super) type Token<'a> = &'a str;

/// The code of a file as tokens. Comments, the insides of texts and the module of unit tests are left out.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let end = text
        .lines()
        .take(production_lines(text))
        .map(|line| line.len() + 1)
        .sum::<usize>();
    let text = &text[..end.min(text.len())];
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw_text(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').map_or(rest.len(), |open| open + 1);
            rest[open..]
                .find(&close)
                .map_or(rest.len(), |found| open + found + close.len())
        } else if next == '"' {
            text_length(rest)
        } else if next == '\'' {
            character_length(rest)
        } else if is_name(next) {
            rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())
        } else {
            next.len_utf8()
        };
        let token = &rest[..length];
        if is_name(next) && raw_text(rest).is_none() || next.is_ascii_punctuation() && length == 1 {
            tokens.push(token);
        }
        at += length;
    }
    tokens
}

pub(super) fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The hashes of a raw text that begins here.
fn raw_text(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn text_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, or the mark alone where a lifetime begins.
fn character_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(1, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_becomes_tokens() {
        let text = "use a::b; // x::y\nlet s = \"q::\\\"r\"; let t = r#\"u\"v\"#; 'c' fn f<'l>() {}\n\
                    #[cfg(test)]\nmod tests { z }\n";
        let names: Vec<_> = tokens(text)
            .into_iter()
            .filter(|token| token.starts_with(is_name))
            .collect();
        assert_eq!(names, ["use", "a", "b", "let", "s", "let", "t", "fn", "f", "l"]);
    }
}
