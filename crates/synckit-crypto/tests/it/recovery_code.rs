//! The recovery code as people write and type it.

use synckit_crypto::{RecoveryCode, RecoveryCodeError};

use crate::rng::VectorRng;

/// A vector of BIP39's reference implementation: 32 bytes of 0x7f.
const WORDS: &str = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth \
                     useful legal winner thank year wave sausage worth title";

#[test]
fn words_are_those_of_bip39() {
    let code = RecoveryCode::from_entropy([0x7f; 32]);
    assert_eq!(code.words().as_str(), WORDS);
    assert_eq!(RecoveryCode::parse(WORDS).unwrap(), code);
}

#[test]
fn generated_codes_differ_and_parse_back() {
    let mut rng = VectorRng::new("codes");
    let (one, other) = (RecoveryCode::generate(&mut rng), RecoveryCode::generate(&mut rng));
    assert_ne!(one, other);
    assert_eq!(RecoveryCode::parse(&one.words()).unwrap(), one);
}

#[test]
fn case_separators_and_line_numbers_are_forgiven() {
    let code = RecoveryCode::parse(WORDS).unwrap();
    let words: Vec<_> = WORDS.split(' ').collect();
    let numbered: String = words
        .iter()
        .enumerate()
        .map(|(i, word)| format!("{}. {word}\r\n", i + 1))
        .collect();
    for text in [
        WORDS.to_uppercase(),
        format!("  \t{}\n\n", WORDS.replace(' ', "\n \u{a0}")),
        words.join(", "),
        words.join("-"),
        numbered,
    ] {
        assert_eq!(RecoveryCode::parse(&text).unwrap(), code, "{text}");
    }
}

#[test]
fn mistakes_are_named_without_repeating_the_words() {
    let parse = |text: &str| RecoveryCode::parse(text).unwrap_err();
    assert_eq!(parse(""), RecoveryCodeError::WordCount { found: 0 });
    assert_eq!(parse("legal winner thank"), RecoveryCodeError::WordCount { found: 3 });
    // A valid BIP39 phrase of 12 words is no recovery code.
    let twelve = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    assert_eq!(parse(twelve), RecoveryCodeError::WordCount { found: 12 });
    let misspelt = WORDS.replacen("thank", "thonk", 1);
    assert_eq!(parse(&misspelt), RecoveryCodeError::UnknownWord { position: 3 });
    assert!(!parse(&misspelt).to_string().contains("thonk"));
    let accented = WORDS.replacen("year", "y\u{e9}ar", 1);
    assert_eq!(parse(&accented), RecoveryCodeError::UnknownWord { position: 4 });
    let swapped = WORDS.replacen("legal winner", "winner legal", 1);
    assert_eq!(parse(&swapped), RecoveryCodeError::Checksum);
}

#[test]
fn code_is_redacted_in_debug() {
    assert_eq!(
        format!("{:?}", RecoveryCode::from_entropy([1; 32])),
        "RecoveryCode(redacted)"
    );
}
