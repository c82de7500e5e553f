//! `saltgate sign`: prints the value of an `Authorization` header for a key.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EX_CONFIG, EX_USAGE};
use crate::clock::{self, Clock};
use crate::console::{complain, say};
use crate::credential::{Credentials, PhpDates, Secret, SecretError, SigningKey, header_value};

#[derive(Args)]
pub(super) struct Arguments {
    /// The apiKey
    #[arg(long, value_name = "KEY")]
    api_key: String,
    /// The environment variable that holds the secret
    #[arg(long, value_name = "NAME", required_unless_present = "secret_file", conflicts_with = "secret_file")]
    secret_env: Option<String>,
    /// The file that holds the secret; one trailing newline is dropped
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The date to sign, exactly as it is sent [default: now]
    #[arg(long)]
    date: Option<String>,
    /// The salt to sign [default: 32 random hexadecimal digits]
    #[arg(long)]
    salt: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let secret = match secret(arguments) {
        Ok(secret) => secret,
        Err(error) => {
            complain!("saltgate sign: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let date = arguments.date.clone().unwrap_or_else(|| clock::rfc3339(Clock::system().now()));
    let salt = match arguments.salt.clone().map_or_else(random_salt, Ok) {
        Ok(salt) => salt,
        Err(error) => return super::fail(format!("cannot generate a random salt: {error}")),
    };
    let signature = SigningKey::new(&secret).sign(&date, &salt);
    let header = header_value(&arguments.api_key, &date, &salt, &signature);
    // A header that the gateway would refuse is not printed, so that nobody looks for the mistake elsewhere.
    if let Err(malformed) = Credentials::parse(header.as_bytes(), PhpDates::Accept) {
        complain!("saltgate sign: this would be refused: {malformed}");
        return ExitCode::from(EX_USAGE);
    }
    say!("{header}");
    ExitCode::SUCCESS
}

fn secret(arguments: &Arguments) -> Result<Secret, NoSecret> {
    let (name, secret) = match (&arguments.secret_env, &arguments.secret_file) {
        (Some(name), _) => {
            let value = std::env::var(name).map_err(|_| NoSecret::Unset { name: name.clone() })?;
            (format!("--secret-env {name}"), Secret::new(value.as_bytes()))
        }
        (None, Some(file)) => {
            let bytes = std::fs::read(file).map_err(|error| NoSecret::Unreadable { file: file.clone(), error })?;
            (format!("--secret-file {}", file.display()), Secret::of_file(&bytes))
        }
        (None, None) => return Err(NoSecret::Unnamed),
    };
    let secret = match secret {
        Ok(secret) => secret,
        Err(error) => return Err(NoSecret::Invalid { name, error }),
    };
    if let Some(doubt) = secret.doubt() {
        complain!("saltgate sign: {name}: the secret {doubt}");
    }
    Ok(secret)
}

/// Why there is no secret to sign with.
#[derive(Debug, thiserror::Error)]
enum NoSecret {
    #[error("one of --secret-env and --secret-file is needed")]
    Unnamed,
    // Without a source: `VarError` can hold the value.
    #[error("--secret-env {name}: is not set in the environment")]
    Unset { name: String },
    #[error("--secret-file {}: cannot be read: {error}", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("{name}: the secret {error}")]
    Invalid {
        name: String,
        #[source]
        error: SecretError,
    },
}

/// 128 random bits as hexadecimal digits, like the sample programs of the API documentation.
pub(super) fn random_salt() -> Result<String, getrandom::Error> {
    let bits = (getrandom::u64()?, getrandom::u64()?);
    Ok(format!("{:016x}{:016x}", bits.0, bits.1))
}
