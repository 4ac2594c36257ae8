//! The program from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod measure;
