//! A mail server on loopback that keeps its mails: the part of SMTP (RFC 5321) that a sender needs. Other crates include it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use synckit_server::{
    Config,
    config::{ConfigError, MailDelivery, Settings},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Longer than any mail takes. A mail that is never sent must not stop all tests.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

type Mails = watch::Sender<Vec<String>>;

/// It runs as long as the runtime.
#[derive(Debug)]
pub(crate) struct MailServer {
    address: SocketAddr,
    mails: watch::Receiver<Vec<String>>,
}

impl MailServer {
    pub(crate) async fn start() -> io::Result<Self> {
        Self::start_after(0, std::future::ready(())).await
    }

    /// Hangs up on the first connections, and lets further ones wait until it is ready.
    pub(crate) async fn start_after(
        refused: usize,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (kept, mails) = watch::channel(Vec::new());
        let kept = Arc::new(kept);
        tokio::spawn(async move {
            for _ in 0..refused {
                drop(listener.accept().await);
            }
            ready.await;
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(receive(connection, Arc::clone(&kept)));
            }
        });
        Ok(Self { address, mails })
    }

    /// The configuration of a server that sends its mails here.
    pub(crate) fn delivery(&self) -> Result<MailDelivery, ConfigError> {
        let settings = Settings::default()
            .with("smtp_url", &format!("smtp://{}", self.address))?
            .with("mail_from", "SyncKit <synckit@example.com>")?;
        Ok(Config::resolve([settings])?.mail)
    }

    /// Waits for the `number`th mail of a subject to an address, counted from 1.
    pub(crate) async fn mail(&self, email: &str, subject: &str, number: usize) -> io::Result<String> {
        let (to, subject) = (format!("To: {email}\n"), format!("Subject: {subject}"));
        let nth = |mails: &[String]| {
            let mut wanted = mails
                .iter()
                .filter(|mail| mail.contains(&to) && mail.contains(&subject));
            wanted.nth(number - 1).cloned()
        };
        let mut mails = self.mails.clone();
        let arriving = mails.wait_for(|mails| nth(mails).is_some());
        let mails = tokio::time::timeout(ARRIVES_WITHIN, arriving).await?;
        let mails = mails.map_err(io::Error::other)?;
        nth(&mails).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The code in such a mail, on a line of its own that is indented.
    pub(crate) async fn code(&self, email: &str, subject: &str, number: usize) -> io::Result<String> {
        let mail = self.mail(email, subject, number).await?;
        let code = mail.lines().find_map(|line| line.strip_prefix("    "));
        code.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Talks to one sender until it hangs up.
async fn receive(connection: TcpStream, kept: Arc<Mails>) -> io::Result<()> {
    let (reader, mut writer) = connection.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 mail.example.com\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        if line == "DATA" {
            writer.write_all(b"354 end with a dot\r\n").await?;
            let mut mail = String::new();
            while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                mail.push('\n');
            }
            kept.send_modify(|mails| mails.push(mail));
        }
        let answer: &[u8] = if line == "QUIT" { b"221 bye\r\n" } else { b"250 ok\r\n" };
        writer.write_all(answer).await?;
    }
    Ok(())
}
