//! Every page: templates, and the headers that keep everything else out of them.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use minijinja::{Environment, Value, context};
use serde::Serialize;
use synckit_protocol::{limits::AUTHORIZATION_SECONDS, wire::UnixSeconds};

use super::{
    assets::{Asset, Assets, Links},
    filters,
};
use crate::{http::ApiError, startup::config::Registration};

/// The templates, by the names of their files.
macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../assets/templates/", $name)))),*]
    };
}

const TEMPLATES: [(&str, &str); 30] = templates![
    "head.html",
    "gate.html",
    "exchange.html",
    "new-password.html",
    "recovery-code.html",
    "sign-up.html",
    "recover.html",
    "sign-in.html",
    "consent.html",
    "device-code.html",
    "device-consent.html",
    "device-answered.html",
    "refused.html",
    "form-refused.html",
    "page.html",
    "account-sign-in.html",
    "account.html",
    "change-password.html",
    "new-recovery-code.html",
    "delete-account.html",
    "account-deleted.html",
    "change-address.html",
    "confirm-address.html",
    "console.html",
    "app-head.html",
    "quick-start.html",
    "app-settings.html",
    "usage.html",
    "delete-app.html",
    "not-found.html",
];

/// A page, with what it shows.
#[derive(Debug)]
pub(crate) enum Page<'a> {
    /// Asks for address and password.
    SignIn(Exchange<'a>),
    /// Makes an account, and signs it in.
    SignUp {
        exchange: Exchange<'a>,
        registration: Registration,
    },
    /// Sets a new password with a code from a mail.
    Recover {
        /// The query of the authorization request that the person came from; perhaps empty.
        query: String,
    },
    /// Asks whether the app may go on.
    Consent {
        app: &'a str,
        email: &'a str,
        /// Whether the app keeps data in this account already.
        known: bool,
        grant: &'a str,
        /// The address that the answer leads to, as a policy names it.
        target: String,
    },
    /// Asks for the code of a machine without a browser.
    DeviceCode {
        form: &'a str,
        typed: &'a str,
        told: Option<&'a str>,
    },
    /// Asks whether that machine may sign in.
    DeviceConsent {
        app: &'a str,
        email: &'a str,
        code: &'a str,
        /// As the machine calls itself; perhaps empty.
        name: &'a str,
        /// The network address that it asks from.
        address: &'a str,
        form: &'a str,
        /// Which code the page asks about, sealed.
        asked: &'a str,
        told: Option<&'a str>,
    },
    /// The machine was answered.
    DeviceAnswered { is_allowed: bool },
    /// Asks for address and password, to sign this browser in to the account.
    AccountSignIn {
        app_id: String,
        /// The path to go to.
        to: String,
        /// Of the account that the browser is signed in to.
        email: Option<&'a str>,
    },
    /// The account.
    Account(Value),
    /// Opens the account's vault with its password, and closes another one.
    Vault {
        page: VaultPage,
        email: &'a str,
        user_id: String,
        app_id: String,
    },
    /// Asks for another address of the account.
    ChangeAddress {
        email: &'a str,
        form: &'a str,
        typed: &'a str,
        told: Option<&'a str>,
    },
    /// Asks for the code that was mailed to it.
    ConfirmAddress {
        email: &'a str,
        to: &'a str,
        form: &'a str,
        /// What was asked for, sealed.
        asked: &'a str,
        told: Option<&'a str>,
    },
    /// Asks before everything is gone.
    DeleteAccount {
        account: Value,
        /// Whether another address was typed.
        is_wrong: bool,
    },
    /// Everything is gone, at this time.
    AccountDeleted { on: UnixSeconds },
    /// The apps of the account's teams.
    Console(Value),
    /// The first steps with an app.
    QuickStart(Value),
    /// What an app uses of its plan.
    Usage(Value),
    /// The settings of an app.
    AppSettings(Value),
    /// Asks before an app and all data in it are gone.
    DeleteApp(Value),
    /// There is no such app for this account.
    NotFound,
    /// Says that a form cannot be taken.
    FormRefused,
    /// Says why the request cannot go on, and leads nowhere.
    Refused {
        reason: &'a str,
        address: Option<&'a str>,
        /// For the people who make the app.
        remedy: Option<&'a str>,
    },
}

/// What a new vault of an account is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaultPage {
    Password,
    RecoveryCode,
}

/// What the page of an authorization request needs for a login.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) app: &'a str,
    pub(crate) api_key: &'a str,
    pub(crate) app_id: String,
    /// The sealed authorization request.
    pub(crate) request: String,
    /// The query that it came in, for links between the pages.
    pub(crate) query: String,
}

impl Exchange<'_> {
    fn shown(&self) -> Value {
        let Self {
            app,
            api_key,
            app_id,
            request,
            query,
        } = self;
        let seconds = AUTHORIZATION_SECONDS;
        context! { app, api_key, app_id, request, query, seconds }
    }
}

const fn name_of(registration: Registration) -> &'static str {
    match registration {
        Registration::Open => "open",
        Registration::Invite => "invite",
        Registration::Closed => "closed",
    }
}

/// The pages of one server.
#[derive(Debug)]
pub(crate) struct Pages {
    environment: Environment<'static>,
    assets: Assets,
    site: Site,
}

/// What every page has.
#[derive(Debug, Serialize)]
struct Site {
    assets: Links,
    /// The path under which browsers reach the server.
    base: String,
    host: String,
}

impl Pages {
    /// The pages of a server at this address.
    pub(crate) fn new(url: &str) -> Self {
        let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (host, base) = after_scheme.split_at(after_scheme.find('/').unwrap_or(after_scheme.len()));
        let assets = Assets::new(base);
        let mut environment = Environment::new();
        environment.add_filter("time", filters::time);
        environment.add_filter("size", filters::size);
        environment.add_filter("day", filters::day);
        for (name, text) in TEMPLATES {
            #[expect(clippy::expect_used, reason = "a part of this program, rendered by its tests")]
            environment.add_template(name, text).expect("a template");
        }
        let site = Site {
            assets: assets.links.clone(),
            base: base.to_owned(),
            host: host.to_owned(),
        };
        Self {
            environment,
            assets,
            site,
        }
    }

    /// The path under which browsers reach the server, without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.site.base
    }

    pub(crate) fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.get(name)
    }

    /// A page as an answer.
    pub(crate) fn show(&self, page: &Page<'_>) -> Result<Response, ApiError> {
        let (template, shown) = match page {
            Page::SignIn(exchange) => ("sign-in.html", exchange.shown()),
            Page::SignUp { exchange, registration } => {
                let registration = name_of(*registration);
                ("sign-up.html", context! { registration, ..exchange.shown() })
            }
            Page::Recover { query } => ("recover.html", context! { query }),
            Page::Consent {
                app,
                email,
                known,
                grant,
                target,
            } => ("consent.html", context! { app, email, known, grant, target }),
            Page::DeviceCode { form, typed, told } => ("device-code.html", context! { form, typed, told }),
            Page::DeviceConsent {
                app,
                email,
                code,
                name,
                address,
                form,
                asked,
                told,
            } => (
                "device-consent.html",
                context! { app, email, code, name, address, form, asked, told },
            ),
            Page::DeviceAnswered { is_allowed } => ("device-answered.html", context! { is_allowed }),
            Page::AccountSignIn { app_id, to, email } => ("account-sign-in.html", context! { app_id, to, email }),
            Page::Account(account) => ("account.html", account.clone()),
            Page::Vault {
                page,
                email,
                user_id,
                app_id,
            } => {
                let template = match page {
                    VaultPage::Password => "change-password.html",
                    VaultPage::RecoveryCode => "new-recovery-code.html",
                };
                (template, context! { email, user_id, app_id })
            }
            Page::ChangeAddress {
                email,
                form,
                typed,
                told,
            } => ("change-address.html", context! { email, form, typed, told }),
            Page::ConfirmAddress {
                email,
                to,
                form,
                asked,
                told,
            } => ("confirm-address.html", context! { email, to, form, asked, told }),
            Page::DeleteAccount { account, is_wrong } => {
                ("delete-account.html", context! { is_wrong, ..account.clone() })
            }
            Page::AccountDeleted { on } => ("account-deleted.html", context! { on }),
            Page::Console(shown) => ("console.html", shown.clone()),
            Page::QuickStart(shown) => ("quick-start.html", shown.clone()),
            Page::Usage(shown) => ("usage.html", shown.clone()),
            Page::AppSettings(shown) => ("app-settings.html", shown.clone()),
            Page::DeleteApp(shown) => ("delete-app.html", shown.clone()),
            Page::NotFound => ("not-found.html", context! {}),
            Page::FormRefused => ("form-refused.html", context! {}),
            Page::Refused {
                reason,
                address,
                remedy,
            } => ("refused.html", context! { reason, address, remedy }),
        };
        let status = match page {
            Page::Refused { .. } | Page::FormRefused => StatusCode::BAD_REQUEST,
            Page::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        };
        let leads_to = match page {
            Page::Consent { target, .. } => Some(target.as_str()),
            _ => None,
        };
        let all = context! { ..shown, ..Value::from_serialize(&self.site) };
        let html = self
            .environment
            .get_template(template)
            .and_then(|found| found.render(all));
        let html = html.map_err(ApiError::internal)?;
        let policy = HeaderValue::from_str(&policy(leads_to)).map_err(ApiError::internal)?;
        let html_type = HeaderValue::from_static("text/html; charset=utf-8");
        let headers = [
            (header::CONTENT_TYPE, html_type),
            (header::CONTENT_SECURITY_POLICY, policy),
        ];
        Ok((status, headers, common_headers(), html).into_response())
    }
}

/// Headers of every page and of every answer that leaves one.
pub(crate) fn common_headers() -> [(HeaderName, HeaderValue); 4] {
    [
        // The address of a page contains the state of an app.
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
        ),
    ]
}

/// Nothing but this server's own files; forms lead to it, and where the answer of the page leads.
fn policy(leads_to: Option<&str>) -> String {
    let leads_to = leads_to.map_or(String::new(), |target| format!(" {target}"));
    format!(
        "default-src 'none'; style-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; font-src 'self'; \
         img-src 'self'; connect-src 'self'; form-action 'self'{leads_to}; base-uri 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types worker"
    )
}

/// What the worker may do: load the compiled functions, and run them.
pub(crate) const WORKER_POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'wasm-unsafe-eval'";
