//! A server on PostgreSQL: its settings, its secrets, and a database that is away.

use reqwest::StatusCode;
use synckit_server::{
    Admin, Config, Server,
    config::{ConfigError, Database, Settings},
};
use tempfile::TempDir;

use crate::support::{World, fresh_postgres};

fn shown(error: &dyn std::error::Error) -> String {
    let mut text = format!("{error:?}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[test]
fn a_password_apart_from_its_url_is_used() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    // Every printable character of ASCII; a line break at the end is the editor's.
    let password: String = (' '..='~').collect();
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let url = "postgres://synckit@db.example.com/synckit";
    let settings = Settings::default().with("database", url).unwrap();
    let expected = Database::Postgres(
        url.parse::<synckit_store::PostgresUrl>()
            .unwrap()
            .with_password(&password),
    );
    let apart = settings.clone().with("database_password", &password).unwrap();
    let in_file = settings.with("database_password_file", file.to_str().unwrap()).unwrap();
    for settings in [apart, in_file] {
        let config = Config::resolve([settings]).unwrap();
        assert!(config.database == expected);
        assert!(!format!("{config:?}").contains(&password));
    }
    let missing = Settings::default()
        .with("database", url)
        .and_then(|settings| settings.with("database_password_file", "/nonexistent/password"))
        .unwrap();
    let error = Config::resolve([missing]).unwrap_err();
    assert!(matches!(error, ConfigError::SecretFile { .. }), "{error}");
    let alone = Settings::default().with("database_password", "hunter2").unwrap();
    let error = Config::resolve([alone]).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { key: "database", .. }), "{error}");
}

/// The name of another file must not take all memory.
#[test]
fn large_files_of_settings_are_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    let resolved = || {
        let settings = Settings::default()
            .with("database", "postgres://a@127.0.0.1/b")
            .unwrap();
        let settings = settings.with("database_password_file", file.to_str().unwrap()).unwrap();
        Config::resolve([settings])
    };
    std::fs::write(&file, [b'x'; 4096]).unwrap();
    resolved().unwrap();
    std::fs::write(&file, [b'x'; 4097]).unwrap();
    let error = resolved().unwrap_err();
    assert!(matches!(&error, ConfigError::SecretFile { .. }), "{error}");
    assert!(shown(&error).contains("larger than 4096 bytes"), "{}", shown(&error));

    // A comment is part of a file.
    std::fs::write(&file, vec![b'#'; 1 << 20]).unwrap();
    Settings::read_file(&file).unwrap();
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Settings::read_file(&file).unwrap_err();
    assert!(matches!(&error, ConfigError::Read { .. }), "{error}");
}

#[test]
fn a_refused_url_is_not_shown() {
    for text in [
        "hunter2",
        "postgres://a:hunter2@db/b?sslmode=require",
        "postgres://a:hunter2@db:port/b",
    ] {
        let error = Settings::default().with("database", text).unwrap_err();
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
        let file = format!("listen = \"127.0.0.1:0\"\ndatabase = \"{text}\"\n");
        let error = Settings::from_toml(&file, "synckit.toml".as_ref()).unwrap_err();
        assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn two_nodes_serve_one_database() {
    let database = fresh_postgres().await;
    let directories = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let on = |directory: &TempDir| {
        let mut config = Config::new(directory.path());
        config.database = database.clone();
        config
    };
    let admin = Admin::connect(&on(&directories[0])).await.unwrap();
    let app = admin.create_app("Notes").await.unwrap();
    let first = Server::open(on(&directories[0])).await.unwrap();
    // The second node has the keys of the first.
    let keys = directories[1].path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    for file in std::fs::read_dir(directories[0].path().join("keys")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), keys.join(file.file_name())).unwrap();
    }
    let second = Server::open(on(&directories[1])).await.unwrap();
    for node in [&first, &second] {
        assert_eq!(node.admin().apps().await.unwrap()[0].id, app.app_id);
    }
}

/// A new database beside existing keys would answer every device that its account is gone.
#[tokio::test]
async fn an_empty_database_beside_keys_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(Server::open(Config::new(directory.path())).await.unwrap());
    let mut config = Config::new(directory.path());
    config.database = fresh_postgres().await;
    let error = Server::open(config).await.unwrap_err().to_string();
    assert!(
        error.contains("is empty, but keys/ has key files: restore the database"),
        "{error}"
    );
    assert!(error.contains("postgres://postgres@127.0.0.1:"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_away_is_said_so() {
    let database = fresh_postgres().await;
    let Database::Postgres(url) = &database else { panic!() };
    let name = url.to_string().rsplit_once('/').unwrap().1.to_owned();
    let world = World::start_on(database.clone(), |_| {}).await;
    let user = world.user("ada@example.com").await;
    let server = std::env::var("SYNCKIT_TEST_POSTGRES").unwrap();
    let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // Nobody gets in, and who was in is thrown out.
    let close = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    );
    client.batch_execute(&close).await.unwrap();
    let answer = world.get("/api/sync/status").bearer(&user.token).send().await;
    assert_eq!(
        (answer.code().as_str(), answer.status),
        ("store_unavailable", StatusCode::SERVICE_UNAVAILABLE)
    );
    assert_eq!(answer.header("retry-after"), "1");
    let detail = answer.problem().detail.unwrap();
    assert!(
        ["no connection could be made", "the connection was lost"].contains(&detail.as_str()),
        "{detail}"
    );
    assert_eq!(world.get("/readyz").send().await.code(), "store_unavailable");
    client
        .batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        .await
        .unwrap();
    world.get("/api/sync/status").bearer(&user.token).send().await.json();
}
