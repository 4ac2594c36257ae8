//! `synckit app`, `synckit account` and `synckit token`: administration of a data directory, which a running server may
//! use at the same time.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, anyhow};
use serde::Serialize;
use synckit_protocol::{AppId, KeyId, OwnerKey, UserId};
use synckit_server::{
    Admin, Config,
    admin::AdminError,
    config::{Database, Settings},
};
use synckit_store::{ApiKey, App, PostgresStore};

use crate::{
    account_data,
    cli::{AccountCommand, AppCommand, DataArgs, StreamArgs, TokenCommand},
    confirm::confirm,
    failure::{Failure, WithHint as _},
    plans, runtime, screen,
    settings::{refuse_password_in_flag, secrets},
    system, units,
};

pub(crate) fn run_app(command: AppCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            AppCommand::Create { name, data } => create_app(&name, &data).await,
            AppCommand::List { data } => list_apps(&data).await,
            AppCommand::Rename { app, name, data } => rename_app(&app, &name, &data).await,
            AppCommand::Delete { app, yes, data } => delete_app(&app, yes, &data).await,
            AppCommand::Plan { app, plan, data } => plans::write(&app, plan, &data).await,
            AppCommand::UserLimit { app, limit, data } => plans::limit_users(&app, limit, &data).await,
            AppCommand::Usage { app, data } => plans::usage(&app, &data).await,
            AppCommand::Redirects { app, data } => list_redirects(&app, &data).await,
            AppCommand::AddRedirect { app, uri, data } => add_redirect(&app, &uri, &data).await,
            AppCommand::RemoveRedirect { app, uri, data } => remove_redirect(&app, &uri, &data).await,
            AppCommand::RotateKey { app, overlap, data } => rotate_key(&app, overlap.0, &data).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_account(command: AccountCommand) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        match command {
            AccountCommand::List { data } => list_accounts(&data).await,
            AccountCommand::Invite { data } => invite(&data).await,
            AccountCommand::Export { email, out, data } => account_data::export(&email, &out, &data).await,
            AccountCommand::Delete { email, yes, data } => account_data::delete(&email, yes, &data).await,
            AccountCommand::Keep { email, data } => keep(&email, &data).await,
            AccountCommand::ChangeAddress { account, address, data } => change_address(&account, &address, &data).await,
            AccountCommand::SignOut { email, data } => sign_out(&email, &data).await,
            AccountCommand::Envelopes { stream, data } => list_envelopes(&stream, &data).await,
            AccountCommand::RestoreEnvelope { stream, version, data } => {
                restore_envelope(&stream, version, &data).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_token(command: TokenCommand) -> Result<ExitCode, Failure> {
    let TokenCommand::RotateKey { data } = command;
    runtime()?.block_on(async { Ok::<_, Failure>(open(&data).await?.rotate_token_key()?) })?;
    if screen::is_for_programs() {
        screen::json(&serde_json::json!({ "rotated": true }))?;
    } else {
        screen::line(
            "after its next start the server signs tokens with a new key; existing tokens stay valid until they expire",
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn create_app(name: &str, data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Created<'a> {
        app_id: AppId,
        name: &'a str,
        api_key: &'a str,
    }
    // An app may be created before the server's first start. So this command alone may create the directory.
    let config = config(data)?;
    if config.database == Database::Embedded {
        refuse_to_write_for_another_user(&config.data_dir)?;
    }
    let admin = Admin::connect(&config).await?;
    let created = admin.create_app(name).await?;
    let api_key = created.api_key.expose();
    if screen::is_for_programs() {
        screen::json(&Created {
            app_id: created.app_id,
            name,
            api_key,
        })?;
    } else {
        screen::line(format_args!("app      {name}"));
        screen::line(format_args!("app id   {}", created.app_id));
        screen::line(format_args!("API key  {api_key}"));
        screen::line("");
        screen::line("The app passes the key in SyncKitConfig::api_key. `synckit app list` shows it again.");
    }
    shown("the API key", "the app exists; `synckit app list` shows its key")
}

/// Fails if what was made did not reach standard output.
fn shown(secret: &str, hint: impl Into<String>) -> Result<(), Failure> {
    screen::all_written()
        .with_context(|| format!("{secret} was not shown"))
        .hint(hint)
}

async fn list_apps(data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Key {
        api_key: String,
        created_at: u64,
        ends_at: Option<u64>,
    }
    #[derive(Serialize)]
    struct Listed {
        app_id: AppId,
        name: String,
        created_at: u64,
        keys: Vec<Key>,
    }
    let apps = open(data).await?.apps().await?;
    if screen::is_for_programs() {
        let key = |key: ApiKey| Key {
            api_key: key.text,
            created_at: key.created_at,
            ends_at: key.ends_at,
        };
        let apps: Vec<Listed> = apps
            .into_iter()
            .map(|app| Listed {
                app_id: app.id,
                name: app.name,
                created_at: app.created_at,
                keys: app.keys.into_iter().map(key).collect(),
            })
            .collect();
        return Ok(screen::json(&apps)?);
    }
    if apps.is_empty() {
        screen::line("no apps; `synckit app create NAME` makes one");
        return Ok(());
    }
    let mut rows = Vec::new();
    for app in &apps {
        let first = [app.name.clone(), app.id.to_string(), units::date(app.created_at)];
        let keys: Vec<String> = app.keys.iter().map(describe_key).collect();
        // List an app even if its last key has expired.
        let keys = if keys.is_empty() {
            vec!["none active".to_owned()]
        } else {
            keys
        };
        for (index, key) in keys.into_iter().enumerate() {
            let mut row = if index == 0 {
                first.to_vec()
            } else {
                vec![String::new(); first.len()]
            };
            row.push(key);
            rows.push(row);
        }
    }
    screen::table(&["name", "id", "created", "API keys"], &rows, &[]);
    Ok(())
}

fn describe_key(key: &ApiKey) -> String {
    match key.ends_at {
        Some(ends_at) => format!("{} until {}", key.text, units::date(ends_at)),
        None => key.text.clone(),
    }
}

async fn rotate_key(app: &str, overlap: Duration, data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Rotated<'a> {
        app_id: AppId,
        api_key: &'a str,
        others_end_at: u64,
    }
    let admin = open(data).await?;
    let App { id: app_id, .. } = app_of(&admin, app).await?;
    let others_end_at = admin.now().saturating_add(overlap.as_secs());
    let api_key = admin.rotate_api_key(app_id, overlap).await?;
    let api_key = api_key.expose();
    let hint = "the key exists; `synckit app list` shows it";
    if screen::is_for_programs() {
        screen::json(&Rotated {
            app_id,
            api_key,
            others_end_at,
        })?;
        return shown("the API key", hint);
    }
    screen::line(format_args!("API key  {api_key}"));
    screen::line("");
    screen::line("Open sessions continue.");
    if overlap.is_zero() {
        screen::line("The older keys of the app have ended.");
    } else {
        screen::line(format_args!(
            "The older keys of the app work until {}.",
            units::date(others_end_at)
        ));
    }
    shown("the API key", hint)
}

async fn rename_app(app: &str, name: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    admin.rename_app(app.id, name).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "app_id": app.id, "name": name, "old_name": app.name }),
        )?);
    }
    screen::line(format_args!("the app {} is now named {name}", app.name));
    Ok(())
}

async fn list_redirects(app: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let redirects = admin.redirects(app.id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "app_id": app.id, "redirects": redirects }),
        )?);
    }
    // Every app has these.
    screen::line("http://127.0.0.1/callback  (any port)");
    screen::line("http://[::1]/callback  (any port)");
    redirects.iter().for_each(screen::line);
    Ok(())
}

async fn add_redirect(app: &str, uri: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    admin.add_redirect(app.id, uri).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "app_id": app.id, "redirect": uri }))?);
    }
    screen::line(format_args!("a browser sign-in of {} may return to {uri}", app.name));
    Ok(())
}

async fn remove_redirect(app: &str, uri: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    admin.remove_redirect(app.id, uri).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "app_id": app.id, "removed": uri }))?);
    }
    screen::line(format_args!(
        "no browser sign-in of {} returns to {uri} any more",
        app.name
    ));
    Ok(())
}

async fn delete_app(app: &str, yes: bool, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let app = app_of(&admin, app).await?;
    let consequence = format!(
        "This deletes the app {} and all data that its users keep in it, for good. Their accounts stay.",
        app.name
    );
    confirm(yes, &consequence, &app.name)?;
    admin.delete_app(app.id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "app_id": app.id, "name": app.name, "deleted": true }),
        )?);
    }
    screen::line(format_args!(
        "the app {} is deleted: its keys and sessions have ended",
        app.name
    ));
    screen::line(
        "The server deletes its data in the background, and its files two hours later. Backups are yours to delete.",
    );
    Ok(())
}

/// Finds an app by id or name. The id has priority, because a name may look like another app's id.
pub(crate) async fn app_of(admin: &Admin, wanted: &str) -> Result<App, Failure> {
    let mut apps = admin.apps().await?;
    let by_id = wanted.parse::<AppId>().ok();
    let found = match by_id {
        Some(app_id) => apps.iter().position(|app| app.id == app_id),
        None => apps.iter().position(|app| app.name == wanted),
    };
    let kind = if by_id.is_some() { "with the id" } else { "named" };
    found
        .map(|index| apps.swap_remove(index))
        .ok_or_else(|| anyhow!("there is no app {kind} {wanted}"))
        .hint("`synckit app list` shows the apps of this server")
        .map_err(|failure| failure.with_code("not_found"))
}

async fn list_accounts(data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listed {
        user_id: UserId,
        email: String,
        created_at: u64,
        email_verified_at: Option<u64>,
        delete_at: Option<u64>,
    }
    let accounts = open(data).await?.accounts().await?;
    if screen::is_for_programs() {
        let accounts: Vec<Listed> = accounts
            .into_iter()
            .map(|account| Listed {
                user_id: account.user_id,
                email: account.email,
                created_at: account.created_at,
                email_verified_at: account.email_verified_at,
                delete_at: account.delete_at,
            })
            .collect();
        return Ok(screen::json(&accounts)?);
    }
    if accounts.is_empty() {
        screen::line("no accounts; people create them in an app, with an invitation if the server asks for one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|account| {
            let verified = account.email_verified_at.map_or_else(|| "no".to_owned(), units::date);
            vec![
                account.email.clone(),
                account.user_id.to_string(),
                units::date(account.created_at),
                verified,
                account.delete_at.map(units::date).unwrap_or_default(),
            ]
        })
        .collect();
    screen::table(
        &["e-mail", "id", "created", "address confirmed", "will be deleted"],
        &rows,
        &[],
    );
    Ok(())
}

async fn invite(data: &DataArgs) -> Result<(), Failure> {
    let invite = open(data).await?.create_invite().await?;
    let code = invite.expose();
    if screen::is_for_programs() {
        screen::json(&serde_json::json!({ "invite": code }))?;
    } else {
        screen::line(format_args!("invitation  {code}"));
        screen::line("");
        screen::line("Copy the invitation now: it is not shown again. It lets one person create one account.");
    }
    shown("the invitation", "make another one: synckit account invite")
}

async fn keep(email: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let user_id = account_of(&admin, email).await?;
    admin.keep_account(user_id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({ "user_id": user_id, "kept": true }))?);
    }
    screen::line(format_args!("the account {email} is kept"));
    Ok(())
}

async fn change_address(account: &str, address: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let user_id = match account.parse() {
        Ok(user_id) => user_id,
        Err(_) => account_of(&admin, account).await?,
    };
    let sessions_ended = admin.change_address(user_id, address).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "user_id": user_id, "address": address, "sessions_ended": sessions_ended }),
        )?);
    }
    screen::line(format_args!(
        "the account has the address {address}; {} ended",
        units::counted(sessions_ended as u64, "session")
    ));
    screen::line("if somebody else knows the password, its owner now resets it by a mail");
    Ok(())
}

async fn sign_out(email: &str, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let user_id = account_of(&admin, email).await?;
    let sessions_ended = admin.end_sessions(user_id).await?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "user_id": user_id, "sessions_ended": sessions_ended }),
        )?);
    }
    let ended = units::counted(sessions_ended as u64, "session");
    screen::line(format_args!(
        "{ended} ended; within 5 seconds a running server refuses their requests"
    ));
    Ok(())
}

/// Finds an account by its address.
pub(crate) async fn account_of(admin: &Admin, email: &str) -> Result<UserId, Failure> {
    admin
        .account_of(email)
        .await?
        .ok_or_else(|| anyhow!("there is no account with the address {email}"))
        .hint("`synckit account list` shows the accounts of this server")
        .map_err(|failure| failure.with_code("not_found"))
}

/// Finds the app and the account of a stream.
async fn find_stream(admin: &Admin, stream: &StreamArgs) -> Result<(AppId, UserId), Failure> {
    let app = app_of(admin, &stream.app).await?;
    Ok((app.id, account_of(admin, &stream.email).await?))
}

async fn list_envelopes(stream: &StreamArgs, data: &DataArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listed {
        version: u64,
        current: bool,
        key_id: KeyId,
        owner: OwnerKey,
        size_bytes: usize,
        written_at: u64,
    }
    let admin = open(data).await?;
    let (app_id, user_id) = find_stream(&admin, stream).await?;
    let kept = admin.envelopes(app_id, user_id).await?;
    let listed: Vec<Listed> = kept
        .into_iter()
        .enumerate()
        .map(|(index, kept)| Listed {
            version: kept.version,
            current: index == 0,
            key_id: kept.key_id,
            owner: kept.owner,
            size_bytes: kept.size_bytes,
            written_at: kept.written_at,
        })
        .collect();
    if screen::is_for_programs() {
        return Ok(screen::json(&listed)?);
    }
    if listed.is_empty() {
        screen::line("no envelopes: no device of this account has set up encryption in this app");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = listed
        .iter()
        .map(|listed| {
            let mark = if listed.current { " (current)" } else { "" };
            vec![
                format!("{}{mark}", listed.version),
                units::date(listed.written_at),
                listed.key_id.to_string(),
                listed.owner.to_string(),
                listed.size_bytes.to_string(),
            ]
        })
        .collect();
    screen::table(&["version", "written", "key", "owner key", "bytes"], &rows, &[4]);
    Ok(())
}

async fn restore_envelope(stream: &StreamArgs, version: u64, data: &DataArgs) -> Result<(), Failure> {
    let admin = open(data).await?;
    let (app_id, user_id) = find_stream(&admin, stream).await?;
    let newest = admin
        .restore_envelope(app_id, user_id, version)
        .await
        .map_err(anyhow::Error::from)
        .hint("`synckit account envelopes` shows the kept envelopes and the current one")?;
    if screen::is_for_programs() {
        return Ok(screen::json(
            &serde_json::json!({ "user_id": user_id, "app_id": app_id, "restored": version, "version": newest }),
        )?);
    }
    screen::line(format_args!(
        "version {version} is the current envelope again, as version {newest}; devices take it at once"
    ));
    Ok(())
}

/// Opens the administration of an existing server: a mistyped directory must not become a new, empty server.
pub(crate) async fn open(data: &DataArgs) -> Result<Admin, Failure> {
    let config = config(data)?;
    if let Database::Postgres(url) = &config.database {
        let schema = PostgresStore::schema(url).await.map_err(AdminError::from)?;
        if schema.found.is_none() {
            return Err(no_data(url));
        }
        return Ok(Admin::connect(&config).await?);
    }
    let data_dir = config.data_dir;
    if !data_dir.join("synckit.db").is_file() {
        // A directory that this user may not list must not look empty.
        std::fs::read_dir(&data_dir)
            .map(|_| ())
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            })
            .with_context(|| format!("cannot look into {}", data_dir.display()))
            .hint("run it as the user who owns the data directory")?;
        return Err(no_data(data_dir.display()));
    }
    refuse_to_write_for_another_user(&data_dir)?;
    Ok(Admin::open(&data_dir)?)
}

fn no_data(place: impl std::fmt::Display) -> Failure {
    Failure::new(
        anyhow!("there is no server data in {place}"),
        "name the server's data directory with --data-dir, or its database with --database, or start the server first",
    )
    .with_code("no_data")
}

/// Root may write anywhere, but the server's own user could not read files that root creates in the data directory.
fn refuse_to_write_for_another_user(data_dir: &Path) -> Result<(), Failure> {
    // A missing directory is created in its nearest existing parent.
    let existing = std::path::absolute(data_dir)?;
    let existing = existing.ancestors().find_map(|path| std::fs::metadata(path).ok());
    let owner = existing.and_then(|metadata| system::owner(&metadata));
    match (system::this_user(), owner) {
        (Some(0), Some(owner)) if owner != 0 => Err(Failure::new(
            anyhow!("{} belongs to the user {owner}, and this is root", data_dir.display()),
            format!("run it as that user: sudo -u '#{owner}' synckit ..."),
        )
        .with_code("permission_denied")),
        _ => Ok(()),
    }
}

/// The configuration of an administrative command: flags over the environment (both by clap) over the file over the default.
pub(crate) fn config(data: &DataArgs) -> Result<Config, Failure> {
    let file = match &data.config {
        Some(path) => Settings::read_file(path)?,
        None => Settings::default(),
    };
    let mut given = secrets()?.without_services();
    if let Some(data_dir) = &data.data_dir {
        given = given.with_data_dir(data_dir);
    }
    if let Some(database) = &data.database {
        let is_flag = std::env::var("SYNCKIT_DATABASE").as_deref() != Ok(database);
        if is_flag {
            refuse_password_in_flag(database)?;
        }
        given = given.with("database", database)?;
    }
    if let Some(path) = &data.database_password_file {
        given = given.with("database_password_file", path)?;
    }
    Ok(Config::resolve([given, file.without_services()])?)
}

/// Whether the blobs of a server are in a bucket: by the flag or the environment, else by the file.
pub(crate) fn has_bucket(data: &DataArgs, blobs: Option<&str>) -> Result<bool, Failure> {
    let file = match &data.config {
        Some(path) => Settings::read_file(path)?,
        None => Settings::default(),
    };
    let given = match blobs {
        Some(blobs) => Settings::default().with("blobs", blobs)?,
        None => Settings::default(),
    };
    Ok(given.has_bucket().or(file.has_bucket()).unwrap_or(false))
}
