use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::Spanned;
use toml::de::DeValue;

use super::document::{Fault, Section, Source, quoted};
use crate::credential::Secret;
use crate::policy::Role;

/// A key of the file, checked by itself.
#[derive(Debug)]
pub struct KeyEntry {
    /// The apiKey.
    pub api_key: String,
    /// One secret, or two.
    pub secrets: Vec<Secret>,
    /// The account.
    pub account: String,
    /// The member.
    pub member: String,
    /// The role; `None` may do nothing.
    pub role: Option<Role>,
    /// Whether it is switched on.
    pub active: bool,
    /// From when on it is not.
    pub expires: Option<SystemTime>,
    /// Where it stands.
    pub line: usize,
}

/// The keys of a file, their faults, and their warnings.
pub(super) fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (Vec<KeyEntry>, Vec<Fault>, Vec<Fault>) {
    let text = match super::file(path, "the keys, in TOML") {
        Ok(text) => text,
        Err(fault) => return (Vec::new(), vec![fault], Vec::new()),
    };
    let mut source = Source::new(path, &text, environment);
    let mut warnings = Vec::new();
    let mut keys = Vec::new();
    if let Some(mut root) = source.parse() {
        for section in root.sections(&mut source, "key") {
            keys.extend(key(section, &mut source, &mut warnings));
        }
        root.finish(&mut source);
    }
    if keys.is_empty() && source.faults.is_empty() {
        warnings.push(Fault::new(path, None, "", "holds no [[key]]: every request will be refused"));
    }
    (keys, source.faults, warnings)
}

fn key<'s>(mut section: Section<'s>, source: &mut Source<'s>, warnings: &mut Vec<Fault>) -> Option<KeyEntry> {
    let at = section.at;
    let line = source.line(at);
    let faults = source.faults.len();
    let api_key = named(&mut section, source, "api_key", "1 to 64 letters and digits", |text| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let visible = |text: &str| (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let account = named(&mut section, source, "account", "1 to 128 visible ASCII characters", visible);
    let member = named(&mut section, source, "member", "1 to 128 visible ASCII characters", visible);
    let role_at = section.at("role");
    let role = section.optional_text(source, "role", "\"MEMBER\", \"DEVELOPER\" or \"OWNER\"");
    let role = match role {
        Some(name) => {
            let role = Role::parse(&name);
            if role.is_none() {
                let near = Role::ALL.iter().find(|r| r.as_str().eq_ignore_ascii_case(name.trim()));
                let hint = near.map(|r| format!("; did you mean \"{r}\"?")).unwrap_or_default();
                let message = format!(
                    "{} is no role: this key may delete nothing; roles are \"MEMBER\", \"DEVELOPER\" and \"OWNER\"{hint}",
                    quoted(&name)
                );
                warnings.push(Fault::new(source.file, role_at.map(|at| source.line(at)), "key.role", message));
            }
            role
        }
        None => None,
    };
    let active = section.flag(source, "active", true);
    let expires = section.take("expires").and_then(|value| expires(value, source));
    let secrets = secrets(&mut section, source);
    section.finish(source);
    source.settings.clear();
    if source.faults.len() > faults {
        return None;
    }
    Some(KeyEntry { api_key: api_key?, secrets, account: account?, member: member?, role, active, expires, line })
}

fn named<'s>(
    section: &mut Section<'s>,
    source: &mut Source<'s>,
    name: &'static str,
    expected: &str,
    fits: impl Fn(&str) -> bool,
) -> Option<String> {
    let at = section.at(name);
    let text = section.text(source, name, expected)?;
    if !fits(&text) {
        source.fault_at(at, &format!("key.{name}"), format!("is {}; expected {expected}", quoted(&text)));
        return None;
    }
    Some(text)
}

fn expires(value: Spanned<DeValue<'_>>, source: &mut Source<'_>) -> Option<SystemTime> {
    let at = value.span().start;
    let expected = "expected a date with its zone and without quotes, such as 2027-01-01T00:00:00Z";
    let DeValue::Datetime(datetime) = value.get_ref() else {
        source.fault_at(Some(at), "key.expires", format!("is no date; {expected}"));
        return None;
    };
    let parsed = parse_datetime(datetime);
    if parsed.is_none() {
        source.fault_at(Some(at), "key.expires", format!("has no day, no time or no zone; {expected}"));
    }
    parsed
}

fn parse_datetime(datetime: &toml::value::Datetime) -> Option<SystemTime> {
    let east = match datetime.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes) * 60,
    };
    let utc = toml::value::Datetime { offset: Some(toml::value::Offset::Z), ..*datetime };
    let local = humantime::parse_rfc3339(&utc.to_string()).ok()?;
    let shift = Duration::from_secs(east.unsigned_abs());
    let at = if east > 0 { local.checked_sub(shift) } else { local.checked_add(shift) };
    at.filter(|at| *at >= UNIX_EPOCH)
}

fn secrets<'s>(section: &mut Section<'s>, source: &mut Source<'s>) -> Vec<Secret> {
    let at = section.at;
    let values = match (section.take("secret"), section.take("secrets")) {
        (Some(one), None) => vec![one],
        (None, Some(list)) => {
            let at = list.span().start;
            match list.into_inner() {
                DeValue::Array(array) if (1..=2).contains(&array.len()) => array.into_iter().collect(),
                _ => {
                    source.fault_at(Some(at), "key.secrets", "is not a list of one or two secrets");
                    return Vec::new();
                }
            }
        }
        (Some(both), Some(_)) => {
            source.fault_at(Some(both.span().start), "key.secret", "stands beside `secrets`; expected one of the two");
            return Vec::new();
        }
        (None, None) => {
            let expected = "expected secret = \"…\", { env = \"NAME\" } or { file = \"path\" }";
            source.fault_at(Some(at), "key.secret", format!("is missing; {expected}"));
            return Vec::new();
        }
    };
    values.into_iter().filter_map(|value| secret(value, source)).collect()
}

fn secret(value: Spanned<DeValue<'_>>, source: &mut Source<'_>) -> Option<Secret> {
    let at = value.span().start;
    let resolved = resolve(value.get_ref(), source);
    let checked = resolved.and_then(|(whence, bytes)| Secret::new(&bytes).map_err(|error| format!("{whence} {error}")));
    match checked {
        Ok(secret) => Some(secret),
        Err(message) => {
            source.fault_at(Some(at), "key.secret", message);
            None
        }
    }
}

/// Where the secret comes from, and its bytes. Says nothing of the bytes.
fn resolve(value: &DeValue<'_>, source: &Source<'_>) -> Result<(String, Vec<u8>), String> {
    const EXPECTED: &str = "is neither text nor { env = \"NAME\" } nor { file = \"path\" }";
    let table = match value {
        DeValue::String(text) => return Ok(("the secret".into(), text.as_bytes().to_vec())),
        DeValue::Table(table) if table.len() == 1 => table,
        _ => return Err(EXPECTED.into()),
    };
    let text = |name: &str| table.get(name).and_then(|value| value.get_ref().as_str());
    if let Some(name) = text("env") {
        let value = (source.environment)(name);
        let value = value.ok_or_else(|| format!("names {name}, which is not set in the environment"))?;
        return Ok((format!("the secret in {name}"), value.into_bytes()));
    }
    let path = source.resolve(text("file").ok_or(EXPECTED)?);
    let mut bytes = std::fs::read(&path).map_err(|error| format!("names {}: {error}", path.display()))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok((format!("the secret in {}", path.display()), bytes))
}
