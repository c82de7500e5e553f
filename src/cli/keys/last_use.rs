//! When secrets were last used, as the gateways know it that a command can ask.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::file::Opened;
use super::up_to::UpTo;
use crate::cli::fail;
use crate::clock::rfc3339;
use crate::key_use::{GatewayUses, idle};
use crate::seal::SecretSlot;

/// What is known of the last use of one secret.
pub(super) enum Use {
    /// Nothing: no gateway could be asked, or the secret cannot be read here.
    NotKnown,
    /// No gateway has seen it, since one of them began to look.
    Never(SystemTime),
    /// It was used in the minute that begins then, on this gateway.
    Last(SystemTime, String),
}

impl Use {
    /// The last use over all gateways.
    pub(super) fn of(file: &Opened, gateways: &[GatewayUses], api_key: &str, slot: SecretSlot) -> Self {
        let Some(since) = gateways.iter().map(|one| one.since).min() else { return Self::NotKnown };
        let Some(tag) = file.short_tag(api_key, slot) else { return Self::NotKnown };
        let uses = gateways.iter().filter_map(|one| Some((one.last(api_key, &tag)?, one)));
        match uses.max_by_key(|(at, _)| *at) {
            Some((at, one)) => Self::Last(at, one.gateway.clone()),
            None => Self::Never(since),
        }
    }

    /// Behind the place of the secret.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NotKnown => String::new(),
            Self::Never(since) => format!(" (not used since {})", minute(*since)),
            Self::Last(at, gateway) => format!(" (last used {} on {gateway})", minute(*at)),
        }
    }

    /// Puts it into the description of the secret.
    pub(super) fn describe(&self, secret: &mut Value) {
        let (at, gateway, since) = match self {
            Self::NotKnown => (None, None, None),
            Self::Never(since) => (None, None, Some(*since)),
            Self::Last(at, gateway) => (Some(*at), Some(gateway), None),
        };
        secret["last_used"] = at.map(rfc3339).into();
        secret["last_used_on"] = gateway.cloned().into();
        secret["not_used_since"] = since.map(rfc3339).into();
    }
}

/// Whether the first secret of this key was idle for so long. Says what to do if that is not certain.
pub(super) fn was_idle(file: &Opened, api_key: &str, span: Duration) -> Result<(), ExitCode> {
    let otherwise = "nothing was written; without --idle it is promoted all the same";
    let Some(tag) = file.short_tag(api_key, SecretSlot::First) else {
        let why = "its value is a variable that is not set here, so its uses cannot be told";
        return Err(fail(format!("{api_key}: the old secret may be in use: {why}; {otherwise}")));
    };
    let (gateways, now) = file.uses(UpTo::Now)?;
    let judged = idle(&gateways, (api_key, &tag), span, now);
    judged.map_err(|not| {
        let advice = not.advice(span);
        fail(format!("{api_key}: the old secret may be in use: {not}. To be certain, {advice}; {otherwise}"))
    })
}

/// A gateway and the time that it knows of.
pub(super) fn gateway(one: &GatewayUses) -> Value {
    json!({
        "gateway": one.gateway,
        "since": rfc3339(one.since),
        "until": rfc3339(one.until),
        "ended": one.ended,
        "lost": one.lost.map(|(from, to)| [rfc3339(from), rfc3339(to)]),
    })
}

/// A time without its seconds.
fn minute(at: SystemTime) -> String {
    format!("{}Z", &rfc3339(at)[..16])
}
