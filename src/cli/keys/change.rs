//! `add`, `rotate`, `promote`, `revoke` and `expire`.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::document::{NewKey, seconds};
use super::file::Opened;
use super::{OneKey, Source, last_use};
use crate::cli::fail;
use crate::clock::{self, Clock};
use crate::console::{self, complain, say};
use crate::credential::Secret;
use crate::key_file::{KeyFileError, WrittenSecret};
use crate::seal::{Place, SecretSlot};

#[derive(Args)]
pub(in crate::cli) struct Add {
    /// The apiKey: 1 to 64 letters and digits
    #[arg(value_name = "API_KEY")]
    api_key: String,
    /// Whose segments the key may delete
    #[arg(long)]
    account: String,
    /// Who deletes: the creator of what the key may delete as MEMBER
    #[arg(long)]
    member: String,
    /// MEMBER, DEVELOPER or OWNER; without a role the key may delete nothing
    #[arg(long, value_parser = ["MEMBER", "DEVELOPER", "OWNER"])]
    role: Option<String>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
pub(in crate::cli) struct Expire {
    /// The apiKey
    #[arg(value_name = "API_KEY")]
    api_key: String,
    /// From then on the key is refused: 2027-01-01T00:00:00Z, or `now`
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: SystemTime,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
pub(in crate::cli) struct Rotate {
    /// The apiKey
    #[arg(value_name = "API_KEY")]
    api_key: String,
    /// When the old secret ends: after this time (7d), or then (2027-01-01T00:00:00Z); without it, by `promote`
    #[arg(long, value_name = "TIME", value_parser = end)]
    end: Option<SystemTime>,
    #[command(flatten)]
    source: Source,
}

#[derive(Args)]
pub(in crate::cli) struct Promote {
    /// The apiKey
    #[arg(value_name = "API_KEY")]
    api_key: String,
    /// Refuse unless it is certain that the old secret was not used for so long (24h)
    #[arg(long, value_name = "DURATION", value_parser = clock::parse_duration)]
    idle: Option<Duration>,
    #[command(flatten)]
    source: Source,
}

/// A time to come, or how long until then.
fn end(text: &str) -> Result<SystemTime, String> {
    let now = Clock::system().now();
    let at = match clock::parse_duration(text) {
        Ok(span) => now.checked_add(span).ok_or("is too far ahead")?,
        Err(_) => time(text).map_err(|_| "expected how long it is accepted, such as 7d, or a time with its zone")?,
    };
    if at > now { Ok(at) } else { Err("is not ahead; `promote` ends the old secret at once".into()) }
}

fn time(text: &str) -> Result<SystemTime, String> {
    if text == "now" {
        return Ok(Clock::system().now());
    }
    // Without a `T` it would be a day, or how long ago something was.
    let parsed = text.contains('T').then(|| clock::parse(text, Clock::system().now())).flatten();
    parsed.ok_or_else(|| "expected a time with its zone such as 2027-01-01T00:00:00Z, or `now`".into())
}

pub(super) fn add(arguments: &Add) -> Result<(), ExitCode> {
    let Add { api_key, account, member, role, source } = arguments;
    let mut file = source.open()?;
    let secret = new_secret()?;
    let written = file.written(api_key, SecretSlot::First, &secret)?;
    let key = NewKey {
        api_key: api_key.clone(),
        account: account.clone(),
        member: member.clone(),
        role: role.clone(),
        active: true,
        expires: None,
        secrets: vec![written],
        secret_1_expires: None,
    };
    file.document.add(&key).map_err(|error| file.refused(&error))?;
    file.write()?;
    print_once(api_key, "is added", secret, &file)
}

pub(super) fn rotate(Rotate { api_key, end, source }: &Rotate) -> Result<(), ExitCode> {
    let mut file = source.open()?;
    let mut secrets = file.document.secrets(api_key).map_err(|error| file.refused(&error))?;
    if secrets.len() > 1 {
        return Err(file.refused(&KeyFileError::TwoSecrets(api_key.clone())));
    }
    let secret = new_secret()?;
    secrets.push(file.written(api_key, SecretSlot::Second, &secret)?);
    file.document.set_secrets(api_key, &secrets).map_err(|error| file.refused(&error))?;
    let text = end.as_ref().map(seconds);
    file.document.end_first(api_key, text.as_deref()).map_err(|error| file.refused(&error))?;
    file.write()?;
    let until = text.map(|at| format!(", and the old one ends at {at}")).unwrap_or_default();
    print_once(api_key, &format!("has a second secret{until}"), secret, &file)
}

pub(super) fn promote(Promote { api_key, idle, source }: &Promote) -> Result<(), ExitCode> {
    let mut file = source.open()?;
    let secrets = file.document.secrets(api_key).map_err(|error| file.refused(&error))?;
    let [_, second] = &secrets[..] else {
        return Err(file.refused(&KeyFileError::OneSecret(api_key.clone())));
    };
    if let Some(span) = idle {
        let first = || {
            file.directory.caller(api_key).is_some_and(|it| it.is_accepted(SecretSlot::First, Clock::system().now()))
        };
        // Nobody is refused for the sake of a secret that has ended.
        if first() {
            last_use::was_idle(&file, api_key, *span)?;
        }
    }
    // A sealed secret opens only where it stands.
    let first = match second {
        WrittenSecret::Sealed(sealed) => {
            let place = Place { api_key, slot: SecretSlot::Second };
            let secret = file.settings.seal.open(place, sealed).map_err(fail)?;
            file.written(api_key, SecretSlot::First, &secret)?
        }
        other => other.clone(),
    };
    file.document.set_secrets(api_key, &[first]).map_err(|error| file.refused(&error))?;
    file.document.end_first(api_key, None).map_err(|error| file.refused(&error))?;
    file.write()?;
    say!("{api_key}: only the newer secret is accepted; {}", file.since()?);
    Ok(())
}

pub(super) fn revoke(OneKey { api_key, source }: &OneKey) -> Result<(), ExitCode> {
    let mut file = source.open()?;
    file.document.switch_off(api_key).map_err(|error| file.refused(&error))?;
    file.write()?;
    say!("{api_key} is switched off; {}", file.since()?);
    Ok(())
}

pub(super) fn expire(Expire { api_key, at, source }: &Expire) -> Result<(), ExitCode> {
    let mut file = source.open()?;
    let text = seconds(at);
    file.document.expire(api_key, &text).map_err(|error| file.refused(&error))?;
    file.write()?;
    say!("{api_key} expires at {text}; {}", file.since()?);
    Ok(())
}

/// 256 random bits as hexadecimal digits.
fn new_secret() -> Result<Secret, ExitCode> {
    let mut bits = zeroize::Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *bits).map_err(|error| fail(format!("no random bytes: {error}")))?;
    let mut digits = zeroize::Zeroizing::new([0_u8; 64]);
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bits.iter()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Secret::new(&*digits).map_err(fail)
}

/// Prints the secret alone on standard output, and all else on standard error.
fn print_once(api_key: &str, what: &str, secret: Secret, file: &Opened) -> Result<(), ExitCode> {
    console::secret(secret.expose());
    // The wait for the gateway takes a while.
    drop(secret);
    complain!("{api_key} {what}; its secret is on standard output and is not shown again; {}", file.since()?);
    Ok(())
}
