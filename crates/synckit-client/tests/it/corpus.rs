//! Replays the fuzz corpus of answers through the fuzz target, on stable.

use std::{fs, path::PathBuf};

use crate::answers::answer;

#[test]
fn answers_of_the_corpus_end_within_the_budget() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/answer");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        answer(&bytes);
        // Cut short, with another status, or with more behind it, every seed is a seed of errors.
        for length in (0..bytes.len()).step_by(bytes.len() / 8 + 1) {
            answer(&bytes[..length]);
        }
        for status in ["200", "204", "408", "429", "500", "503", "599"] {
            answer(&[status.as_bytes(), bytes.get(3..).unwrap_or_default()].concat());
        }
        answer(&[bytes.as_slice(), &[0]].concat());
    }
}
