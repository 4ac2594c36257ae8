//! Mails: codes that confirm an address or reset a password, and notices: of an attempt to register again, of changes of an
//! account, of an app that nears a limit of its plan.
//!
//! Requests only enqueue; a task looks up the account, makes the code and sends the mail. A request therefore takes the same
//! time with and without an account, and never waits for a slow mail server. A mail that the mail server did not take for now
//! is sent again, for as long as a code for a reset is valid. A crash loses queued mails; users request them again.
//!
//! Invariant: the queue is bounded, and an accepted mail is not dropped: a request takes its place in the queue before it is
//! counted. The callers limit the mails (`limits::Mails`): a stranger cannot flood a mailbox.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
};
use synckit_protocol::{SecretText, UserId, limits::RESET_CODE_SECONDS, wire::UnixSeconds};
use synckit_store::{
    CredentialOf, NewMailCode, PlanPart, SecretHash, Store, StoreError, TaskLost,
    private_files::{create_private_dir, write_private_file},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    billing::plan::GIGABYTE,
    metering::Climb,
    platform::{Clock, caught, random_bytes},
    sign_in::fresh_secret,
    startup::config::MailDelivery,
};

/// Mails that wait to be sent. Past it requests for a mail are refused.
const QUEUE_MAX: usize = 256;
/// Mails that wait to be sent again. Past it no further mail is taken from the queue.
const DEFERRED_MAX: usize = 256;
/// The pause before a mail is sent again; it doubles with every further one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long a mail is tried.
const TRIED_FOR: Duration = Duration::from_secs(RESET_CODE_SECONDS);

/// A mail that should be sent. Addresses are normalised.
pub(crate) enum MailJob {
    /// A pending account: its address must be confirmed within `lifetime`.
    ConfirmAddress {
        email: String,
        code: SecretText,
        lifetime: Duration,
    },
    /// Somebody tried to register an address that has an account.
    AddressTaken { email: String },
    /// An account is to have this address.
    ChangeAddress { email: String, code: SecretText },
    /// A sign-in took the deletion of an account back.
    DeletionTakenBack { email: String },
    /// An account had this address, and has another now.
    AddressChanged { email: String, to: String, user_id: UserId },
    /// An account is to be deleted.
    DeletionScheduled { email: String, on: UnixSeconds },
    /// An app of which this address is an owner is on another rung of its plan.
    PlanNearlyUsed { email: String, app: String, climb: Climb },
    /// Somebody forgot a password, or says so. Whether the address has an account is not known yet.
    ResetPassword { email: String },
}

/// Where requests leave their mails.
#[derive(Clone)]
pub(crate) struct Mailer {
    queue: mpsc::Sender<MailJob>,
}

/// A place in the queue, for one mail or none.
pub(crate) struct Place<'a>(mpsc::Permit<'a, MailJob>);

/// Too many mails wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

impl Place<'_> {
    pub(crate) fn fill(self, job: MailJob) {
        self.0.send(job);
    }
}

/// Why mails cannot be sent as configured.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// use synckit_server::{Config, ServeError, Server, config::Settings};
///
/// let settings = Settings::default()
///     .with("smtp_url", "smtps://mail.example.com")?
///     .with("mail_from", "no address @")?;
/// let mut config = Config::resolve([settings])?;
/// config.data_dir = directory.path().into();
/// assert!(matches!(Server::open(config).await, Err(ServeError::Mail(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailConfigError {
    /// The URL of the SMTP server.
    #[error("smtp_url is not valid: expected smtps://user:password@host or smtp://host:port?tls=required")]
    Url(#[source] lettre::transport::smtp::Error),
    /// The sender.
    #[error("mail_from is not valid: expected an address, or a name and an <address>")]
    From(#[source] lettre::address::AddressError),
}

/// Why mails could not be sent now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailCheckError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] MailConfigError),
    /// The mail server cannot be reached, or refuses to talk.
    #[error("the mail server cannot be reached")]
    Connection(#[source] lettre::transport::smtp::Error),
    /// The mail server answers, but not that it is ready.
    #[error("the mail server is not ready")]
    NotReady,
}

/// The task that sends.
pub(crate) struct MailWorker {
    queue: mpsc::Receiver<MailJob>,
    transport: Transport,
    from: Mailbox,
    public_url: String,
    store: Arc<dyn Store>,
    clock: Clock,
}

/// A mail that was not sent yet.
struct Deferred {
    content: Content,
    pause: Duration,
    next_try: Instant,
    /// Nothing is tried after this time.
    until: Instant,
}

enum Content {
    Job(MailJob),
    /// A further try sends the same code.
    Message(Message),
}

enum Transport {
    Directory(PathBuf),
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the address is not one that mail can be sent to")]
    Address(#[source] lettre::address::AddressError),
    #[error("the mail could not be composed")]
    Compose(#[source] lettre::error::Error),
    #[error("the mail server refused the mail")]
    Smtp(#[source] lettre::transport::smtp::Error),
    #[error("the mail could not be written")]
    File(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SendError {
    /// Whether the mail may be sent later: the mail server or the database cannot be reached, or the mail server does not take
    /// this mail for now (RFC 5321, section 4.2.1).
    fn is_temporary(&self) -> bool {
        match self {
            Self::Smtp(error) => !error.is_permanent() && !error.is_client(),
            Self::Store(error) => matches!(
                error,
                StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Full(_)
            ),
            Self::File(_) => true,
            Self::Address(_) | Self::Compose(_) => false,
        }
    }
}

/// How mails go out, and from whom.
fn transport(delivery: &MailDelivery, directory: PathBuf) -> Result<(Transport, Mailbox), MailConfigError> {
    let (transport, from) = match delivery {
        MailDelivery::Directory => (Transport::Directory(directory), "SyncKit <synckit@localhost>"),
        MailDelivery::Smtp { url, from } => {
            let smtp = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose()).map_err(MailConfigError::Url)?;
            (Transport::Smtp(smtp.build()), from.as_str())
        }
    };
    Ok((transport, from.parse().map_err(MailConfigError::From)?))
}

impl Mailer {
    /// The queue, and the task that must run beside it.
    pub(crate) fn new(
        delivery: &MailDelivery,
        directory: PathBuf,
        public_url: &str,
        store: Arc<dyn Store>,
        clock: Clock,
    ) -> Result<(Self, MailWorker), MailConfigError> {
        let (transport, from) = transport(delivery, directory)?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let worker = MailWorker {
            queue: receiver,
            transport,
            from,
            public_url: public_url.to_owned(),
            store,
            clock,
        };
        Ok((Self { queue: sender }, worker))
    }

    /// Checks the settings, and connects to the mail server if one is configured.
    pub(crate) async fn connect(delivery: &MailDelivery) -> Result<(), MailCheckError> {
        if let Transport::Smtp(smtp) = transport(delivery, PathBuf::new())?.0 {
            match smtp.test_connection().await {
                Ok(true) => {}
                Ok(false) => return Err(MailCheckError::NotReady),
                Err(error) => return Err(MailCheckError::Connection(error)),
            }
        }
        Ok(())
    }

    /// Checks the settings.
    pub(crate) fn check(delivery: &MailDelivery) -> Result<(), MailConfigError> {
        transport(delivery, PathBuf::new()).map(|_| ())
    }

    /// Takes a place in the queue, before a request is counted or stored.
    pub(crate) fn reserve(&self) -> Result<Place<'_>, QueueFull> {
        self.queue.try_reserve().map(Place).map_err(|_| QueueFull)
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailer")
    }
}

impl fmt::Debug for MailWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailWorker")
    }
}

impl MailWorker {
    /// Sends until the server stops, and then the mails that are already queued.
    pub(crate) async fn run_until(mut self, stopping: CancellationToken) {
        let mut deferred: Vec<Deferred> = Vec::new();
        loop {
            let next_try = deferred.iter().map(|mail| mail.next_try).min();
            let has_room = deferred.len() < DEFERRED_MAX;
            let due = async {
                match next_try {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    let now = Instant::now();
                    let due: Vec<Deferred> = deferred.extract_if(.., |mail| mail.next_try <= now).collect();
                    for mail in due {
                        deferred.extend(self.next_try(mail).await);
                    }
                }
                job = self.queue.recv(), if has_room => {
                    let Some(job) = job else { break };
                    deferred.extend(self.first_try(job).await);
                }
                () = stopping.cancelled() => break,
            }
        }
        for mail in deferred {
            self.last_try(mail).await;
        }
        while let Ok(job) = self.queue.try_recv() {
            if let Some(mail) = self.first_try(job).await {
                self.last_try(mail).await;
            }
        }
    }

    /// Sends the mail of a job. Returns it if it is to be sent again.
    async fn first_try(&self, job: MailJob) -> Option<Deferred> {
        let now = Instant::now();
        let mail = Deferred {
            content: Content::Job(job),
            pause: PAUSE,
            next_try: now,
            until: now + TRIED_FOR,
        };
        self.next_try(mail).await
    }

    async fn next_try(&self, mut mail: Deferred) -> Option<Deferred> {
        // The chain of causes may name the recipient, so only the outermost error is logged.
        match caught(self.deliver(&mut mail.content)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                let now = Instant::now();
                if !error.is_temporary() || now >= mail.until {
                    tracing::warn!(%error, "a mail was not sent");
                    return None;
                }
                tracing::warn!(%error, "a mail was not sent and is tried again later");
                mail.next_try = now + mail.pause;
                mail.pause = (mail.pause * 2).min(PAUSE_MAX);
                Some(mail)
            }
            Err(lost) => {
                tracing::error!(%lost, "a mail was not sent");
                None
            }
        }
    }

    async fn last_try(&self, mail: Deferred) {
        let until = Instant::now();
        self.next_try(Deferred { until, ..mail }).await;
    }

    async fn deliver(&self, content: &mut Content) -> Result<(), SendError> {
        if let Content::Job(job) = content {
            match self.compose(job).await? {
                Some(message) => *content = Content::Message(message),
                None => return Ok(()),
            }
        }
        match content {
            Content::Message(message) => self.send(message.clone()).await,
            Content::Job(_) => Ok(()),
        }
    }

    /// The mail of a job; `None` if there is nobody to send it to.
    async fn compose(&self, job: &MailJob) -> Result<Option<Message>, SendError> {
        match job {
            MailJob::ConfirmAddress { email, code, lifetime } => {
                let text = format!(
                    "Somebody, probably you, created an account with this address on {url}.\n\n\
                     To confirm the address, give this code to the app, or to the page on which you made the \
                     account, within {lifetime}, together with the password that you chose:\n\n    {code}\n\n\
                     Nobody can use the account before that. Each registration has its own code, which works only with \
                     the password of that registration.\n\
                     If it was not you, ignore this mail and give the code to nobody: the account is deleted.\n",
                    url = self.public_url,
                    lifetime = as_text(*lifetime),
                    code = code.expose(),
                );
                self.message(email, "Confirm your address", text)
            }
            MailJob::AddressTaken { email } => {
                let text = format!(
                    "Somebody tried to create an account with this address on {url}, but it has one already.\n\n\
                     If it was you: sign in instead. If you forgot the password, set a new one in the app, or on \
                     {url}/account/recover\n\
                     If it was not you, nothing needs to be done; your account was not touched.\n",
                    url = self.public_url,
                );
                self.message(email, "You already have an account", text)
            }
            MailJob::ChangeAddress { email, code } => {
                // Whether the address has an account, only its mailbox is told.
                if self.store.credential(CredentialOf::Email(email)).await?.is_some() {
                    let text = format!(
                        "Somebody who is signed in to another account on {url} wanted to use this address for it, but it has an \
                         account already. Nothing was changed.\n\n\
                         If it was you: delete one of the two accounts first.\n",
                        url = self.public_url,
                    );
                    return self.message(email, "You already have an account", text);
                }
                let text = format!(
                    "Somebody who is signed in to an account on {url}, probably you, wants to use this address for it.\n\n\
                     To confirm that, give this code within an hour to the page that asks for it:\n\n    {code}\n\n\
                     If it was not you, ignore this mail: nothing changes.\n",
                    url = self.public_url,
                    code = code.expose(),
                );
                self.message(email, "Confirm your new address", text)
            }
            MailJob::AddressChanged { email, to, user_id } => {
                let text = format!(
                    "Your account on {url} has another address now:\n\n    {to}\n\n\
                     You sign in with it from now on. Password, recovery code, devices and data stay as they are.\n\n\
                     If it was not you, somebody was signed in to your account, or knows your password. Sign in with the new \
                     address on {url}/account at once, end the other sessions, change the password, and change the address \
                     back. If you cannot sign in any more, ask the operator of the server to set your address back, and give \
                     them this number of your account:\n\n    {user_id}\n",
                    url = self.public_url,
                );
                self.message(email, "Your account has another address", text)
            }
            MailJob::DeletionTakenBack { email } => {
                let text = format!(
                    "Your account on {url} is kept: somebody who knows your password, probably you, signed in before the day on \
                     which it would have been erased.\n\n\
                     If you still want it erased, delete it again on {url}/account\n\
                     If it was not you, change the password there.\n",
                    url = self.public_url,
                );
                self.message(email, "Your account is kept", text)
            }
            MailJob::DeletionScheduled { email, on } => {
                let text = format!(
                    "Somebody who knows your password, probably you, deleted your account on {url}.\n\n\
                     Every device is signed out. On {day} (UTC) the account and the data of all apps are erased, and nobody \
                     can bring them back.\n\n\
                     To keep the account, sign in before that day: in an app, or on {url}/account\n\
                     If it was not you, sign in and change the password.\n",
                    url = self.public_url,
                    day = day(*on),
                );
                self.message(email, "Your account will be deleted", text)
            }
            MailJob::PlanNearlyUsed { email, app, climb } => {
                let (subject, text) = nearly_used(app, *climb, &self.public_url);
                self.message(email, &subject, text)
            }
            MailJob::ResetPassword { email } => {
                let Some(account) = self.store.credential(CredentialOf::Email(email)).await? else {
                    return Ok(None);
                };
                // The mailbox holds enough codes that are valid.
                let Some(code) = self.fresh_reset_code(account.user_id, email).await? else {
                    return Ok(None);
                };
                let text = format!(
                    "Somebody, probably you, asked to reset the password of your account on {url}.\n\n\
                     To set a new password, give this code within an hour to the app, or to the page \
                     {url}/account/recover\n\n    {code}\n\n\
                     Your data is encrypted with keys that the old password protects. After the reset they open only \
                     with your recovery code, or on a device that is still signed in.\n\n\
                     Every code of the last hour is valid, until one of them is used.\n\
                     If it was not you, ignore this mail: nothing changes.\n",
                    url = self.public_url,
                    code = code.expose(),
                );
                self.message(email, "Reset your password", text)
            }
        }
    }

    async fn fresh_reset_code(&self, user_id: UserId, email: &str) -> Result<Option<SecretText>, StoreError> {
        let (code, now) = (fresh_secret(), self.clock.now());
        let new = NewMailCode {
            user_id,
            email: email.to_owned(),
            code: SecretHash::of(code.expose()),
            expires_at: now.saturating_add(RESET_CODE_SECONDS),
            now,
        };
        Ok(self.store.put_mail_code(new).await?.then_some(code))
    }

    fn message(&self, email: &str, subject: &str, text: String) -> Result<Option<Message>, SendError> {
        Message::builder()
            .from(self.from.clone())
            // As an address and nothing else: a `Mailbox` would also read a name and another address out of the text.
            .to(Mailbox::new(None, email.parse().map_err(SendError::Address)?))
            .subject(subject)
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map(Some)
            .map_err(SendError::Compose)
    }

    async fn send(&self, message: Message) -> Result<(), SendError> {
        match &self.transport {
            Transport::Smtp(smtp) => {
                smtp.send(message).await.map_err(SendError::Smtp)?;
            }
            Transport::Directory(directory) => {
                let name = format!("{}-{:016x}.eml", self.clock.now(), u64::from_be_bytes(random_bytes()));
                let path = directory.join(name);
                let directory = directory.clone();
                let contents = message.formatted();
                let written = tokio::task::spawn_blocking(move || {
                    create_private_dir(&directory)?;
                    write_private_file(&path, &contents)
                });
                written
                    .await
                    .map_err(|error| std::io::Error::other(TaskLost::from(error)))
                    .flatten()
                    .map_err(SendError::File)?;
            }
        }
        Ok(())
    }
}

/// A day for people.
/// Subject and text for an owner of an app.
fn nearly_used(app: &str, climb: Climb, url: &str) -> (String, String) {
    let (what, consequence) = match climb.part {
        PlanPart::Storage => (
            "storage",
            "When it is used up, the app takes no new data until something is deleted or the plan grows. Reading, export, \
             deletion and sign-in go on."
                .to_owned(),
        ),
        PlanPart::Transfer(month) => (
            "transfer of this month",
            format!(
                "When it is used up, each person moves 64 KiB a minute in each direction until {} (UTC), or until the plan \
                 grows.",
                day(month.next().begins())
            ),
        ),
    };
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / GIGABYTE as f64);
    let text = format!(
        "Your app {app} on {url} has used {percent} % of its {what}: {used} of {limit}.\n\n{consequence}\n\n\
         What you use never changes what you pay. All figures: {url}/console/apps/{id}/usage\n",
        percent = climb.to,
        used = gigabytes(climb.used),
        limit = gigabytes(climb.limit),
        id = climb.app_id,
    );
    (format!("{app} has used {} % of its {what}", climb.to), text)
}

fn day(at: UnixSeconds) -> String {
    let at = i64::try_from(at)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    at.unwrap_or(Timestamp::MAX).strftime("%-d %B %Y").to_string()
}

/// A time for people, in whole hours or minutes.
fn as_text(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    match (minutes.is_multiple_of(60), minutes / 60) {
        (true, 1) => "1 hour".to_owned(),
        (true, hours) => format!("{hours} hours"),
        (false, _) => format!("{minutes} minutes"),
    }
}
