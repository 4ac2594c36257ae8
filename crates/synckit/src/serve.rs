//! `synckit serve`: the server in the foreground, until Ctrl-C or SIGTERM.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use anyhow::Context as _;
use synckit_server::{
    Config, DataDirError, KeyFileError, ServeError, Server,
    config::{ConfigError, LogFormat, Settings},
    store::StoreError,
};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{DEFAULT_DATA_DIR, ServeArgs},
    failure::{Failure, WithHint as _},
    screen,
};

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let mut config = resolve(&args)?;
    start_log(&args.log, config.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = StopSignal::listen()?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen at {}", config.listen))
            .hint("choose another address with --listen; 127.0.0.1:0 takes any free port")?;
        // The port that was taken, where any was asked for: it stands in URLs.
        config.listen = listener.local_addr()?;
        let public_url = config.public_url.as_ref().map(ToString::to_string);
        let data_dir = config.data_dir.clone();
        let server = match Server::open(config).await {
            Ok(server) => server,
            Err(error) => return Err(refused(error)),
        };
        let address = listener.local_addr()?;
        screen::line(format_args!(
            "listening on http://{address}, data in {}",
            data_dir.display()
        ));
        if let Some(url) = public_url {
            screen::line(format_args!("clients reach it at {url}"));
        }
        if server.admin().apps().await?.is_empty() {
            let place = if data_dir.as_os_str() == DEFAULT_DATA_DIR {
                String::new()
            } else {
                format!(" --data-dir {}", data_dir.display())
            };
            screen::line("this server has no app yet; in another terminal, make one and get its API key:");
            screen::line(format_args!("    synckit app create \"My app\"{place}"));
        }
        server.serve(listener, shutdown.received()).await.map_err(refused)?;
        screen::line("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// The configuration: flags over environment (both by clap) over file over default.
fn resolve(args: &ServeArgs) -> Result<Config, Failure> {
    let smtp_url = std::env::var("SYNCKIT_SMTP_URL").ok().filter(|url| !url.is_empty());
    let file = match args.config_file() {
        Some(path) => Settings::read_file(path).map_err(configuration_failure)?,
        None => Settings::default(),
    };
    let fallback = Settings {
        data_dir: Some(DEFAULT_DATA_DIR.into()),
        ..Settings::default()
    };
    Config::resolve([args.settings(smtp_url), file, fallback]).map_err(configuration_failure)
}

/// What is wrong with a configuration, and where to look.
pub(crate) fn configuration_failure(error: ConfigError) -> Failure {
    let hint = match &error {
        ConfigError::Read { .. } => "check the path that --config or SYNCKIT_CONFIG names",
        ConfigError::File { .. } => "the keys are those of `synckit serve --help`, with _ in place of -",
        _ => "`synckit serve --help` shows what is allowed",
    };
    Failure::new(error, hint)
}

/// Why the server did not start, with what to do about it.
fn refused(error: ServeError) -> Failure {
    let hint = match &error {
        ServeError::DataDir(DataDirError::InUse { .. }) => {
            "administration (`synckit app`, `synckit account`) works beside a running server"
        }
        ServeError::DataDir(_) => "choose a directory that this user can write with --data-dir",
        ServeError::Keys(KeyFileError::Exposed { .. }) => "only the server's own user may read its keys",
        ServeError::OtherSeed => "see \"Losing the OPRF seed\" in docs/operations.md before you go on without it",
        ServeError::Store(StoreError::NewerSchema { .. }) => "start the newer synckit that made this database",
        ServeError::Mail(_) => "check smtp_url and mail_from",
        _ => return error.into(),
    };
    Failure::new(error, hint)
}

fn start_log(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .with_context(|| format!("{filter:?} is not a log filter"))
        .hint("use error, warn, info, debug or trace, or such as synckit_server=debug,info")?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Json => log.json().flatten_event(true).init(),
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
    }
    Ok(())
}

/// Ctrl-C, and on Unix SIGTERM.
struct StopSignal {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Installed before anything is said to listen, so that no signal meets the default action.
    #[cfg(unix)]
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(not(unix))]
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            // Nobody can ask this server to stop; it runs until it is killed.
            std::future::pending::<()>().await;
        }
    }

    /// Resolves at the first signal. The second one ends the process at once.
    async fn received(mut self) {
        self.next().await;
        screen::line("stopping after the requests that are running; once more stops at once");
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(1);
        });
    }
}
