//! `synckit serve`: the server in the foreground, until Ctrl-C or SIGTERM.

use std::process::ExitCode;

use anyhow::Context as _;
use synckit_server::{Config, Server, config::Settings};
use tokio::net::TcpListener;

use crate::{
    cli::ServeArgs,
    exposure::{exposed_data, exposures},
    failure::{Failure, WithHint as _},
    log,
    notify::{self, Phase},
    screen,
    stop::{HangupIgnored, StopSignal},
};

/// After so many turns of connections a busy thread looks for new requests. Tokio's own 61 would be milliseconds where
/// many answers are large.
const TURNS_PER_POLL: u32 = 8;

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let mut config = resolve(&args)?;
    let configured = exposures(&config, args.config_file().map(AsRef::as_ref));
    for exposure in configured.into_iter().chain(exposed_data(&config)) {
        screen::note(format_args!("warning: {}: {}", exposure.what, exposure.advice));
    }
    screen::write_in_background()?;
    log::start(&args.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(TURNS_PER_POLL)
        .build()?;
    runtime.block_on(async {
        let shutdown = StopSignal::listen()?;
        let _ignored = HangupIgnored::install()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen at {}", config.listen))
            .hint("choose another address with --listen; 127.0.0.1:0 takes any free port")?;
        // The actual port, if the configuration allows any: URLs contain it.
        config.listen = listener.local_addr()?;
        let public_url = config.public_url.as_ref().map(ToString::to_string);
        let data_dir = config.data_dir.clone();
        let server = Server::open(config).await?;
        let address = listener.local_addr()?;
        screen::line(format_args!(
            "listening on http://{address}, data in {}",
            data_dir.display()
        ));
        if let Some(url) = &public_url {
            screen::line(format_args!("clients reach it at {url}"));
        }
        let has_apps = !server.admin().apps().await?.is_empty();
        screen::event(&serde_json::json!({
            "event": "listening", "url": format!("http://{address}"), "public_url": public_url,
            // A path may contain bytes that are not text; they are shown approximately.
            "data_dir": data_dir.to_string_lossy(),
            "has_apps": has_apps,
        }));
        if !has_apps {
            let place = if data_dir.as_os_str() == Config::DEFAULT_DATA_DIR {
                String::new()
            } else {
                format!(" --data-dir {}", data_dir.display())
            };
            screen::line("this server has no app yet; in another terminal, create one and get its API key:");
            screen::line(format_args!("    synckit app create \"My app\"{place}"));
        }
        notify::service_manager(Phase::Ready);
        let told_to_stop = async {
            shutdown.received().await;
            notify::service_manager(Phase::Stopping);
        };
        server.serve(listener, told_to_stop).await?;
        screen::event(&serde_json::json!({ "event": "stopped" }));
        screen::line("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// The configuration: flags over environment (both by clap) over file over default.
pub(crate) fn resolve(args: &ServeArgs) -> Result<Config, Failure> {
    let file = match args.config_file() {
        Some(path) => Settings::read_file(path)?,
        None => Settings::default(),
    };
    Ok(Config::resolve([args.settings.with_secrets()?, file])?)
}
