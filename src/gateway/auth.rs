//! Credential → [`Identity`]: who it is, and what it may do.
//!
//! The algorithm is the configured one and no other, whatever a token's header says. No error, log or
//! reply ever repeats a token, or any part of it.

use std::time::{Duration, Instant};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::GatewayError;
use crate::clock;
use crate::codes::CloseCode;
use crate::config::{self, Auth, Jwt, JwtAlgorithm};
use crate::ids::{Seq, UserId};

/// A client that has proved who it is.
#[derive(Debug, Clone)]
pub struct Identity {
    pub user: UserId,
    /// To whom it may send.
    pub send: Patterns,
    /// Whose presence it may watch.
    pub watch: Patterns,
    pub expiry: Option<Expiry>,
}

/// When a token ends.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// As the token says, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// When the session ends if it is not renewed: the leeway later, and no later than that for a token that is
    /// accepted within the leeway. None when that is further away than clocks reach.
    pub ends: Option<Instant>,
}

/// What a token allows: everyone, or names that match one of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patterns {
    All,
    /// Exact names, or prefixes that end in `*`.
    Only(Vec<String>),
}

impl Patterns {
    pub fn allow(&self, user: &UserId) -> bool {
        let Self::Only(patterns) = self else { return true };
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => user.as_str().starts_with(prefix),
            None => user.as_str() == pattern,
        })
    }
}

impl From<Option<Vec<String>>> for Patterns {
    fn from(list: Option<Vec<String>>) -> Self {
        list.map_or(Self::All, Self::Only)
    }
}

/// Why a credential was refused, in words for the developer of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("{0}")]
    NotAuthenticated(&'static str),
    #[error("{0}")]
    NotAllowed(&'static str),
    #[error("{0}")]
    Malformed(&'static str),
}

impl AuthError {
    pub fn code(self) -> CloseCode {
        match self {
            Self::NotAuthenticated(_) => CloseCode::NotAuthenticated,
            Self::NotAllowed(_) => CloseCode::NotAllowed,
            Self::Malformed(_) => CloseCode::Malformed,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAuthenticated(reason) | Self::NotAllowed(reason) | Self::Malformed(reason) => reason,
        }
    }
}

/// Checks credentials as configured. Keys are read once, when it is made.
pub enum Authenticator {
    /// The client names itself.
    None,
    Jwt(Box<JwtCheck>),
}

pub struct JwtCheck {
    key: DecodingKey,
    validation: Validation,
    leeway: Duration,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<f64>,
    doorstep: Option<Rights>,
}

#[derive(Deserialize)]
struct Rights {
    send: Option<Vec<String>>,
    watch: Option<Vec<String>>,
}

impl Authenticator {
    /// # Errors
    /// The key file cannot be read, or holds no key for the algorithm.
    pub fn new(auth: &Auth) -> Result<Self, GatewayError> {
        match auth {
            Auth::None => Ok(Self::None),
            Auth::Jwt(jwt) => Ok(Self::Jwt(Box::new(JwtCheck::new(jwt)?))),
        }
    }

    /// Who says `hello`. `named` is `hello.user`.
    ///
    /// # Errors
    /// No credential, one that does not hold, or a name that is not the credential's.
    pub fn identify(&self, named: Option<&str>, token: Option<&str>) -> Result<Identity, AuthError> {
        let Self::Jwt(check) = self else {
            let named = named.ok_or(AuthError::Malformed("hello must name the user"))?;
            let user = UserId::new(named).map_err(|_| AuthError::Malformed("hello.user is not a user name"))?;
            return Ok(Identity { user, send: Patterns::All, watch: Patterns::All, expiry: None });
        };
        let token = token.ok_or(AuthError::NotAuthenticated("there is no token"))?;
        let identity = check.identify(token)?;
        match named {
            Some(named) if named != identity.user.as_str() => {
                Err(AuthError::NotAllowed("hello.user is not the user of the token"))
            }
            _ => Ok(identity),
        }
    }

    /// What a `token` frame brings for the session of `user`.
    ///
    /// # Errors
    /// [`AuthError::NotAllowed`] for another user's token; it has no effect otherwise when it does not hold.
    pub fn renew(&self, user: &UserId, token: &str) -> Result<Identity, AuthError> {
        let Self::Jwt(check) = self else { return Err(AuthError::Malformed("tokens are not used here")) };
        let identity = check.identify(token)?;
        if identity.user == *user { Ok(identity) } else { Err(AuthError::NotAllowed("the token is of another user")) }
    }
}

impl JwtCheck {
    fn new(jwt: &Jwt) -> Result<Self, GatewayError> {
        let algorithm = match jwt.algorithm {
            JwtAlgorithm::Hs256 => Algorithm::HS256,
            JwtAlgorithm::Rs256 => Algorithm::RS256,
            JwtAlgorithm::Es256 => Algorithm::ES256,
            JwtAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = jwt.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &jwt.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.validate_aud = jwt.audience.is_some();
        if let Some(audience) = &jwt.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        Ok(Self { key: config::checking_key(jwt)?, validation, leeway: jwt.leeway })
    }

    fn identify(&self, token: &str) -> Result<Identity, AuthError> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| AuthError::NotAuthenticated(reason(error.kind())))?
            .claims;
        let (Some(sub), Some(exp)) = (claims.sub, claims.exp) else {
            return Err(AuthError::NotAuthenticated("the token lacks a claim that is required"));
        };
        let user = UserId::new(&sub).map_err(|_| AuthError::NotAuthenticated("the token's sub is not a user name"))?;
        let (send, watch) = claims.doorstep.map_or((None, None), |rights| (rights.send, rights.watch));
        let expiry = self.expiry(exp, clock::wall_ms())?;
        Ok(Identity { user, send: send.into(), watch: watch.into(), expiry: Some(expiry) })
    }

    /// The library looks at whole seconds only, so a token that it lets through may have nothing left.
    fn expiry(&self, exp_s: f64, now_ms: u64) -> Result<Expiry, AuthError> {
        // A cast from a float saturates, which is what is wanted of a date beyond all calendars; but no number
        // on the wire is greater than a JSON library can hold.
        let at_ms = ((exp_s * 1000.0) as u64).min(Seq::MAX.0);
        let left_ms = at_ms.saturating_add(self.leeway.as_millis() as u64).saturating_sub(now_ms);
        match left_ms {
            0 => Err(AuthError::NotAuthenticated(reason(&ErrorKind::ExpiredSignature))),
            _ => Ok(Expiry { at_ms, ends: Instant::now().checked_add(Duration::from_millis(left_ms)) }),
        }
    }
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm => "the token is not signed with the algorithm in use here",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim that is required",
        _ => "the token cannot be read",
    }
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
