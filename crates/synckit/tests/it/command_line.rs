//! What the program says of itself, and of a command line that is wrong.

use crate::program::run_with;

fn help_of(arguments: &[&str]) -> String {
    let ended = run_with(arguments).expect_code(0);
    assert!(ended.stderr.is_empty());
    // The name of the file has an ending on some systems.
    ended.stdout.replace("synckit.exe", "synckit")
}

fn refusal_of(arguments: &[&str]) -> String {
    run_with(arguments)
        .expect_code(2)
        .stderr
        .replace("synckit.exe", "synckit")
}

#[test]
fn help_names_every_command() {
    insta::assert_snapshot!(help_of(&["--help"]), @r#"
    End-to-end encrypted sync: a server that cannot read what it stores

    Usage: synckit [OPTIONS] <COMMAND>

    See it work:
      demo          Watch two devices sync a database and files through a server that can read neither

    Make an app:
      schema        Check whether the tables of an SQLite file can be synced
      estimate      Show what a plan costs, to the micro-dollar

    Run a server:
      serve         Run the server
      app           Create and list apps, rotate their API keys
      team          Create teams, whose members administer apps in the console
      account       List, export and delete accounts, create invitations, end sessions, restore key envelopes
      token         Rotate the key that signs the tokens of sessions
      backup        Back up the database and the files of a server, while it runs
      migrate-store Move the database of a server to PostgreSQL, or back
      doctor        Check a server, with advice for each problem

    Use an account:
      login         Sign in for later commands
      logout        End what `login` began: revoke this machine, and remove the stored values
      device        List, rename and revoke the devices of a user
      export        Export all of a user's data, decrypted: JSON lines or SQLite, and the files

    Other:
      completions   Print a script that completes commands and flags in a shell
      man           Write the manual pages
      help          Print this message or the help of a command

    Options:
          --json     Print JSON, for programs
      -h, --help     Print help
      -V, --version  Print version
    "#);
    insta::assert_snapshot!(help_of(&["app", "--help"]), @r#"
    Create and list apps, rotate their API keys

    Usage: synckit app [OPTIONS] <COMMAND>

    Commands:
      create           Create an app and show its API key
      list             List the apps and their keys
      rename           Give an app another name
      delete           Delete an app and all data that its users keep in it, for good
      plan             Say what an app may store and move; without a plan it has no limits
      user-limit       Limit what each user may store and move in an app
      usage            Show what an app stores and moves, and how much of its plan that is
      redirects        List the addresses that a browser sign-in may return to
      add-redirect     Register an address that a browser sign-in may return to
      remove-redirect  Remove an address that a browser sign-in may return to
      rotate-key       Create a new API key and expire the old ones

    Options:
          --json  Print JSON, for programs
      -h, --help  Print help
    "#);
    insta::assert_snapshot!(help_of(&["account", "--help"]), @r#"
    List, export and delete accounts, create invitations, end sessions, restore key envelopes

    Usage: synckit account [OPTIONS] <COMMAND>

    Commands:
      list              List the accounts
      invite            Create an invitation for one account and show its code, once
      export            Write all data of an account to a file, as JSON lines
      delete            Delete an account and all of its data, in every app, for good
      keep              Keep an account whose owner deleted it on its page, as long as its day has not come
      change-address    Give an account another address and end its sessions, for an owner whose address somebody else changed
      sign-out          End every session of an account, in every app
      envelopes         List the kept key envelopes of an account in an app
      restore-envelope  Restore an older key envelope, for a user whose devices cannot open the newest

    Options:
          --json  Print JSON, for programs
      -h, --help  Print help
    "#);
}

#[test]
fn help_of_serve_names_flags_and_variables() {
    insta::assert_snapshot!(help_of(&["serve", "-h"]), @r#"
    Run the server

    Usage: synckit serve [OPTIONS]

    Options:
          --config <FILE>
              A TOML file with the keys below (data_dir, listen, ...) [env: SYNCKIT_CONFIG=]
          --log <FILTER>
              Log level: error, warn, info, debug or trace, also by module [env: SYNCKIT_LOG=] [default: info]
          --data-dir <DIR>
              Directory for all data; created on first start [default: synckit-data] [env: SYNCKIT_DATA_DIR=]
          --listen <ADDR>
              Address to listen at; port 0 takes any free port [default: 127.0.0.1:8080] [env: SYNCKIT_LISTEN=]
          --database <URL>
              Database: embedded, or the URL of a PostgreSQL [default: embedded] [env: SYNCKIT_DATABASE]
          --database-password-file <FILE>
              File with the password of the PostgreSQL user [default: none] [env: SYNCKIT_DATABASE_PASSWORD_FILE=]
          --blobs <URL>
              Place of the sealed files: directory, or the address of a bucket [default: directory] [env: SYNCKIT_BLOBS]
          --public-url <URL>
              URL under which clients reach this server [default: http:// and the listen address] [env: SYNCKIT_PUBLIC_URL=]
          --registration <WHO>
              Who may create an account: open, invite or closed [default: open] [env: SYNCKIT_REGISTRATION=]
          --allow-password-login[=<BOOL>]
              Accept passwords in request bodies, for scripts; the server then sees them [env: SYNCKIT_ALLOW_PASSWORD_LOGIN=]
          --accept-new-oprf-seed[=<BOOL>]
              Continue after the OPRF seed was lost: every password must then be reset [env: SYNCKIT_ACCEPT_NEW_OPRF_SEED=]
          --trusted-proxies <ADDR[/BITS],...>
              Proxies whose X-Forwarded-For is trusted, such as 10.0.0.0/8 [default: none] [env: SYNCKIT_TRUSTED_PROXIES=]
          --log-format <FORM>
              Format of the log on standard error: text or json [default: text] [env: SYNCKIT_LOG_FORMAT=]
          --mail-from <ADDRESS>
              Sender of mails; needs smtp_url in the file or in SYNCKIT_SMTP_URL [default: none: mails become files] [env: SYNCKIT_MAIL_FROM=]
          --help-limits
              Print the limits, and other settings that few operators change
          --json
              Print JSON, for programs
      -h, --help
              Print help (see more with '--help')
    "#);
    let long = help_of(&["serve", "--help"]);
    assert!(long.lines().count() <= 90, "{long}");
    assert!(
        long.contains("--help-limits") && !long.contains("--guesses-per-address"),
        "{long}"
    );
    for command in ["serve", "doctor"] {
        let limits = help_of(&[command, "--help-limits"]);
        assert!(
            limits.contains("--guesses-per-address") && limits.contains("SYNCKIT_GUESSES_PER_ADDRESS"),
            "{limits}"
        );
        assert!(!limits.contains("--data-dir"), "{limits}");
    }
}

#[test]
fn help_of_demo_and_app() {
    insta::assert_snapshot!(help_of(&["demo", "-h"]), @r#"
    Watch two devices sync a database and files through a server that can read neither

    Usage: synckit demo [OPTIONS] [PATH]

    Arguments:
      [PATH]  A SQLite database or a folder to sync; it is only read [default: the IANA time zone tables]

    Options:
          --server <URL>     Use a running server instead of starting one
          --api-key <KEY>    The API key of an app on that server [env: SYNCKIT_API_KEY]
          --invite <CODE>    An invitation, if that server asks for one
          --email <ADDRESS>  The e-mail address of the account to create [default: a random one]
          --keep             Keep the server's data and both devices' databases
          --json             Print JSON, for programs
      -h, --help             Print help
    "#);
    insta::assert_snapshot!(help_of(&["app", "rotate-key", "-h"]), @r#"
    Create a new API key and expire the old ones

    Usage: synckit app rotate-key [OPTIONS] <APP>

    Arguments:
      <APP>  The id or the name of the app

    Options:
          --overlap <TIME>                 Time until the old keys expire, such as 12h or 7d [default: 7d]
          --data-dir <DIR>                 The data directory of the server [default: synckit-data] [env: SYNCKIT_DATA_DIR=]
          --config <FILE>                  The configuration file of the server, to find its data [env: SYNCKIT_CONFIG=]
          --database <URL>                 The database of the server: embedded, or the URL of a PostgreSQL without its password [default: embedded] [env: SYNCKIT_DATABASE]
          --database-password-file <FILE>  A file with the password of the PostgreSQL user; or set SYNCKIT_DATABASE_PASSWORD [env: SYNCKIT_DATABASE_PASSWORD_FILE=]
          --json                           Print JSON, for programs
      -h, --help                           Print help
    "#);
}

#[test]
fn help_of_what_users_do() {
    insta::assert_snapshot!(help_of(&["device", "revoke", "-h"]), @r#"
    Revoke a device: its sessions end within seconds

    Usage: synckit device revoke [OPTIONS] <DEVICE>

    Arguments:
      <DEVICE>  The id or the name of the device

    Options:
          --rotate           Replace the master key too, so that the device cannot read later data
          --yes              Do not ask for confirmation
          --server <URL>     The server [default: that of `synckit login`] [env: SYNCKIT_SERVER=]
          --api-key <KEY>    The API key of the app [default: that of `synckit login`] [env: SYNCKIT_API_KEY] [alias: --key]
          --email <ADDRESS>  The e-mail address of the account [default: that of `synckit login`] [env: SYNCKIT_EMAIL=]
          --password-stdin   Read the password from the first line of standard input
          --json             Print JSON, for programs
      -h, --help             Print help
    "#);
    insta::assert_snapshot!(help_of(&["export", "-h"]), @r#"
    Export all of a user's data, decrypted: JSON lines or SQLite, and the files

    Usage: synckit export [OPTIONS]

    Options:
          --out <DIR>        The directory of the export; created, for this user only [default: synckit-export]
          --format <FORM>    The format of the export [default: jsonl] [possible values: jsonl, sqlite]
          --blobs            Download every file too
          --recovery-code    Open the data with the recovery code (from the terminal or SYNCKIT_RECOVERY_CODE) after a password reset
          --force            Replace an existing export, and restart an interrupted one
          --server <URL>     The server [default: that of `synckit login`] [env: SYNCKIT_SERVER=]
          --api-key <KEY>    The API key of the app [default: that of `synckit login`] [env: SYNCKIT_API_KEY] [alias: --key]
          --email <ADDRESS>  The e-mail address of the account [default: that of `synckit login`] [env: SYNCKIT_EMAIL=]
          --password-stdin   Read the password from the first line of standard input
          --json             Print JSON, for programs
      -h, --help             Print help (see more with '--help')
    "#);
    let doctor = help_of(&["doctor", "-h"]);
    assert!(
        doctor.starts_with("Check a server, with advice for each problem\n") && doctor.contains("--full"),
        "{doctor}"
    );
}

#[test]
fn a_wrong_flag_is_answered_with_the_right_one() {
    insta::assert_snapshot!(refusal_of(&["serve", "--data-dri", "x"]), @r#"
    error: unexpected argument '--data-dri' found

      tip: a similar argument exists: '--data-dir'

    Usage: synckit serve --data-dir <DIR>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["srve"]), @r#"
    error: unrecognized subcommand 'srve'

      tip: a similar subcommand exists: 'serve'

    Usage: synckit [OPTIONS] <COMMAND>

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["app", "create"]), @r#"
    error: the following required arguments were not provided:
      <NAME>

    Usage: synckit app create <NAME>

    For more information, try '--help'.
    "#);
}

#[test]
fn a_wrong_value_is_answered_with_what_is_allowed() {
    insta::assert_snapshot!(refusal_of(&["serve", "--registration", "everybody"]), @r#"
    error: invalid value 'everybody' for '--registration <WHO>': expected one of open, invite, closed

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["serve", "--listen", "localhost"]), @r#"
    error: invalid value 'localhost' for '--listen <ADDR>': expected an IP address and a port, such as 127.0.0.1:8080 or [::]:8080

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["serve", "--request-timeout", "60"]), @r#"
    error: invalid value '60' for '--request-timeout <TIME>': expected a whole number and a unit, such as "30 s"; units: ms, s, min, h, d

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["app", "rotate-key", "Notes", "--overlap", "week"]), @r#"
    error: invalid value 'week' for '--overlap <TIME>': expected a whole number and a unit, such as "30 s"; units: ms, s, min, h, d

    For more information, try '--help'.
    "#);
    insta::assert_snapshot!(refusal_of(&["demo", "--server", "http://127.0.0.1:1"]), @r#"
    error: the following required arguments were not provided:
      --api-key <KEY>

    Usage: synckit demo --api-key <KEY> --server <URL> [PATH]

    For more information, try '--help'.
    "#);
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(
        help_of(&["--version"]),
        format!("synckit {}\n", env!("CARGO_PKG_VERSION"))
    );
}
