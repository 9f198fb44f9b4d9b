//! `doorstep token`: mints a token for development and tests. Never prints a key, and the token only to standard output.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::stdout::print;
use super::{CliError, config as configured};
use crate::clock;
use crate::config::{self, Auth, Jwt, JwtAlgorithm};
use crate::ids::UserId;

/// Mint a token that lets a client connect as a user
///
/// In auth mode "jwt" the configuration supplies what is not given here; with HS256 also the secret.
#[derive(Debug, Clone, clap::Args)]
pub struct TokenArgs {
    /// User the token is for
    #[arg(long)]
    user: UserId,
    /// File with the secret, for HS256
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    secret_file: Option<PathBuf>,
    /// File with the private key in PEM, for the other algorithms
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// HS256, RS256, ES256 or EdDSA
    #[arg(long, value_parser = parse_algorithm)]
    algorithm: Option<JwtAlgorithm>,
    /// How long the token is good for
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// Issuer of the token
    #[arg(long)]
    issuer: Option<String>,
    /// Whom the token is meant for
    #[arg(long)]
    audience: Option<String>,
    /// Allow sending only to this user, or to a prefix with `*`; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = parse_pattern)]
    send: Vec<String>,
    /// Allow watching only this user, or a prefix with `*`; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = parse_pattern)]
    watch: Vec<String>,
}

pub fn run(args: &TokenArgs, config_path: Option<&Path>) -> Result<(), CliError> {
    let config = configured::load(config_path)?;
    let jwt = if let Auth::Jwt(jwt) = &config.auth { Some(jwt) } else { None };
    let token = mint(args, jwt, clock::wall_us() / 1_000_000)?;
    print(&format!("{token}\n"))
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a UserId,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    doorstep: Option<Rights<'a>>,
}

/// A right that is left out is not limited.
#[derive(Serialize)]
struct Rights<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    send: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    watch: &'a [String],
}

fn mint(args: &TokenArgs, jwt: Option<&Jwt>, now_s: u64) -> Result<String, CliError> {
    let (algorithm, key) = signing_key(args, jwt)?;
    let limited = !(args.send.is_empty() && args.watch.is_empty());
    let claims = Claims {
        sub: &args.user,
        iat: now_s,
        exp: now_s.saturating_add(args.ttl.as_secs()),
        iss: args.issuer.as_deref().or(jwt.and_then(|jwt| jwt.issuer.as_deref())),
        aud: args.audience.as_deref().or(jwt.and_then(|jwt| jwt.audience.as_deref())),
        doorstep: limited.then_some(Rights { send: &args.send, watch: &args.watch }),
    };
    signed(algorithm, &claims, &key)
}

/// Signs tokens with the secret of a configuration, for commands that come as many users.
pub(super) struct Signer {
    key: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Signer {
    /// None where no tokens are used.
    pub(super) fn of(auth: &Auth) -> Result<Option<Self>, CliError> {
        match auth {
            Auth::None => Ok(None),
            Auth::Jwt(jwt) if jwt.algorithm == JwtAlgorithm::Hs256 => {
                let (_, key) = secret_key(&jwt.key_file, jwt.algorithm)?;
                Ok(Some(Self { key, issuer: jwt.issuer.clone(), audience: jwt.audience.clone() }))
            }
            Auth::Jwt(_) => Err(wrong(
                "auth.key_file holds a public key, which cannot sign tokens; this needs a router with HS256, or without tokens",
            )),
        }
    }

    pub(super) fn sign(&self, user: &UserId, ttl: Duration) -> Result<String, CliError> {
        let now_s = clock::wall_us() / 1_000_000;
        let claims = Claims {
            sub: user,
            iat: now_s,
            exp: now_s.saturating_add(ttl.as_secs()),
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
            doorstep: None,
        };
        signed(Algorithm::HS256, &claims, &self.key)
    }
}

fn signed(algorithm: Algorithm, claims: &Claims<'_>, key: &EncodingKey) -> Result<String, CliError> {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key)
        .map_err(|error| CliError::new(format!("the token cannot be signed: {error}")))
}

fn signing_key(args: &TokenArgs, jwt: Option<&Jwt>) -> Result<(Algorithm, EncodingKey), CliError> {
    match (&args.secret_file, &args.key_file) {
        (Some(file), _) => secret_key(file, args.algorithm.unwrap_or(JwtAlgorithm::Hs256)),
        (None, Some(file)) => {
            let algorithm = args.algorithm.or(jwt.map(|jwt| jwt.algorithm));
            private_key(file, algorithm.ok_or_else(|| wrong("--key-file needs --algorithm"))?)
        }
        (None, None) => configured_key(args, jwt),
    }
}

fn configured_key(args: &TokenArgs, jwt: Option<&Jwt>) -> Result<(Algorithm, EncodingKey), CliError> {
    match jwt {
        Some(jwt) if jwt.algorithm == JwtAlgorithm::Hs256 => {
            secret_key(&jwt.key_file, args.algorithm.unwrap_or(jwt.algorithm))
        }
        Some(_) => {
            Err(wrong("auth.key_file holds a public key, which cannot sign; give the private one as --key-file"))
        }
        None => {
            Err(wrong("there is no key to sign with; give --secret-file or --key-file, or set auth.mode to \"jwt\""))
        }
    }
}

fn secret_key(file: &Path, algorithm: JwtAlgorithm) -> Result<(Algorithm, EncodingKey), CliError> {
    if algorithm != JwtAlgorithm::Hs256 {
        return Err(wrong("only HS256 signs with a secret; give the private key as --key-file"));
    }
    let secret = config::read_secret(file).map_err(|error| unusable(file, error))?;
    Ok((Algorithm::HS256, EncodingKey::from_secret(&secret)))
}

fn private_key(file: &Path, algorithm: JwtAlgorithm) -> Result<(Algorithm, EncodingKey), CliError> {
    let pem = || std::fs::read(file).map_err(|error| unusable(file, error));
    let (algorithm, key) = match algorithm {
        JwtAlgorithm::Hs256 => return Err(wrong("HS256 signs with a secret; give it as --secret-file")),
        JwtAlgorithm::Rs256 => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem()?)),
        JwtAlgorithm::Es256 => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem()?)),
        JwtAlgorithm::EdDsa => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem()?)),
    };
    key.map(|key| (algorithm, key)).map_err(|error| unusable(file, error))
}

fn parse_algorithm(name: &str) -> Result<JwtAlgorithm, String> {
    let found = JwtAlgorithm::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, algorithm)| *algorithm).ok_or_else(|| "expected HS256, RS256, ES256 or EdDSA".to_owned())
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = config::parse_duration(text).ok_or("expected a duration such as \"30m\" or \"1h\"")?;
    if ttl < Duration::from_secs(1) { Err("must be at least 1s".to_owned()) } else { Ok(ttl) }
}

fn parse_pattern(text: &str) -> Result<String, String> {
    let prefix = text.strip_suffix('*').unwrap_or(text);
    if prefix.contains('*') {
        return Err("`*` may stand only at the end".to_owned());
    }
    // A lone `*` is every user; any other prefix must be able to begin a user name.
    if text != "*" {
        UserId::new(prefix).map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

fn wrong(message: &str) -> CliError {
    CliError { message: message.to_owned(), exit_code: 2 }
}

fn unusable(file: &Path, error: impl std::fmt::Display) -> CliError {
    CliError::new(format!("{} cannot be used: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    //! Goal: what is minted passes a strict check with the matching key and says exactly what was asked for.

    use clap::Parser;
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

    use super::*;

    const NOW_S: u64 = 1_795_000_000;
    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    // Made for this test; nothing trusts them.
    const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEILDivCghRvzZIoqNuTx7QFmf6rMkpZAAnIBOU6zLe4C0\n-----END PRIVATE KEY-----\n";
    const ED_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAKqyJiYA03R/qpG7+WrEd559W1OhtxzNIo51wQQdhxbo=\n-----END PUBLIC KEY-----\n";
    const EC_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSJVEAtyOPIOUlh45\n\
        ewBLFsJNGsoIiSzfqqbB7rF9ocahRANCAAQgWzZB7G/1ZWnZTf+YNdMkPZ0C6NGH\n\
        /9CsEsE6rz6Kct/9pLsyPlOw8FBtR9KbKd+lDLCwH/oAzrgAojbQ+SBS\n-----END PRIVATE KEY-----\n";
    const EC_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEIFs2Qexv9WVp2U3/mDXTJD2dAujR\n\
        h//QrBLBOq8+inLf/aS7Mj5TsPBQbUfSmynfpQywsB/6AM64AKI20PkgUg==\n-----END PUBLIC KEY-----\n";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn args(line: &str) -> TokenArgs {
        Line::parse_from(std::iter::once("token").chain(line.split_whitespace())).args
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    fn claims(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Value {
        let mut validation = Validation::new(algorithm);
        // The clock of the test is made up; what `exp` says is compared below.
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, key, &validation).unwrap().claims
    }

    fn secret() -> DecodingKey {
        DecodingKey::from_secret(SECRET.as_bytes())
    }

    #[test]
    fn a_token_says_what_was_asked_for_and_no_more() {
        let secret_file = file(&format!("{SECRET}\r\n"));
        let path = secret_file.path().display();
        let token = mint(&args(&format!("--user alice --ttl 90s --secret-file {path}")), None, NOW_S).unwrap();
        let plain = json!({"sub": "alice", "iat": NOW_S, "exp": NOW_S + 90});
        assert_eq!(claims(&token, Algorithm::HS256, &secret()), plain);

        let line = format!("--user alice --send bob --send team-* --issuer me --audience you --secret-file {path}");
        let token = mint(&args(&line), None, NOW_S).unwrap();
        let limited = json!({"sub": "alice", "iat": NOW_S, "exp": NOW_S + 3600, "iss": "me", "aud": "you",
            "doorstep": {"send": ["bob", "team-*"]}});
        assert_eq!(claims(&token, Algorithm::HS256, &secret()), limited);
    }

    #[test]
    fn private_keys_sign_what_their_public_keys_check() {
        for (name, algorithm, private, public) in [
            ("EdDSA", Algorithm::EdDSA, ED_PRIVATE, DecodingKey::from_ed_pem(ED_PUBLIC.as_bytes())),
            ("es256", Algorithm::ES256, EC_PRIVATE, DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes())),
        ] {
            let key_file = file(private);
            let line = format!("--user bob --algorithm {name} --key-file {}", key_file.path().display());
            let token = mint(&args(&line), None, NOW_S).unwrap();
            assert_eq!(claims(&token, algorithm, &public.unwrap())["sub"], "bob");
        }
    }

    #[test]
    fn the_configuration_supplies_what_is_not_given() {
        let secret_file = file(SECRET);
        let jwt = Jwt {
            algorithm: JwtAlgorithm::Hs256,
            key_file: secret_file.path().into(),
            issuer: Some("house".to_owned()),
            audience: Some("router".to_owned()),
            leeway: Duration::ZERO,
        };
        let token = mint(&args("--user alice --audience other"), Some(&jwt), NOW_S).unwrap();
        let claims = claims(&token, Algorithm::HS256, &secret());
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("house"), &json!("other")));
    }

    #[test]
    fn a_key_that_does_not_fit_is_refused_with_the_way_out() {
        let key_file = file(ED_PRIVATE);
        let path = key_file.path().display();
        let short = file("too short a secret");
        let public = Jwt {
            algorithm: JwtAlgorithm::Es256,
            key_file: "k".into(),
            issuer: None,
            audience: None,
            leeway: Duration::ZERO,
        };
        for (line, jwt, expected) in [
            ("--user a".to_owned(), None, "give --secret-file or --key-file"),
            ("--user a".to_owned(), Some(&public), "a public key, which cannot sign"),
            (format!("--user a --key-file {path}"), None, "--key-file needs --algorithm"),
            (format!("--user a --key-file {path} --algorithm HS256"), None, "--secret-file"),
            (format!("--user a --key-file {path} --algorithm ES256"), None, "cannot be used"),
            (format!("--user a --secret-file {path} --algorithm RS256"), None, "--key-file"),
            (format!("--user a --secret-file {}", short.path().display()), None, "at least 32 are needed"),
        ] {
            let error = mint(&args(&line), jwt, NOW_S).unwrap_err();
            assert!(error.message.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn patterns_are_a_name_or_a_prefix() {
        for good in ["bob", "team-*", "*"] {
            assert_eq!(parse_pattern(good).unwrap(), good);
        }
        for bad in ["", "**", "a*b", "a*b*", "a/b", "a/*"] {
            parse_pattern(bad).unwrap_err();
        }
    }
}
