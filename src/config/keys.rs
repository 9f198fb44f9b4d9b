//! The keys that tokens are checked with. Whoever starts a router, checks its configuration or mints tokens reads
//! them here, so that all agree on what a usable key is.
//!
//! No error repeats a key, or any part of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use jsonwebtoken::DecodingKey;

use super::{Jwt, JwtAlgorithm};

const SECRET_BYTES_MIN: usize = 32;
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Why a key file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key file {path}: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("the key file {path} cannot be used: {reason}")]
    Unusable { path: String, reason: String },
}

/// The key that tokens are checked with.
///
/// # Errors
/// The file cannot be read, or holds no key for the algorithm.
pub fn checking_key(jwt: &Jwt) -> Result<DecodingKey, KeyError> {
    let path = &jwt.key_file;
    let name = || path.display().to_string();
    let unusable = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => KeyError::Unusable { path: name(), reason: source.to_string() },
        _ => KeyError::Unreadable { path: name(), source },
    };
    let from_pem: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey> = match jwt.algorithm {
        JwtAlgorithm::Hs256 => {
            return read_secret(path).map(|secret| DecodingKey::from_secret(&secret)).map_err(unusable);
        }
        JwtAlgorithm::Rs256 => DecodingKey::from_rsa_pem,
        JwtAlgorithm::Es256 => DecodingKey::from_ec_pem,
        JwtAlgorithm::EdDsa => DecodingKey::from_ed_pem,
    };
    let bytes = std::fs::read(path).map_err(unusable)?;
    let reason = || format!("it holds no public key in PEM for {}", jwt.algorithm.name());
    from_pem(&bytes).map_err(|_| KeyError::Unusable { path: name(), reason: reason() })
}

/// Reads the shared secret of HS256, without the white space at its end that editors leave there.
///
/// Whoever checks tokens and whoever mints them must agree on that to the byte, so both read it here.
/// A secret shorter than 32 bytes is refused: RFC 7518 forbids it, for it can be guessed from one token.
///
/// # Errors
/// The file cannot be read, or the secret is too short ([`io::ErrorKind::InvalidData`]).
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = Vec::new();
    File::open(path)?.take(SECRET_BYTES_MAX).read_to_end(&mut secret)?;
    secret.truncate(secret.trim_ascii_end().len());
    if secret.len() < SECRET_BYTES_MIN {
        let message = format!("the secret has {} bytes; at least {SECRET_BYTES_MIN} are needed", secret.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(secret)
}
