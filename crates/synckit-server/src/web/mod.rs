//! The server's own pages: what a person sees and does with an account beside its apps, and a developer with apps.
//!
//! Rendered here and usable without a script, but for the pages that take a password. Their sign-in is the login of the apps, for
//! an app of its own ([`PAGES_APP`](synckit_store::PAGES_APP)); its session is a sealed cookie.
//!
//! Invariant: a form changes something only if this server's page made it for this session, and the password was proven in the last
//! five minutes.

mod account;
mod address;
mod closing;
mod console;
mod device;
mod session;
mod sign_in;
mod view;

use synckit_protocol::{
    MEDIA_TYPE_JSON_LINES, ProblemCode as P,
    wire::{
        auth::LoginStarted,
        oauth::{PageLoginFinish, PageLoginStart, PageSignedIn},
    },
};

use crate::openapi::{Access, Answer, Content, Operation, get, post};

const PAGE: Answer = Answer {
    status: 200,
    description: "The page.",
    content: Content::Other("text/html"),
    headers: &["Content-Security-Policy"],
};
const REFUSED: Answer = Answer {
    status: 400,
    description: "A page that says why the form cannot be taken",
    content: Content::Other("text/html"),
    headers: &[],
};
const LEADS_ON: Answer = Answer {
    status: 303,
    description: "To the account, or to the sign-in page.",
    content: Content::Nothing,
    headers: &["Location"],
};
const FORM: (&str, &str) = ("form", "The page's proof that it made the form for this session.");

/// A page of a signed-in browser.
fn page(operation: Operation) -> Operation {
    operation.by(Access::Page).answer(LEADS_ON)
}

/// Every operation of the pages.
pub(crate) fn operations() -> Vec<Operation> {
    let operations = [
        get("/account/sign-in", sign_in::show)
            .does("Shows the page that signs a browser in to the account")
            .optional_query::<String>("to", "The name of the page to go to afterwards.")
            .answer(PAGE),
        post("/account/sign-in/start", sign_in::start)
            .does("Begins the login of that page")
            .takes::<PageLoginStart>()
            .answers::<LoginStarted>("The same for an unknown address.")
            .refuses(&[P::UnsupportedSuite, P::InvalidValue, P::TooManyGuesses])
            .writes(),
        post("/account/sign-in", sign_in::finish)
            .does("Finishes it, sets the cookie, and ends the browser's session before")
            .takes::<PageLoginFinish>()
            .answers::<PageSignedIn>("The browser is signed in.")
            .refuses(&[P::LoginExpired, P::InvalidCredentials, P::InvalidValue])
            .writes(),
        page(post("/account/sign-out", sign_in::sign_out))
            .does("Signs the browser out")
            .takes_form(&[FORM])
            .answer(REFUSED)
            .writes(),
        page(get("/account", account::show))
            .does("Shows the account: devices, apps, sessions")
            .answer(PAGE),
        page(post("/account/sessions", account::end_sessions))
            .does("Ends a session, or all but the browser's")
            .takes_form(&[FORM, ("session", "Its id, or `others`.")])
            .answer(REFUSED)
            .writes(),
        page(post("/account/devices", account::revoke_device))
            .does("Revokes a device")
            .takes_form(&[FORM, ("app", "The id of its app."), ("device", "Its id.")])
            .answer(REFUSED)
            .writes(),
        page(get("/account/password", account::password))
            .does("Shows the page that changes the password")
            .answer(PAGE),
        page(get("/account/recovery-code", account::recovery_code))
            .does("Shows the page that makes a new recovery code")
            .answer(PAGE),
        page(get("/account/address", address::show))
            .does("Shows the page that asks for another address")
            .answer(PAGE),
        page(post("/account/address", address::start))
            .does("Mails a code to another address for the account")
            .takes_form(&[FORM, ("email", "The new address.")])
            .answer(PAGE)
            .answer(REFUSED)
            .refuses(&[P::TooManyGuesses, P::Overloaded])
            .writes(),
        page(post("/account/address/confirm", address::confirm))
            .does("Gives the account the address, by the code that was mailed to it")
            .takes_form(&[
                FORM,
                ("asked", "What the page before was asked for, sealed."),
                ("code", "The code from the mail."),
            ])
            .answer(PAGE)
            .answer(REFUSED)
            .refuses(&[P::Overloaded])
            .writes(),
        page(get("/account/export", closing::export))
            .does("Downloads everything that the server holds of the account, as `/api/account/export` does")
            .answer(Answer {
                status: 200,
                description: "JSON lines.",
                content: Content::Other(MEDIA_TYPE_JSON_LINES),
                headers: &[],
            })
            .refuses(&[P::Overloaded]),
        page(get("/account/delete", closing::ask))
            .does("Shows what a deletion of the account takes")
            .answer(PAGE),
        page(post("/account/delete", closing::delete))
            .does("Deletes the account and all of its data")
            .takes_form(&[FORM, ("email", "The address of the account, typed.")])
            .answer(PAGE)
            .answer(REFUSED)
            .writes(),
        page(get("/oauth/device", device::show))
            .does("Shows the page that takes the code of a machine without a browser (RFC 8628)")
            .optional_query::<String>("user_code", "The code, to be compared.")
            .answer(PAGE),
        page(post("/oauth/device", device::enter))
            .does("Shows which machine asks with a code")
            .takes_form(&[FORM, ("user_code", "The code, as it was typed.")])
            .answer(PAGE)
            .answer(REFUSED)
            .writes(),
        page(post("/oauth/device/answer", device::answer))
            .does("Lets that machine sign in, or refuses it")
            .takes_form(&[
                FORM,
                ("asked", "What the page before was asked for, sealed."),
                ("same", "`yes` if the machine shows the code of the page."),
                ("answer", "`yes`, or anything else."),
            ])
            .answer(PAGE)
            .answer(REFUSED)
            .writes(),
    ];
    let operations = operations.into_iter().chain(console::operations());
    operations.map(|one| one.tagged("pages")).collect()
}
