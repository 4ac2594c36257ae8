//! The OpenAPI document and its page: what is in it is served, and what is served is in it. That answers are as it says,
//! `contract` checks in every other test.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;
use synckit_protocol::ProblemCode;

use crate::{
    contract::{document, operations},
    support::World,
};

/// A path that fits a template, with a text that is no id of any kind.
fn example(template: &str) -> String {
    let parts = template
        .split('/')
        .map(|part| if part.starts_with('{') { "nothing" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn what_is_documented_is_served_and_nothing_else() {
    let world = World::start().await;
    let document = document().await;
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = example(template);
        let documented: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|name| name.to_uppercase())
            .collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            // `send` checks that the status stands in the document; a method that does not must be refused.
            let answer = world.call(method.parse().unwrap(), &path).send().await;
            let allowed: BTreeSet<String> = answer.header("allow").split(',').map(str::to_owned).collect();
            if documented.contains(method) {
                assert_ne!(answer.status.as_u16(), 405, "{method} {template}");
            } else {
                let mut expected = documented.clone();
                if expected.contains("GET") {
                    expected.insert("HEAD".to_owned());
                }
                assert_eq!(allowed, expected, "{method} {template}");
            }
        }
    }
}

#[tokio::test]
async fn every_problem_code_can_be_found_at_an_operation() {
    let document = document().await;
    let mut found = BTreeSet::new();
    for operation in operations(document) {
        for response in operation.value["responses"].as_object().unwrap().values() {
            let codes = &response["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"];
            found.extend(codes.as_array().into_iter().flatten().filter_map(Value::as_str));
        }
    }
    let missing: Vec<_> = ProblemCode::ALL
        .iter()
        .filter(|code| !found.contains(code.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "no operation of api/routes.rs answers with {missing:?}"
    );
}

#[tokio::test]
async fn every_operation_says_what_it_does_and_has_a_place() {
    let document = document().await;
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["name"])
        .map(Value::to_string)
        .collect();
    let mut names = BTreeSet::new();
    for operation in operations(document) {
        let (value, what) = (operation.value, format!("{} {}", operation.method, operation.path));
        assert!(
            !value["summary"].as_str().unwrap().is_empty(),
            "{what}: say what it does"
        );
        assert!(
            tags.contains(&value["tags"][0].to_string()),
            "{what}: a tag without a description"
        );
        assert!(
            names.insert(value["operationId"].to_string()),
            "{what}: its id is taken"
        );
        let in_path: BTreeSet<&str> = operation
            .path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        let parameters = value["parameters"].as_array().into_iter().flatten();
        let described: BTreeSet<&str> = parameters
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(in_path, described, "{what}: describe the variable parts of its path");
        let good = value["responses"]
            .as_object()
            .unwrap()
            .keys()
            .any(|status| status.starts_with('2') || status == "303");
        assert!(good, "{what}: say what it answers");
    }
}

#[tokio::test]
async fn operations_take_only_the_documented_token() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    for operation in operations(document().await) {
        let call = || world.call(operation.method.clone(), &example(operation.path));
        let what = format!("{} {}", operation.method, operation.path);
        let schemes: Vec<&str> = operation.value["security"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|way| way.as_object().unwrap().keys().map(String::as_str))
            .collect();
        match schemes.as_slice() {
            ["appToken"] => {
                assert_eq!(call().send().await.code(), "token_invalid", "{what}");
                let other = call().bearer(&user.account_token).send().await;
                assert_eq!(other.code(), "token_invalid", "{what}");
            }
            ["accountToken"] => {
                assert_eq!(call().send().await.code(), "token_invalid", "{what}");
                let other = call().bearer(&user.token).send().await;
                assert_eq!(other.code(), "fresh_login_required", "{what}");
            }
            ["pageSession"] => {
                let answer = call().bearer(&user.account_token).send().await;
                assert!(answer.header("location").starts_with("/account/sign-in"), "{what}");
            }
            ["presignedUrl"] => {
                let answer = call().bearer(&user.token).send().await;
                assert_eq!(answer.code(), "url_invalid", "{what}: a token opens no object");
            }
            [] | ["metricsToken"] => assert_ne!(call().send().await.status.as_u16(), 401, "{what}"),
            other => panic!("{what}: {other:?} is a scheme without a test"),
        }
    }
}

#[tokio::test]
async fn the_page_holds_the_document_and_loads_nothing() {
    let world = World::start().await;
    let answer = world.get("/api/docs").send().await;
    let page = String::from_utf8(answer.body.clone()).unwrap();
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for loads in ["src=", "@import", "url(", "fetch(", "import("] {
        assert!(!page.contains(loads), "the page loads something: {loads}");
    }
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"document\">")
        .unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let mut on_page: Value = serde_json::from_str(data).unwrap();
    let served: Value = world.get("/api/openapi.json").send().await.ok();
    assert_eq!(on_page, served);
    assert_eq!(served["servers"][0]["url"], world.url);
    on_page["servers"] = document().await["servers"].clone();
    assert_eq!(&on_page, document().await, "the document is the same on every server");
    let head = world.call(Method::HEAD, "/api/docs").send().await;
    assert!(head.status.is_success() && head.body.is_empty());
}

/// Examples are for those who read the Rust.
#[tokio::test]
async fn descriptions_hold_no_rust() {
    let document = document().await.to_string();
    for mark in ["# Examples", "```", "[`", "crate::"] {
        assert!(!document.contains(mark), "{mark}");
    }
}
