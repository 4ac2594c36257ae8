//! Names that people choose.

use synckit_protocol::{NameError, check_name};

#[test]
fn names_of_people_are_taken() {
    for name in [
        "x",
        "Ada's MacBook",
        "b\u{fc}ro",
        "b\u{75}\u{308}ro",
        "\u{7528}\u{6237}\u{306e}\u{3000}Mac",
        // Persian with a non-joiner, Hindi with a joiner.
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        "\u{915}\u{94d}\u{200d}\u{937}",
        // Emoji: a heart, a family.
        "\u{2764}\u{fe0f}",
        "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}",
        &"\u{fc}".repeat(50),
    ] {
        assert_eq!(check_name(name, 100), Ok(()), "{name:?}");
    }
}

#[test]
fn names_that_nobody_sees_are_refused() {
    for blank in [" ", "\u{3000}\u{a0}", "\u{200d}", "\u{fe0f} \u{200c}"] {
        assert_eq!(check_name(blank, 100), Err(NameError::Blank), "{blank:?}");
    }
    let unseen = [
        '\0',
        '\t',
        '\n',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{17b4}',
        '\u{180e}',
        '\u{200b}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe00}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{1d173}',
        '\u{e0001}',
        '\u{e0041}',
        '\u{e0100}',
    ];
    for c in unseen {
        for name in [format!("{c}"), format!("Mac{c}Book")] {
            assert_eq!(check_name(&name, 100), Err(NameError::Unseen(c)), "{name:?}");
        }
    }
}

#[test]
fn length_of_a_name_is_in_bytes() {
    assert_eq!(check_name("", 3), Err(NameError::Length { bytes_max: 3 }));
    assert_eq!(check_name("abc", 3), Ok(()));
    assert_eq!(check_name("\u{fc}\u{fc}", 3), Err(NameError::Length { bytes_max: 3 }));
}
