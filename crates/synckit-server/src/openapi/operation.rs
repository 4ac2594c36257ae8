//! One operation of the API: its route, its handler, and its description in the OpenAPI document.
//!
//! The router and the document are made from the same list of operations, so neither can have an operation that the
//! other lacks.

use std::sync::Arc;

use axum::{
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use synckit_protocol::{ProblemCode, limits};

use crate::state::ServerState;

/// Makes a schema with a generator, which collects the referenced schemas.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A route with its handler and its description.
pub(crate) struct Operation {
    pub(crate) handler: MethodRouter<Arc<ServerState>>,
    pub(crate) description: Description,
}

/// The description of an operation in the document.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) access: Access,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Body,
    pub(crate) answers: Vec<Answer>,
    pub(crate) problems: Vec<ProblemCode>,
    /// Whether it counts as a concurrent API request, and has their time limit.
    pub(crate) admitted: bool,
}

/// The callers of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Anybody,
    /// Holders of a token for the app.
    App,
    /// Holders of a token for the account.
    Account,
    /// Browsers that are signed in to the server's own pages; others are sent to the sign-in page.
    Page,
    /// Holders of the URL.
    PresignedUrl,
    /// Holders of the operator's token for metrics; without such a token, clients on the server's own machine.
    Metrics,
}

/// A variable part of the path, or a field of the query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) place: Place,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) schema: SchemaOf,
}

/// Where a parameter is. A parameter in the path is always required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    OptionalQuery,
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body {
    Nothing,
    /// A value in JSON or CBOR of at most so many bytes.
    Value(SchemaOf, usize),
    /// A form with these fields, of at most [`limits::BODY_BYTES_MAX`].
    Form(&'static [Field]),
    /// The bytes of an object.
    Object,
}

/// A field of a form: its name, and what it is.
pub(crate) type Field = (&'static str, &'static str);

/// A good answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) description: &'static str,
    pub(crate) content: Content,
    /// Headers beyond those of every answer, by their names in the document.
    pub(crate) headers: &'static [&'static str],
}

/// The body of a successful answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Nothing,
    /// A value in JSON or CBOR, as the request wants.
    Value(SchemaOf),
    /// A value that is always JSON.
    Json(SchemaOf),
    /// Something of another media type.
    Other(&'static str),
    /// Something of one of these media types.
    OneOf(&'static [&'static str]),
}

fn operation<H, T>(method: Method, filter: MethodFilter, path: &'static str, handler: H) -> Operation
where
    H: Handler<T, Arc<ServerState>>,
    T: 'static,
{
    Operation {
        handler: on(filter, handler),
        description: Description {
            method,
            path,
            tag: "",
            summary: "",
            access: Access::Anybody,
            parameters: Vec::new(),
            body: Body::Nothing,
            answers: Vec::new(),
            problems: Vec::new(),
            admitted: true,
        },
    }
}

/// Declares a constructor for each method that the API uses.
macro_rules! methods {
    ($($name:ident, $method:ident;)*) => {
        $(pub(crate) fn $name<H, T>(path: &'static str, handler: H) -> Operation
        where
            H: Handler<T, Arc<ServerState>>,
            T: 'static,
        {
            operation(Method::$method, MethodFilter::$method, path, handler)
        })*
    };
}

methods! {
    get, GET;
    post, POST;
    put, PUT;
    patch, PATCH;
    delete, DELETE;
}

impl Operation {
    /// A summary, in one sentence without a full stop.
    pub(crate) fn does(mut self, summary: &'static str) -> Self {
        self.description.summary = summary;
        self
    }

    /// It needs a token for the app.
    pub(crate) fn by_app_token(self) -> Self {
        self.by(Access::App)
    }

    /// It needs a token for the account.
    pub(crate) fn by_account_token(self) -> Self {
        self.by(Access::Account)
    }

    /// The callers; by default, anybody.
    pub(crate) fn by(mut self, access: Access) -> Self {
        self.description.access = access;
        self
    }

    /// A variable part of its path.
    pub(crate) fn path<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(Place::Path, name, description, SchemaGenerator::subschema_for::<T>)
    }

    /// A field of its query that must be there.
    pub(crate) fn query<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(Place::Query, name, description, SchemaGenerator::subschema_for::<T>)
    }

    /// A field of its query that may be left out.
    pub(crate) fn optional_query<T: JsonSchema>(self, name: &'static str, description: &'static str) -> Self {
        self.parameter(
            Place::OptionalQuery,
            name,
            description,
            SchemaGenerator::subschema_for::<T>,
        )
    }

    /// A parameter with a schema of its own.
    pub(crate) fn parameter(
        mut self,
        place: Place,
        name: &'static str,
        description: &'static str,
        schema: SchemaOf,
    ) -> Self {
        self.description.parameters.push(Parameter {
            place,
            name,
            description,
            schema,
        });
        self
    }

    /// The body of a request, of at most [`limits::BODY_BYTES_MAX`].
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_schema(SchemaGenerator::subschema_for::<T>)
    }

    /// The body of a request, of at most [`limits::PUSH_BODY_BYTES_MAX`].
    pub(crate) fn takes_large<T: JsonSchema>(mut self) -> Self {
        self.description.body = Body::Value(SchemaGenerator::subschema_for::<T>, limits::PUSH_BODY_BYTES_MAX);
        self
    }

    /// The body of a request that is not of one type.
    pub(crate) fn takes_schema(mut self, schema: SchemaOf) -> Self {
        self.description.body = Body::Value(schema, limits::BODY_BYTES_MAX);
        self
    }

    /// The body of a request is a form.
    pub(crate) fn takes_form(mut self, fields: &'static [Field]) -> Self {
        self.description.body = Body::Form(fields);
        self
    }

    /// The body of a request is an object's bytes.
    pub(crate) fn takes_object(mut self) -> Self {
        self.description.body = Body::Object;
        self
    }

    /// It answers 200 with a value.
    pub(crate) fn answers<T: JsonSchema>(self, description: &'static str) -> Self {
        self.answer(Answer {
            status: 200,
            description,
            content: Content::Value(SchemaGenerator::subschema_for::<T>),
            headers: &[],
        })
    }

    /// It answers 204.
    pub(crate) fn answers_nothing(self, description: &'static str) -> Self {
        self.answer(Answer {
            status: 204,
            description,
            content: Content::Nothing,
            headers: &[],
        })
    }

    /// Another good answer.
    pub(crate) fn answer(mut self, answer: Answer) -> Self {
        self.description.answers.push(answer);
        self
    }

    /// The problems of its own. Those of every operation, of its access and of its body are added.
    pub(crate) fn refuses(mut self, problems: &[ProblemCode]) -> Self {
        self.description.problems.extend_from_slice(problems);
        self
    }

    /// It writes to the disk, which may be full.
    pub(crate) fn writes(mut self) -> Self {
        self.description.problems.push(ProblemCode::ServerFull);
        self
    }

    /// Excludes it from the limit of concurrent API requests, their time limit and their rate limit.
    pub(crate) fn always_admitted(mut self) -> Self {
        self.description.admitted = false;
        self
    }

    /// Its part of the document.
    pub(crate) fn tagged(mut self, tag: &'static str) -> Self {
        self.description.tag = tag;
        self
    }
}

impl Description {
    /// Whether its requests are counted by address, because the caller is not known otherwise.
    pub(crate) fn is_counted_by_address(&self) -> bool {
        self.admitted && self.access == Access::Anybody
    }

    /// Every problem that it may answer with, in the order of the documentation.
    pub(crate) fn all_problems(&self) -> Vec<ProblemCode> {
        use ProblemCode as P;
        let mut problems = self.problems.clone();
        problems.extend([P::MethodNotAllowed, P::Internal]);
        if self.admitted {
            problems.extend([P::Timeout, P::Overloaded, P::StoreUnavailable]);
        }
        if self.is_counted_by_address() {
            problems.push(P::RateLimited);
        }
        match self.access {
            Access::Anybody | Access::Metrics => {}
            Access::Page => problems.push(P::RateLimited),
            Access::App => problems.extend([
                P::TokenInvalid,
                P::TokenExpired,
                P::SessionEnded,
                P::AccountGone,
                P::RateLimited,
            ]),
            Access::Account => {
                problems.extend([
                    P::FreshLoginRequired,
                    P::TokenInvalid,
                    P::SessionEnded,
                    P::AccountGone,
                    P::RateLimited,
                ]);
            }
            Access::PresignedUrl => problems.extend([P::UrlInvalid, P::UrlExpired, P::Overloaded]),
        }
        if self.parameters.iter().any(|parameter| parameter.place == Place::Path) {
            // A path that is not text names nothing.
            problems.push(P::NotFound);
        }
        if let Body::Value(..) | Body::Form(..) = self.body {
            problems.extend([P::MalformedBody, P::UnsupportedMediaType, P::BodyTooLarge]);
        }
        let mut in_order: Vec<P> = P::ALL.to_vec();
        in_order.retain(|code| problems.contains(code));
        in_order
    }
}
