//! The console: who sees which app, and what its forms need to change one.

use std::time::Duration;

use http::StatusCode;
use synckit_protocol::{AppId, TeamId, UserId, limits};
use synckit_server::{Admin, billing::Plan};
use synckit_store::{Month, TeamRole};

use super::account_page::{Browser, FORM, encoded, text_of};
use crate::support::{Answer, PASSWORD, World};

const OWNER: &str = "ada@example.com";

/// The path of a form, and what it names.
type Sent = (String, Vec<(&'static str, &'static str)>);

/// A team with an app, and its owner in a browser.
struct Team {
    world: World,
    admin: Admin,
    id: TeamId,
    app: AppId,
    owner: Browser,
}

impl Team {
    async fn start() -> Self {
        let world = World::start().await;
        let admin = world.admin().await;
        let user = world.user(OWNER).await;
        let id = admin.create_team("Example Co", user.user_id).await.unwrap();
        let app = admin.create_app_of(Some(id), "Field Notes").await.unwrap().app_id;
        let owner = Browser::sign_in(&world, OWNER).await;
        Self {
            world,
            admin,
            id,
            app,
            owner,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/console/apps/{}{rest}", self.app)
    }

    /// Every page and every form of the app, with what it names beside its proof.
    fn of_app(&self) -> (Vec<String>, Vec<Sent>) {
        let pages = ["", "/steps", "/usage", "/settings", "/delete"].map(|rest| self.path(rest));
        let forms = [
            ("/keys", vec![("days", "0")]),
            ("/redirects", vec![("change", "add"), ("uri", "com.example.eve:/x")]),
            ("/name", vec![("name", "Stolen")]),
            ("/user-limit", vec![("mb", "1"), ("burst", "0.01")]),
            ("/delete", vec![("name", "Field Notes")]),
        ];
        let forms = forms.map(|(rest, fields)| (self.path(rest), fields));
        (pages.into(), forms.into())
    }

    /// The name of the app with the limit of its users, its keys and its return addresses.
    async fn state(&self) -> (String, Vec<String>, Vec<String>) {
        let apps = self.admin.apps().await.unwrap();
        let app = apps.into_iter().find(|app| app.id == self.app).unwrap();
        let keys = app.keys.into_iter().map(|key| key.text).collect();
        let limit = self.admin.usage(self.app).await.unwrap().user_limit;
        let limit = limit.map(|limit| format!(" {} x {}", limit.megabytes.number(), limit.burst));
        let name = app.name + &limit.unwrap_or_default();
        (name, keys, self.admin.redirects(self.app).await.unwrap())
    }

    /// Another account in a browser.
    async fn browser_of(&self, email: &str) -> (UserId, Browser) {
        let user = self.world.user(email).await;
        (user.user_id, Browser::sign_in(&self.world, email).await)
    }
}

fn location(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    answer.header("location")
}

#[tokio::test]
async fn the_console_sends_strangers_to_sign_in() {
    let team = Team::start().await;
    let (mut pages, mut forms) = team.of_app();
    pages.push("/console".to_owned());
    forms.push(("/console/apps".to_owned(), vec![("name", "x")]));
    for page in pages {
        let answer = team.world.get(&page).send().await;
        assert_eq!(location(&answer), "/account/sign-in?to=console", "{page}");
    }
    let before = team.state().await;
    for (path, fields) in forms {
        let answer = team.world.post(&path).text(FORM, encoded("x", &fields)).send().await;
        assert_eq!(location(&answer), "/account/sign-in?to=console", "{path}");
    }
    assert_eq!(team.state().await, before);
    let shown = team.world.get("/account/sign-in?to=console").send().await;
    assert!(text_of(&shown).contains("\"/console\""), "the sign-in leads back");
}

#[tokio::test]
async fn a_member_makes_an_app_whose_key_works() {
    let team = Team::start().await;
    let fields = [("team", &*team.id.to_string()), ("name", "  Recipes ")];
    let made = team.owner.post(&team.world, "/console/apps", &fields).await;
    let path = location(&made).to_owned();
    let apps = team.admin.apps().await.unwrap();
    let app = apps.iter().find(|app| app.name == "Recipes").unwrap();
    assert_eq!(path, format!("/console/apps/{}", app.id));
    let page = text_of(&team.owner.get(&team.world, &path).await);
    assert!(page.contains(&app.keys[0].text) && page.contains("cargo add synckit-client"));
    let steps = async || -> serde_json::Value { team.owner.get(&team.world, &format!("{path}/steps")).await.json() };
    let expected = serde_json::json!({ "signed_in": false, "pushed": false, "second_device": false });
    assert_eq!(steps().await, expected);
    assert!(!page.contains("class=\"done\""));
    team.world.sign_in_to(&app.keys[0].text, OWNER, PASSWORD).await.unwrap();
    let expected = serde_json::json!({ "signed_in": true, "pushed": false, "second_device": false });
    assert_eq!(steps().await, expected);
    let page = text_of(&team.owner.get(&team.world, &path).await);
    assert_eq!(
        page.matches("class=\"done\"").count(),
        2,
        "the program, and the sign-in"
    );
}

#[tokio::test]
async fn foreign_apps_are_like_none() {
    let mut team = Team::start().await;
    let (_, eve) = team.browser_of("eve@example.com").await;
    let other = Team::path(&team, "");
    let unknown = other.replace(&team.app.to_string(), &AppId::from_bytes([9; 16]).to_string());
    let none = text_of(&eve.get(&team.world, &unknown).await);
    let before = team.state().await;
    let form = eve.form(&team.world).await;
    for round in ["of a team", "of the operator"] {
        let (pages, forms) = team.of_app();
        for page in &pages {
            let answer = eve.get(&team.world, page).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{round} {page}");
            assert_eq!(text_of(&answer), none);
        }
        for (path, fields) in &forms {
            let answer = eve.send(&team.world, path, &form, fields).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{round} {path}");
            assert_eq!(text_of(&answer), none);
        }
        if round == "of a team" {
            assert_eq!(team.state().await, before);
            team.app = team.world.app.app_id;
        }
    }
    let fields = [("team", &*team.id.to_string()), ("name", "Eve's")];
    let answer = eve.send(&team.world, "/console/apps", &form, &fields).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(!team.admin.apps().await.unwrap().iter().any(|app| app.name == "Eve's"));
    let page = text_of(&eve.get(&team.world, "/console").await);
    assert!(!page.contains("Field Notes") && page.contains("You are in no team yet"));
}

#[tokio::test]
async fn only_forms_of_the_console_change_an_app() {
    let team = Team::start().await;
    let before = team.state().await;
    let other = Browser::sign_in(&team.world, OWNER).await;
    let (_, forms) = team.of_app();
    let foreign = [String::new(), other.form(&team.world).await];
    let own = team.owner.form(&team.world).await;
    for (path, fields) in &forms {
        for form in &foreign {
            let answer = team.owner.send(&team.world, path, form, fields).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
        for site in ["cross-site", "same-site"] {
            let call = team.owner.with(team.world.post(path)).header("sec-fetch-site", site);
            let answer = call.text(FORM, encoded(&own, fields)).send().await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        }
    }
    assert_eq!(team.state().await, before);
    // The control: its own forms do.
    for (path, fields) in &forms[..4] {
        let answer = team.owner.send(&team.world, path, &own, fields).await;
        assert!(location(&answer).contains("/settings?done="), "{path}");
    }
    let (name, keys, redirects) = team.state().await;
    assert_eq!(
        (name.as_str(), redirects),
        ("Stolen 1 x 0.01", vec!["com.example.eve:/x".to_owned()])
    );
    assert!(keys.len() == 1 && keys != before.1, "the old key has ended");
}

#[tokio::test]
async fn roles_decide_who_deletes_an_app() {
    let team = Team::start().await;
    let (user_id, developer) = team.browser_of("dev@example.com").await;
    let role = Some(TeamRole::Developer);
    team.admin.write_member(team.id, user_id, role).await.unwrap();
    let settings = text_of(&developer.get(&team.world, &team.path("/settings")).await);
    assert!(!settings.contains("Delete app…") && settings.contains("Only an owner"));
    assert_eq!(
        developer.get(&team.world, &team.path("/delete")).await.status,
        StatusCode::NOT_FOUND
    );
    let fields = [("name", "Field Notes")];
    let answer = developer.post(&team.world, &team.path("/delete"), &fields).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(team.state().await.0, "Field Notes");
    let renamed = developer
        .post(&team.world, &team.path("/name"), &[("name", "Cards")])
        .await;
    assert!(location(&renamed).contains("done=name"));
    // An end of the membership holds from the next request on.
    team.admin.write_member(team.id, user_id, None).await.unwrap();
    let gone = developer.get(&team.world, &team.path("/settings")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    // An owner deletes it, by its typed name.
    let wrong = team
        .owner
        .post(&team.world, &team.path("/delete"), &[("name", "cards")])
        .await;
    assert!(text_of(&wrong).contains("That is another name"));
    let answer = team
        .owner
        .post(&team.world, &team.path("/delete"), &[("name", "Cards")])
        .await;
    assert_eq!(location(&answer), "/console?done=deleted");
    let shown = text_of(&team.owner.get(&team.world, "/console?done=deleted").await);
    assert!(shown.contains("The app is deleted"));
    assert!(!team.admin.apps().await.unwrap().iter().any(|app| app.id == team.app));
}

#[tokio::test]
async fn deleting_an_app_needs_a_fresh_password() {
    let team = Team::start().await;
    team.world.clock.advance(limits::ACCOUNT_TOKEN_SECONDS);
    let form = team.owner.form(&team.world).await;
    let asked = team.owner.get(&team.world, &team.path("/delete")).await;
    assert_eq!(location(&asked), "/account/sign-in?to=console");
    let fields = [("name", "Field Notes")];
    let answer = team
        .owner
        .send(&team.world, &team.path("/delete"), &form, &fields)
        .await;
    assert_eq!(location(&answer), "/account/sign-in?to=console");
    assert_eq!(team.state().await.0, "Field Notes");
    // What can be taken back does not.
    let renamed = team
        .owner
        .post(&team.world, &team.path("/name"), &[("name", "Cards")])
        .await;
    assert!(location(&renamed).contains("done=name"));
}

#[tokio::test]
async fn a_refused_form_keeps_what_was_typed() {
    let team = Team::start().await;
    let id = team.id.to_string();
    for (path, fields, told, typed) in [
        (
            "/console/apps".to_owned(),
            vec![("team", &*id), ("name", "Field Notes")],
            "there is already an app named",
            "Field Notes",
        ),
        (
            "/console/apps".to_owned(),
            vec![("team", &*id), ("name", "")],
            "an app cannot have this name",
            "",
        ),
        (
            team.path("/name"),
            vec![("name", "Notes")],
            "there is already an app named",
            "Notes",
        ),
        (
            team.path("/redirects"),
            vec![("change", "add"), ("uri", "http://example.com/<script>")],
            "a return address has only",
            "http://example.com/&lt;script&gt;",
        ),
        (
            team.path("/redirects"),
            vec![("change", "remove"), ("uri", "com.example:/none")],
            "the app has no return address",
            "com.example:/none",
        ),
    ] {
        let answer = team.owner.post(&team.world, &path, &fields).await;
        let page = text_of(&answer);
        assert!(page.contains(told), "{path}: {page}");
        assert!(page.contains(&format!("value=\"{typed}\"")), "{path}: {page}");
    }
    for days in ["1", "-1", "90000", ""] {
        let answer = team
            .owner
            .post(&team.world, &team.path("/keys"), &[("days", days)])
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{days}");
    }
    assert_eq!(team.state().await.1.len(), 1);
}

#[tokio::test]
async fn names_are_text_wherever_they_stand() {
    let team = Team::start().await;
    let name = "<img src=x onerror=alert(1)> & \"'";
    team.admin.rename_app(team.app, name).await.unwrap();
    team.admin
        .add_redirect(team.app, "com.example.notes:/callback?a=1&b=2")
        .await
        .unwrap();
    let (pages, _) = team.of_app();
    for path in pages
        .iter()
        .filter(|path| !path.ends_with("/steps"))
        .chain([&"/console".to_owned()])
    {
        let page = text_of(&team.owner.get(&team.world, path).await);
        assert!(
            !page.contains("<img") && page.contains("&lt;img src=x"),
            "{path}: {page}"
        );
    }
}

#[tokio::test]
async fn an_old_key_is_valid_for_the_chosen_days() {
    let team = Team::start().await;
    let old = team.state().await.1.remove(0);
    let answer = team
        .owner
        .post(&team.world, &team.path("/keys"), &[("days", "7")])
        .await;
    let page = text_of(
        &team
            .owner
            .get(&team.world, location(&answer).split('#').next().unwrap())
            .await,
    );
    assert!(page.contains("The app has a new key"), "{page}");
    assert!(page.contains(&old) && page.contains("Valid until"));
    team.world.sign_in_to(&old, OWNER, PASSWORD).await.unwrap();
    team.world.clock.advance(Duration::from_secs(7 * 24 * 3600).as_secs());
    assert!(team.world.sign_in_to(&old, OWNER, PASSWORD).await.is_err());
}

#[tokio::test]
async fn embedded_usage_names_the_rung_of_an_app() {
    let team = Team::start().await;
    let page = async || text_of(&team.owner.get(&team.world, &team.path("/usage")).await);
    assert!(page().await.contains("no limits"));
    // 10 megabytes a month.
    let plan = |burst: &str| Plan::new("1".parse().unwrap(), burst.parse().unwrap());
    team.admin.write_plan(team.app, Some(plan("0.01"))).await.unwrap();
    let moves = |bytes: i64| {
        let database = rusqlite::Connection::open(team.world.path().join("synckit.db")).unwrap();
        let month = Month::of(team.world.clock.now()).0;
        let insert = "INSERT INTO usage_months (app_key, month, moved_bytes) SELECT app_key, ?1, ?2 FROM apps
            WHERE name = 'Field Notes' ON CONFLICT DO UPDATE SET moved_bytes = moved_bytes + excluded.moved_bytes";
        assert_eq!(database.execute(insert, rusqlite::params![month, bytes]), Ok(1));
    };
    let is_on = |page: &str, rung: &str| {
        let rest = page.split_once(rung).unwrap().1;
        rest.split("</li>").next().unwrap().contains("Transfer is here")
    };
    for (bytes, rung) in [
        (8_000_000, "80 %: you and your app are told"),
        (1_500_000, "95 %: time to act"),
        (600_000, "Transfer full: slower"),
    ] {
        moves(bytes);
        let shown = page().await;
        assert!(is_on(&shown, rung), "{shown}");
        assert_eq!(shown.matches("Transfer is here").count(), 1);
    }
    let shown = page().await;
    assert!(
        shown.contains("10.1\u{a0}MB</b> of 10.0\u{a0}MB · 101&nbsp;%"),
        "{shown}"
    );
    team.admin.write_plan(team.app, Some(plan("5"))).await.unwrap();
    assert!(!page().await.contains("is here"));
}
