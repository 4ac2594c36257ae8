//! The mail that a server wrote into its directory.

use std::path::PathBuf;

use crate::support::World;

impl World {
    pub(crate) fn mails(&self) -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir(self.path().join("mail")) else {
            return Vec::new();
        };
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "eml"))
            .collect()
    }

    pub(crate) fn clear_mail(&self) {
        for path in self.mails() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// The mail of a subject to an address, as soon as it is there.
    pub(crate) async fn mail_to(&self, email: &str, subject: &str) -> String {
        let (to, subject) = (format!("To: {email}"), format!("Subject: {subject}"));
        loop {
            let mails = self
                .mails()
                .into_iter()
                .map(|path| std::fs::read_to_string(path).unwrap());
            if let Some(mail) = mails
                .into_iter()
                .find(|mail| mail.contains(&to) && mail.contains(&subject))
            {
                return mail;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn mailed_code(&self, email: &str, subject: &str) -> String {
        let mail = self.mail_to(email, subject).await;
        let line = mail.lines().find(|line| line.starts_with("    ")).unwrap();
        line.trim().to_owned()
    }
}
