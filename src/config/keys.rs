use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::Spanned;
use toml::de::DeValue;

use super::document::{Fault, Section, Source, kind, quoted};
use super::tables;
use crate::credential::Secret;
use crate::policy::Role;

/// A key of the file, checked by itself.
#[derive(Debug)]
pub struct KeyEntry {
    /// The apiKey.
    pub api_key: String,
    /// The secret.
    pub secret: Secret,
    /// Another, while one replaces the other.
    pub second: Option<Secret>,
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

impl KeyEntry {
    /// The secret, or both.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.secret).chain(&self.second)
    }
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
    match one_by_one(Source::new(path, &text, environment)) {
        Some(keys) => (keys, Vec::new(), Vec::new()),
        None => as_one_document(Source::new(path, &text, environment)),
    }
}

fn as_one_document(mut source: Source<'_>) -> (Vec<KeyEntry>, Vec<Fault>, Vec<Fault>) {
    let mut warnings = Vec::new();
    let mut keys = Vec::new();
    if let Some(mut root) = source.parse() {
        for section in root.sections(&mut source, "key") {
            keys.extend(key(section, &mut source, &mut warnings));
        }
        root.finish(&mut source);
    }
    if keys.is_empty() && source.faults.is_empty() {
        warnings.push(Fault::new(source.file, None, "", "holds no [[key]]: every request will be refused"));
    }
    (keys, source.faults, warnings)
}

/// The keys of a file of which nothing is to be said, each read by itself: as one document 100 000 keys take half
/// a second and 200 MiB. `None` if there is a fault or a warning, which only the whole document can place.
fn one_by_one(mut source: Source<'_>) -> Option<Vec<KeyEntry>> {
    let source = &mut source;
    let (mut keys, mut warnings) = (Vec::new(), Vec::new());
    for (number, part) in tables::parts(source.text).enumerate() {
        source.go_to(part.clone());
        let sections = match tables::plain(&source.text[part]) {
            Some(table) => vec![Section::new("key".into(), table, 0)],
            None => {
                let mut root = source.parse()?;
                // Before the first of them there is nothing.
                let sections = if number == 0 { Vec::new() } else { root.sections(source, "key") };
                root.finish(source);
                sections
            }
        };
        keys.extend(sections.into_iter().filter_map(|section| key(section, source, &mut warnings)));
        if !source.faults.is_empty() || !warnings.is_empty() {
            return None;
        }
    }
    (!keys.is_empty()).then_some(keys)
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
    section.known("role");
    let roles = "\"MEMBER\", \"DEVELOPER\" or \"OWNER\"";
    let role = section.has("role").then(|| text(&mut section, source, "role", roles)).flatten();
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
    let active = section.take("active").is_none_or(|value| active(&value, source));
    let expires = section.take("expires").and_then(|value| expires(value, source));
    let mut secrets = secrets(&mut section, source).into_iter();
    section.finish(source);
    if source.faults.len() > faults {
        return None;
    }
    let (secret, second) = (secrets.next()?, secrets.next());
    Some(KeyEntry {
        api_key: api_key?,
        secret,
        second,
        account: account?,
        member: member?,
        role,
        active,
        expires,
        line,
    })
}

fn named<'s>(
    section: &mut Section<'s>,
    source: &mut Source<'s>,
    name: &'static str,
    expected: &str,
    fits: impl Fn(&str) -> bool,
) -> Option<String> {
    let at = section.at(name);
    let text = text(section, source, name, expected)?;
    if !fits(&text) {
        source.fault_at(at, &format!("key.{name}"), format!("is {}; expected {expected}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Text of which no setting is made: nobody shows the settings of so many keys.
fn text<'s>(section: &mut Section<'s>, source: &mut Source<'s>, name: &'static str, expected: &str) -> Option<String> {
    let key = || format!("key.{name}");
    let Some(value) = section.take(name) else {
        let at = (section.at > 0).then_some(section.at);
        source.fault_at(at, &key(), format!("is missing; expected {expected}"));
        return None;
    };
    let at = value.span().start;
    match value.into_inner() {
        DeValue::String(text) if text.contains('$') => source.expand(at, &key(), &text),
        DeValue::String(text) => Some(text.into_owned()),
        other => {
            source.fault_at(Some(at), &key(), format!("is {}; expected {expected}", kind(&other)));
            None
        }
    }
}

fn active(value: &Spanned<DeValue<'_>>, source: &mut Source<'_>) -> bool {
    let DeValue::Boolean(active) = value.get_ref() else {
        let problem = format!("is {}; expected true or false", kind(value.get_ref()));
        source.fault_at(Some(value.span().start), "key.active", problem);
        return true;
    };
    *active
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
        (Some(one), None) => return secret(&one, source).into_iter().collect(),
        (None, Some(list)) => list,
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
    match values.get_ref() {
        DeValue::Array(array) if (1..=2).contains(&array.len()) => {
            array.iter().filter_map(|value| secret(value, source)).collect()
        }
        _ => {
            source.fault_at(Some(values.span().start), "key.secrets", "is not a list of one or two secrets");
            Vec::new()
        }
    }
}

fn secret(value: &Spanned<DeValue<'_>>, source: &mut Source<'_>) -> Option<Secret> {
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
fn resolve<'v>(value: &'v DeValue<'_>, source: &Source<'_>) -> Result<(Cow<'static, str>, Cow<'v, [u8]>), String> {
    const EXPECTED: &str = "is neither text nor { env = \"NAME\" } nor { file = \"path\" }";
    let table = match value {
        DeValue::String(text) => return Ok(("the secret".into(), text.as_bytes().into())),
        DeValue::Table(table) if table.len() == 1 => table,
        _ => return Err(EXPECTED.into()),
    };
    let text = |name: &str| table.get(name).and_then(|value| value.get_ref().as_str());
    if let Some(name) = text("env") {
        let value = (source.environment)(name);
        let value = value.ok_or_else(|| format!("names {name}, which is not set in the environment"))?;
        return Ok((format!("the secret in {name}").into(), value.into_bytes().into()));
    }
    let path = source.resolve(text("file").ok_or(EXPECTED)?);
    let mut bytes = std::fs::read(&path).map_err(|error| format!("names {}: {error}", path.display()))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok((format!("the secret in {}", path.display()).into(), bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, how: impl FnOnce(Source<'_>) -> Option<Vec<KeyEntry>>) -> Option<Vec<String>> {
        let environment = |name: &str| (name == "SECRET").then(|| "a secret of the environment".to_owned());
        let keys = how(Source::new(Path::new("/keys.toml"), text, &environment))?;
        let told = |key: &KeyEntry| {
            let secrets: Vec<&[u8]> = key.secrets().map(Secret::expose).collect();
            format!("{key:?} {secrets:?}")
        };
        Some(keys.iter().map(told).collect())
    }

    fn whole(source: Source<'_>) -> Option<Vec<KeyEntry>> {
        let (keys, faults, warnings) = as_one_document(source);
        (faults.is_empty() && warnings.is_empty()).then_some(keys)
    }

    const KEY: &str = "api_key = \"K\"\nsecret = \"0123456789abcdef\"\naccount = \"a\"\nmember = \"m\"\n";

    #[test]
    fn keys_read_one_by_one_are_those_of_the_whole_document() {
        let bare = KEY.replace("secret = \"0123456789abcdef\"\n", "");
        let text = [
            "\n# The keys.\n[[key]]\n",
            KEY,
            "role = \"OWNER\"\nactive = false\n\n[[key]]\n",
            &bare,
            "secrets = [\"fedcba9876543210\", { env = \"SECRET\" }] # two\nexpires = 2027-01-01T00:00:00+09:00\n[[key]]\n",
            &bare,
            "[key.secret]\nenv = \"SECRET\"\n[[ key ]]\n",
            KEY,
            "role = 'MEMBER'\n[[key]]\n",
            KEY,
        ]
        .concat();
        let keys = read(&text, one_by_one).unwrap();
        assert_eq!(Some(&keys), read(&text, whole).as_ref());
        let lines: Vec<&str> = keys.iter().map(|key| &key[key.find("line: ").unwrap()..][6..8]).collect();
        assert_eq!(lines, ["3 ", "11", "17", "23", "29"]);
    }

    #[test]
    fn where_there_is_anything_to_say_the_whole_document_says_it() {
        let faulty = [
            String::new(),
            "[[key]]\n".into(),
            format!("[[key]]\n{KEY}[[key]]\n{KEY}rule = \"OWNER\"\n"),
            format!("[[key]]\n{KEY}role = \"BOSS\"\n"),
            format!("[[key]]\n{KEY}[other]\n[[key]]\n{KEY}"),
            format!("note = \"x\"\n[[key]]\n{KEY}"),
            format!("key = []\n[[key]]\n{KEY}"),
            format!("[[key]]\n{KEY}note = \"\"\"\n[[key]]\n\"\"\"\n"),
            format!("[[key]]\n{KEY}account = \"b\"\n"),
            format!("[[key]]\n{KEY}[[key]]\n{KEY}[key]\n"),
        ];
        for text in faulty {
            assert_eq!(read(&text, one_by_one), None, "{text}");
            assert_eq!(read(&text, whole), None, "{text}");
        }
    }

    #[test]
    fn a_table_that_begins_within_a_text_begins_no_key() {
        let account = "account = \"\"\"\\\n[[key]]\\\n\"\"\"\n";
        let text = format!("[[key]]\n{}", KEY.replace("account = \"a\"\n", account));
        let keys = read(&text, whole).unwrap();
        assert!(keys.len() == 1 && keys[0].contains("account: \"[[key]]\""), "{keys:?}");
        assert_eq!(read(&text, one_by_one), None, "left to the whole document");
    }
}
