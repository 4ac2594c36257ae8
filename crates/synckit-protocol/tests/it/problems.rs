//! Problem codes are a contract: each has one text, one status and one title.

use std::collections::BTreeSet;

use synckit_protocol::{Problem, ProblemCode};

#[test]
fn every_code_has_a_text_of_its_own_that_reads_back() {
    let texts: BTreeSet<&str> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(texts.len(), ProblemCode::ALL.len());
    for code in ProblemCode::ALL {
        assert_eq!(code.as_str().parse(), Ok(*code));
        assert!((400..600).contains(&code.status()), "{code}");
        assert!(!code.title().is_empty());
    }
}

#[test]
fn a_problem_is_small_when_there_is_little_to_say() {
    let problem = Problem::new(ProblemCode::NoEnvelope);
    insta::assert_snapshot!(
        serde_json::to_string(&problem).unwrap(),
        @r#"{"type":"urn:synckit:problem:no_envelope","code":"no_envelope","title":"Encryption is not set up","status":404}"#
    );
}

#[test]
fn a_code_of_a_later_version_is_read_and_not_known() {
    let text = r#"{"type":"urn:synckit:problem:new","code":"new","title":"New","status":409,"hint":"x"}"#;
    let problem: Problem = serde_json::from_str(text).unwrap();
    assert_eq!(problem.known_code(), None);
    assert_eq!(problem.status, 409);
}
