//! The names that people choose and others read: of devices and of apps.

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty or too long.
    #[error("a name has 1 to {bytes_max} bytes")]
    Length {
        /// The greatest number of bytes of UTF-8.
        bytes_max: usize,
    },
    /// It has a character that nobody sees, and that may change how the text around it looks.
    #[error("a name has no control characters, marks of writing direction, line breaks or invisible characters")]
    Unseen(char),
    /// It is white space, or consists of invisible characters.
    #[error("a name has a visible character")]
    Blank,
}

/// Checks a name that others will see.
///
/// Invisible characters would make two names look alike, or a name look like none; marks of writing direction turn the text
/// around a name; control characters change a terminal. Joiners and variation selectors are allowed between others, because
/// scripts and emoji need them.
///
/// # Errors
/// [`NameError`].
///
/// # Examples
/// ```
/// use synckit_protocol::{NameError, check_name};
///
/// assert_eq!(check_name("Ada's MacBook \u{2764}\u{fe0f}", 100), Ok(()));
/// assert_eq!(check_name("\u{202e}koobcaM", 100), Err(NameError::Unseen('\u{202e}')));
/// assert_eq!(check_name(" \u{200d}", 100), Err(NameError::Blank));
/// ```
pub fn check_name(name: &str, bytes_max: usize) -> Result<(), NameError> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(NameError::Length { bytes_max });
    }
    if let Some(unseen) = name.chars().find(|c| is_unseen(*c) && !is_joiner(*c)) {
        return Err(NameError::Unseen(unseen));
    }
    if name.chars().all(|c| c.is_whitespace() || is_joiner(c)) {
        return Err(NameError::Blank);
    }
    Ok(())
}

/// Zero-width joiner and non-joiner, and the selectors of text and emoji style.
const fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

/// Control characters, separators of lines and paragraphs, marks of direction, and the characters that are drawn as nothing:
/// Unicode's `Default_Ignorable_Code_Point`, annotations, and the empty pattern of Braille.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}
