//! A policy that looks users up in a store which takes its time, and authorizers that say who may use which channel.
//!
//! ```text
//! cargo run -p bayeux-http --example security_policy
//! curl -H 'Content-Type: application/json' http://127.0.0.1:8080/cometd \
//!     -d '[{"channel":"/meta/handshake","version":"1.0","ext":{"authentication":{"token":"s3cret"}}}]'
//! ```
//!
//! With another token the handshake is refused with `403::handshake_denied` and the advice not to try again. While the
//! store thinks, only that one client waits.

use std::error::Error;
use std::time::Duration;

use bayeux_http::proto::{ChannelPattern, RawJson};
use bayeux_http::{
    Asked, Authorization, Authorizer, Config, GrantAuthorizer, Operation, Policy, Questions, Server, Verdict,
};
use serde::Deserialize;

mod common;

/// What clients send in `ext` of their handshake.
#[derive(Deserialize)]
struct Ext {
    authentication: Credentials,
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

/// The name of a user, kept with the session.
#[derive(Debug, Clone)]
struct User(String);

/// Stands for a database.
struct Store;

impl Store {
    async fn user_of(&self, token: &str) -> Option<User> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (token == "s3cret").then(|| User("alice".to_owned()))
    }
}

/// Who has a token may have a session.
struct WithToken(Store);

impl Policy for WithToken {
    /// A policy is asked only what it wants to be asked.
    fn questions(&self) -> Questions {
        Questions::HANDSHAKE
    }

    async fn can_handshake(&self, asked: Asked) -> Verdict {
        let ext = asked.message.ext.as_ref().and_then(|ext| ext.to::<Ext>().ok());
        let Some(ext) = ext else { return Verdict::deny() };
        let Some(user) = self.0.user_of(&ext.authentication.token).await else { return Verdict::deny() };
        // Both are there as soon as the handshake succeeds: the reply tells the client its name, and whoever decides
        // later finds it with the session.
        asked.associated.set_ext("user", &RawJson::from_text(&user.0));
        if let Some(session) = &asked.session {
            session.set_attribute("user", user);
        }
        Verdict::allow()
    }
}

/// `/user/alice/…` is alice's own.
struct Owner;

impl Authorizer for Owner {
    async fn authorize(&self, _: Operation, channel: ChannelPattern, asked: Asked) -> Authorization {
        let user = asked.session.and_then(|session| session.attribute::<User>("user"));
        match user {
            Some(user) if channel.as_str().split('/').nth(2) == Some(&user.0) => Authorization::Grant,
            Some(_) | None => Authorization::deny("not_yours"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder(Config::default())
        .policy(WithToken(Store))
        // From here on nothing is allowed that nobody grants.
        .authorizer("/**", GrantAuthorizer::NONE)
        .authorizer("/chat/**", GrantAuthorizer::ALL)
        .authorizer("/user/**", Owner)
        .build()?;
    common::serve(server).await
}
