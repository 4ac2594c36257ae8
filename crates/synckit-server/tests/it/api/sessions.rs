//! `/api/account/sessions`: the list, and the end of one.

use reqwest::Method;
use synckit_protocol::wire::accounts::SessionList;

use crate::support::{PASSWORD, User, World};

#[tokio::test]
async fn sessions_of_every_app_are_listed() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    user.register_device(&world, "laptop").await;
    world.clock.advance(10);
    let other = world.admin().await.create_app("Photos").await.unwrap();
    world
        .sign_in_to(other.api_key.expose(), "ada@example.com", PASSWORD)
        .await
        .unwrap();
    let answer = world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .send()
        .await;
    insta::assert_json_snapshot!(answer.json(), { ".sessions[].id" => "[id]" }, @r#"
    {
      "sessions": [
        {
          "app_name": "Photos",
          "created_at": 1767225610,
          "current": false,
          "id": "[id]",
          "refreshed_at": 1767225610
        },
        {
          "app_name": "Notes",
          "created_at": 1767225600,
          "current": true,
          "device_name": "laptop",
          "id": "[id]",
          "refreshed_at": 1767225600
        }
      ]
    }
    "#);
    let cbor = world
        .get("/api/account/sessions")
        .bearer(&user.account_token)
        .accept("application/cbor")
        .send()
        .await;
    assert_eq!(cbor.ok::<SessionList>(), answer.ok::<SessionList>());
}

#[tokio::test]
async fn one_session_is_ended_and_no_other() {
    let world = World::start().await;
    let ada = world.user("ada@example.com").await;
    let phone = world.sign_in("ada@example.com", PASSWORD).await.unwrap();
    let bob = world.user("bob@example.com").await;
    let list: SessionList = world
        .get("/api/account/sessions")
        .bearer(&ada.account_token)
        .send()
        .await
        .ok();
    let (current, other): (Vec<_>, Vec<_>) = list.sessions.iter().partition(|session| session.current);
    assert_eq!((current.len(), other.len()), (1, 1));
    let end = async |by: &User, id: &str| {
        let call = world.call(Method::DELETE, &format!("/api/account/sessions/{id}"));
        call.bearer(&by.account_token).send().await
    };
    let id = other[0].id.to_string();
    assert_eq!(end(&bob, &id).await.code(), "session_not_found");
    assert_eq!(end(&ada, "nonsense").await.code(), "session_not_found");
    let works = async |user: &User| world.get("/api/sync/status").bearer(&user.token).send().await.code();
    assert_eq!(works(&phone).await, "200");
    end(&ada, &id).await.empty();
    assert_eq!(works(&phone).await, "session_ended");
    assert_eq!(end(&ada, &id).await.code(), "session_not_found");
    assert_eq!((works(&ada).await, works(&bob).await), ("200".into(), "200".into()));
    end(&ada, &current[0].id.to_string()).await.empty();
    assert_eq!(works(&ada).await, "session_ended");
}
