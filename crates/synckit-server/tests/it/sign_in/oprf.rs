//! The OPRF key of a password's record: what evaluates under it is counted.
//!
//! The first 32 bytes of KE1 are a blinded element, as a registration request is, and the first 32 of KE2 and of a
//! registration response the same element evaluated. So one element can be sent to every route and compared.

use rand::rngs::OsRng;
use reqwest::StatusCode;
use serde_json::json;
use synckit_login::ClientLogin;
use synckit_protocol::{
    ByteString, LOGIN_SUITE, SecretText, limits,
    wire::{
        accounts::{PasswordChangeStart, RegisterStart, RegisterStarted, Registered, ResetStart},
        auth::{LoginStart, LoginStarted, UnlockStart},
    },
};

use crate::{
    mail_server::MailServer,
    support::{Answer, PASSWORD, User, World},
};

const ELEMENT_BYTES: usize = 32;

/// One blinded element, and who asks with it.
struct Prober<'a> {
    world: &'a World,
    ke1: Vec<u8>,
}

impl<'a> Prober<'a> {
    fn new(world: &'a World) -> Self {
        let (_, ke1) = ClientLogin::start("a guess", &mut OsRng).unwrap();
        Self { world, ke1 }
    }

    fn request(&self) -> ByteString {
        self.ke1[..ELEMENT_BYTES].to_vec().into()
    }

    async fn login(&self, email: &str) -> Vec<u8> {
        let body = LoginStart {
            api_key: self.world.api_key(),
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            ke1: self.ke1.clone().into(),
            code: None,
        };
        let answer = self.world.post("/api/sync/auth/start").cbor(&body).send().await;
        answer.ok::<LoginStarted>().ke2.0[..ELEMENT_BYTES].to_vec()
    }

    async fn unlock(&self, user: &User) -> Vec<u8> {
        let body = UnlockStart {
            suite: LOGIN_SUITE,
            ke1: self.ke1.clone().into(),
        };
        let call = self.world.post("/api/sync/auth/unlock/start").bearer(&user.token);
        call.cbor(&body).send().await.ok::<LoginStarted>().ke2.0[..ELEMENT_BYTES].to_vec()
    }

    async fn change(&self, user: &User) -> Answer {
        let body = PasswordChangeStart {
            suite: LOGIN_SUITE,
            request: self.request(),
        };
        let call = self
            .world
            .post("/api/account/password/start")
            .bearer(&user.account_token);
        call.cbor(&body).send().await
    }

    async fn reset(&self, code: &str) -> Answer {
        let body = ResetStart {
            code: SecretText::new(code),
            suite: LOGIN_SUITE,
            request: self.request(),
        };
        self.world.post("/api/accounts/reset/start").cbor(&body).send().await
    }

    async fn register(&self, email: &str) -> Answer {
        let body = RegisterStart {
            email: email.to_owned(),
            suite: LOGIN_SUITE,
            request: self.request(),
            invite: None,
        };
        self.world.post("/api/accounts/start").cbor(&body).send().await
    }
}

fn element(answer: &Answer) -> Vec<u8> {
    answer.ok::<RegisterStarted>().response.0[..ELEMENT_BYTES].to_vec()
}

async fn reset_code(world: &World, email: &str) -> String {
    world.clear_mail();
    let body = json!({ "email": email });
    world
        .post("/api/accounts/reset/request")
        .json(&body)
        .send()
        .await
        .empty();
    world.mailed_code(email, "Reset your password").await
}

#[tokio::test]
async fn only_counted_starts_use_the_current_oprf_key() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let code = reset_code(&world, "ada@example.com").await;
    let prober = Prober::new(&world);
    let current = prober.login("ada@example.com").await;
    // The comparison finds the key where it is used.
    assert_eq!(prober.login("ada@example.com").await, current);
    assert_eq!(prober.unlock(&user).await, current);

    let mut others = vec![current];
    for _ in 0..2 {
        others.push(element(&prober.change(&user).await));
        others.push(element(&prober.reset(&code).await));
        others.push(element(&prober.register("ada@example.com").await));
    }
    let count = others.len();
    others.sort();
    others.dedup();
    assert_eq!(others.len(), count, "two exchanges used one OPRF key");
}

#[tokio::test]
async fn changes_of_a_password_are_counted() {
    let world = World::start().await;
    let user = world.user("ada@example.com").await;
    let prober = Prober::new(&world);
    for _ in 0..10 {
        assert_eq!(prober.change(&user).await.status, StatusCode::OK);
    }
    let refused = prober.change(&user).await;
    assert_eq!(refused.code(), "too_many_guesses");
    assert_eq!(refused.header("retry-after"), "90");
    // Of the account, not of the address: a neighbour goes on.
    let neighbour = world.user("bob@example.com").await;
    assert_eq!(prober.change(&neighbour).await.status, StatusCode::OK);
}

#[tokio::test]
async fn mailed_code_allows_few_starts() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let code = reset_code(&world, "ada@example.com").await;
    let prober = Prober::new(&world);
    for _ in 0..limits::RESET_STARTS_MAX {
        assert_eq!(prober.reset(&code).await.status, StatusCode::OK);
    }
    assert_eq!(prober.reset(&code).await.code(), "mail_code_invalid");
}

#[tokio::test]
async fn starts_of_a_reset_are_counted() {
    let world = World::start().await;
    world.user("ada@example.com").await;
    let prober = Prober::new(&world);
    let mut starts = 0;
    let refused = loop {
        // Each code allows few starts; together they allow no more than the account has guesses.
        let code = reset_code(&world, "ada@example.com").await;
        let mut answers = Vec::new();
        for _ in 0..limits::RESET_STARTS_MAX {
            answers.push(prober.reset(&code).await);
        }
        starts += answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        if let Some(refused) = answers.into_iter().find(|answer| answer.status != StatusCode::OK) {
            break refused;
        }
    };
    assert_eq!((starts, refused.code().as_str()), (10, "too_many_guesses"));
    assert_eq!(refused.header("retry-after"), "90");
    // Of the account, not of the address: a neighbour resets.
    world.user("bob@example.com").await;
    let code = reset_code(&world, "bob@example.com").await;
    assert_eq!(prober.reset(&code).await.status, StatusCode::OK);
}

#[tokio::test]
async fn stand_in_of_an_unknown_address_stays() {
    let world = World::start().await;
    let prober = Prober::new(&world);
    let [ada, bob] = [
        prober.login("ada@example.com").await,
        prober.login("bob@example.com").await,
    ];
    assert_ne!(ada, bob);
    world.register("carol@example.com", PASSWORD).await;
    let carol = prober.login("carol@example.com").await;
    world.clock.advance(100 * 24 * 3600);
    // As an account does.
    assert_eq!(prober.login("ada@example.com").await, ada);
    assert_eq!(prober.login("carol@example.com").await, carol);
}

#[tokio::test]
async fn pending_account_looks_like_an_unknown_one() {
    let mail = MailServer::start().await.unwrap();
    let world = World::start_with(|config| config.mail = mail.delivery().unwrap()).await;
    let prober = Prober::new(&world);
    let unknown = prober.login("ada@example.com").await;
    world.register("ada@example.com", PASSWORD).await.ok::<Registered>();
    assert_eq!(prober.login("ada@example.com").await, unknown);
    // The comparison tells an account once there is one.
    let code = mail.code("ada@example.com", "Confirm your address", 1).await.unwrap();
    world.confirm("ada@example.com", PASSWORD, &code).await.unwrap();
    assert_ne!(prober.login("ada@example.com").await, unknown);
}
