//! `/metrics`: what it counts, who may read it, and that nobody stands in it.

use synckit_protocol::{Cursor, SecretText};

use crate::support::{PASSWORD, World};

async fn scrape(world: &World) -> String {
    let answer = world.get("/metrics").send().await;
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    String::from_utf8(answer.body).unwrap()
}

/// The value of a series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in:\n{text}"))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn pushes_pulls_requests_and_refusals_are_counted() {
    let world = World::start().await;
    let mut ada = world.ready_user("ada@example.com").await;
    let (push, _) = ada.push(&world, 3, 100).await;
    ada.push(&world, 4, 50).await;
    // A repeated push is stored once, and counted once.
    ada.send(&world, &push)
        .await
        .ok::<synckit_protocol::wire::log::Pushed>();
    ada.page(&world, Cursor::START).await;
    world.get("/api/sync/status").send().await;
    world.get("/nowhere/ada@example.com").send().await;
    let text = scrape(&world).await;
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(value(&text, "synckit_pushed_entries_total"), 7.0);
    assert_eq!(value(&text, "synckit_pushed_bytes_total"), 150.0);
    assert_eq!(value(&text, "synckit_pulled_entries_total"), 7.0);
    assert_eq!(value(&text, "synckit_pulled_bytes_total"), 150.0);
    let series = r#"synckit_requests_total{route="/api/sync/push",method="POST",status="200"}"#;
    assert_eq!(value(&text, series), 3.0);
    let series = r#"synckit_request_duration_seconds_count{route="/api/sync/push",method="POST"}"#;
    assert_eq!(value(&text, series), 3.0);
    let series = r#"synckit_requests_total{route="(none)",method="GET",status="404"}"#;
    assert_eq!(value(&text, series), 1.0);
    assert_eq!(value(&text, r#"synckit_problems_total{code="token_invalid"}"#), 1.0);
    assert_eq!(value(&text, "synckit_streams"), 1.0);
    assert_eq!(value(&text, "synckit_stored_batches_bytes"), 150.0);
    assert_eq!(value(&text, "synckit_write_queue"), 0.0);
    assert_eq!(value(&text, "synckit_requests_at_work"), 0.0);
    assert!(value(&text, "synckit_connections") >= 1.0);
    // A registration and a sign-in.
    assert_eq!(value(&text, "synckit_sign_in_guesses_total"), 2.0);
    assert!(value(&text, "synckit_database_bytes") > 0.0);
    let groups = value(&text, "synckit_commit_group_size_count");
    assert!(groups > 0.0 && value(&text, "synckit_commit_group_size_sum") >= groups);
    assert_eq!(value(&text, r#"synckit_commit_group_size_bucket{le="+Inf"}"#), groups);
    #[cfg(target_os = "linux")]
    {
        assert!(value(&text, "process_resident_memory_bytes") > 0.0);
        assert!(value(&text, "synckit_disk_free_bytes") > 0.0);
    }
    for secret in ["ada@example.com", "nowhere", &ada.user.user_id.to_string(), PASSWORD] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
}

#[tokio::test]
async fn labels_do_not_grow_with_what_clients_make_up() {
    let world = World::start().await;
    for n in 0..50 {
        world.get(&format!("/made/up/{n}")).send().await;
        world.get(&format!("/api/sync/snapshots/{n}")).send().await;
        let method = format!("MADEUP{n}").parse().unwrap();
        world.call(method, "/healthz").send().await;
    }
    let text = scrape(&world).await;
    let series = text
        .lines()
        .filter(|line| line.starts_with("synckit_requests_total"))
        .count();
    assert_eq!(series, 3, "{text}");
}

#[tokio::test]
async fn without_a_token_only_loopback_is_answered() {
    let world = World::start().await;
    assert_eq!(world.get("/metrics").send().await.code(), "200");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
        let answer = world.get("/metrics").header(header, "203.0.113.9").send().await;
        assert_eq!(answer.code(), "not_found", "{header}");
    }
}

#[tokio::test]
async fn with_a_token_only_the_token_counts() {
    let token = "0123456789abcdef-metrics";
    let world = World::start_with(|config| config.metrics_token = Some(SecretText::new(token))).await;
    let user = world.user("ada@example.com").await;
    assert_eq!(world.get("/metrics").send().await.code(), "token_invalid");
    for wrong in ["0123456789abcdef-metricz", &user.token, ""] {
        assert_eq!(world.get("/metrics").bearer(wrong).send().await.code(), "token_invalid");
    }
    let from_afar = world.get("/metrics").header("x-forwarded-for", "203.0.113.9");
    assert_eq!(from_afar.bearer(token).send().await.code(), "200");
}
