//! The exposures of a configuration and of a data directory, which `serve` logs at its start and `doctor` reports.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use http::Uri;
use synckit_server::{
    Config,
    config::{MailDelivery, Settings},
    inspect::Inspection,
};

use crate::system;

/// The most files named in a finding.
const NAMED_MAX: usize = 3;

/// Something that strangers can read or fake under this configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exposure {
    pub(crate) what: String,
    pub(crate) advice: &'static str,
}

/// All exposures of a configuration. `file` is the configuration file.
pub(crate) fn exposures(config: &Config, file: Option<&Path>) -> Vec<Exposure> {
    let mut found = Vec::new();
    let mut expose = |what: String, advice| found.push(Exposure { what, advice });
    if !config.listen.ip().is_loopback() {
        expose(
            format!(
                "the server listens at {} without TLS: the network sees tokens, addresses and names",
                config.listen
            ),
            "listen at 127.0.0.1 behind a proxy that ends TLS, or allow only the proxy to reach this address",
        );
    }
    if config.trusted_proxies.iter().any(|block| block.is_everything()) {
        expose(
            "trusted_proxies includes every address: any client can claim any address, and guess passwords without a limit"
                .to_owned(),
            "list only the addresses of your proxies",
        );
    }
    if let MailDelivery::Smtp { url, .. } = &config.mail
        && sends_mail_in_the_clear(url.expose())
    {
        expose(
            "smtp_url is plain smtp://: the network sees the mail server's password, and codes that reset passwords"
                .to_owned(),
            "use smtps://, or add ?tls=required",
        );
    }
    if let Some(file) = file
        && Settings::read_file(file).is_ok_and(|settings| settings.holds_secrets())
        && file
            .metadata()
            .is_ok_and(|metadata| system::mode(&metadata).is_some_and(|mode| mode & 0o077 != 0))
    {
        expose(
            format!("{} contains secrets, and other users may read it", file.display()),
            "chmod go= it, or put the secrets into SYNCKIT_SMTP_URL, SYNCKIT_DATABASE_PASSWORD and SYNCKIT_METRICS_TOKEN",
        );
    }
    found
}

/// Files of a data directory that other users of the machine can read. The server refuses to start with such key files. It only
/// warns about the others, because a backup or a volume of a container may have changed their modes.
pub(crate) fn exposed_data(config: &Config) -> Option<Exposure> {
    let mut open = readable_by_others(&Inspection::of(&config.data_dir));
    // A directory that others can enter shows them only names.
    open.retain(|path| path.is_file());
    (!open.is_empty()).then(|| Exposure {
        what: format!(
            "other users have access to {}: it contains addresses, names and times without encryption",
            named(&open)
        ),
        advice: "chmod -R go= the data directory",
    })
}

/// The private files and directories that other users than their owner may read or write.
pub(crate) fn readable_by_others(inspection: &Inspection) -> Vec<PathBuf> {
    let mut files = private_files(inspection);
    files.retain(|path| {
        fs::symlink_metadata(path).is_ok_and(|metadata| {
            !metadata.is_symlink() && system::mode(&metadata).is_some_and(|mode| mode & 0o077 != 0)
        })
    });
    files
}

/// All files that must be private, except the objects, which are in a private directory.
pub(crate) fn private_files(inspection: &Inspection) -> Vec<PathBuf> {
    let root = inspection.root();
    let mut files = vec![root.to_owned()];
    files.extend(["synckit.db", "synckit.db-wal", "synckit.db-shm"].map(|name| root.join(name)));
    files.extend([inspection.keys_path(), inspection.blobs_path(), inspection.mail_path()]);
    for directory in [inspection.keys_path(), inspection.mail_path()] {
        let entries = fs::read_dir(directory).into_iter().flatten();
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files
}

/// The first few of some files.
pub(crate) fn named(paths: &[PathBuf]) -> String {
    let shown = paths.iter().take(NAMED_MAX).map(|path| path.display().to_string());
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", paths.len() - NAMED_MAX));
    }
    text
}

/// Whether mails leave this machine without TLS. Without `tls=required` an attacker on the network can force plain
/// text.
fn sends_mail_in_the_clear(url: &str) -> bool {
    if !url.starts_with("smtp://") {
        return false;
    }
    let Ok(url) = url.parse::<Uri>() else { return true };
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_this_machine = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let mut parameters = url.query().unwrap_or_default().split('&');
    !is_this_machine && !parameters.any(|parameter| parameter == "tls=required")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(settings: Settings, file: Option<&Path>) -> Vec<String> {
        let config = Config::resolve([settings]).unwrap();
        let found = exposures(&config, file);
        found.into_iter().map(|exposure| exposure.what).collect()
    }

    fn with(key: &str, value: &str) -> Settings {
        let settings = Settings::default().with(key, value).unwrap();
        if key == "smtp_url" {
            return settings.with("mail_from", "sync@example.com").unwrap();
        }
        settings
    }

    #[test]
    fn private_configurations_expose_nothing() {
        for settings in [
            Settings::default(),
            with("listen", "[::1]:8080"),
            with("trusted_proxies", "10.0.0.0/8,::1"),
            with("smtp_url", "smtps://u:p@mail.example.com"),
            with("smtp_url", "smtp://u:p@mail.example.com:587?tls=required"),
            with("smtp_url", "smtp://localhost:25"),
            with("smtp_url", "smtp://u:p@127.0.0.2"),
            with("smtp_url", "smtp://[::1]:25"),
        ] {
            assert_eq!(found(settings, None), Vec::<String>::new());
        }
    }

    #[test]
    fn what_strangers_see_is_named() {
        for (settings, word) in [
            (with("listen", "0.0.0.0:8080"), "0.0.0.0:8080 without TLS"),
            (with("trusted_proxies", "0.0.0.0/0"), "includes every address"),
            (with("trusted_proxies", "10.0.0.1,::/0"), "includes every address"),
            (with("smtp_url", "smtp://u:p@mail.example.com:587"), "plain smtp://"),
            (
                with("smtp_url", "smtp://mail.example.com?tls=opportunistic"),
                "plain smtp://",
            ),
            // Names that only begin like those of this machine.
            (with("smtp_url", "smtp://localhost.example.com"), "plain smtp://"),
            (with("smtp_url", "smtp://127.example.com:25"), "plain smtp://"),
        ] {
            let found = found(settings, None);
            assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn secrets_in_a_file_of_others_are_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("synckit.toml");
        for (text, mode, expected) in [
            ("metrics_token = \"0123456789abcdef0123456789abcdef\"", 0o644, 1),
            ("metrics_token = \"0123456789abcdef0123456789abcdef\"", 0o600, 0),
            ("registration = \"invite\"", 0o644, 0),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                found(Settings::default(), Some(&file)).len(),
                expected,
                "{text} {mode:o}"
            );
        }
    }
}
