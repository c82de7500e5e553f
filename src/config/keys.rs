//! Reads the file of keys, `[[key]]`.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::Spanned;
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::Config;
use super::fault::Fault;
use super::outline::{Outline, Shape};
use super::secrets::secrets;
use super::section::{Section, kind};
use super::source::{Findings, Source};
use super::tables;
use super::texts::quoted;
use crate::directory::{Clash, Directory, KeyEntry, KeysFile};
use crate::file_watch::FileWatch;
use crate::policy::{Identifier, Owner, Role};

impl Config {
    /// The directory of the keys. The keys are moved out of the configuration, so that no secret exists twice.
    ///
    /// # Errors
    /// If two keys conflict, or the operating system has no random bytes.
    pub(crate) fn take_directory(&mut self) -> Result<Directory, Vec<Fault>> {
        directory(std::mem::take(&mut self.keys), &self.keys_file.path)
    }
}

/// The directory of the keys of a file as it is now, and what `check` warns of in it. Adds the file, and those that it
/// names, to `watch`.
///
/// # Errors
/// Every fault that was found.
pub(crate) fn read_keys(file: &KeysFile, watch: &FileWatch) -> Result<(Directory, Vec<Fault>), Vec<Fault>> {
    let (keys, faults, warnings) = load(file, &|name| std::env::var(name).ok(), watch);
    if !faults.is_empty() {
        return Err(faults);
    }
    directory(keys, &file.path).map(|directory| (directory, warnings))
}

/// The directory of the keys of this text, which the file may get, and what `check` warns of in it. A variable of the
/// environment that is not set here stands for a secret of its own, because the gateway may have another environment.
///
/// # Errors
/// Every fault that was found.
pub(crate) fn judge_keys(file: &KeysFile, text: &str) -> Result<(Directory, Vec<Fault>), Vec<Fault>> {
    let environment = |name: &str| Some(std::env::var(name).unwrap_or_else(|_| format!("of the variable {name}")));
    let watch = FileWatch::default();
    let source = || Source::new(&file.path, text, &environment).watched_by(&watch).sealed_by(&file.seal);
    let (keys, faults, warnings) = judge(source, file.allow_empty);
    if !faults.is_empty() {
        return Err(faults);
    }
    directory(keys, &file.path).map(|directory| (directory, warnings))
}

fn judge<'s>(source: impl Fn() -> Source<'s>, allow_empty: bool) -> (Vec<KeyEntry>, Vec<Fault>, Vec<Fault>) {
    match one_by_one(source()) {
        Some(keys) => (keys, Vec::new(), Vec::new()),
        None => as_one_document(source(), allow_empty),
    }
}

fn directory(keys: Vec<KeyEntry>, file: &Path) -> Result<Directory, Vec<Fault>> {
    let lines: Vec<usize> = keys.iter().map(|key| key.line).collect();
    Directory::new(keys).map_err(|clash| {
        let (what, first, second) = match clash {
            Clash::NoRandomness => {
                let message = "the operating system has no random bytes; the decoy for unknown keys cannot be made";
                return vec![Fault::new(file, None, "", message)];
            }
            Clash::ApiKey(first, second) => ("has the api_key of the one", first, second),
            Clash::Secret(first, second) => ("has a secret that signs like one of the key", first, second),
        };
        let message = format!("this key {what} in line {}; each must be its own", lines[first]);
        vec![Fault::new(file, Some(lines[second]), "key", message)]
    })
}

/// The keys of a file, their faults, and their warnings. Adds the file, and those that it names, to `watch`.
pub(super) fn load(
    KeysFile { path, allow_empty, seal, .. }: &KeysFile,
    environment: &dyn Fn(&str) -> Option<String>,
    watch: &FileWatch,
) -> (Vec<KeyEntry>, Vec<Fault>, Vec<Fault>) {
    watch.add(path);
    let text = match super::file(path, "the keys, in TOML") {
        Ok(text) => Zeroizing::new(text),
        Err(fault) => return (Vec::new(), vec![fault], Vec::new()),
    };
    let source = || Source::new(path, &text, environment).watched_by(watch).sealed_by(seal);
    judge(source, *allow_empty)
}

fn as_one_document(source: Source<'_>, allow_empty: bool) -> (Vec<KeyEntry>, Vec<Fault>, Vec<Fault>) {
    let mut keys = Vec::new();
    if let Some(mut root) = Section::document(&source) {
        for section in root.sections("key") {
            keys.extend(key(section));
        }
        root.finish();
    }
    if keys.is_empty() && source.fault_count() == 0 {
        let message = "holds no [[key]]: every request would be refused";
        if allow_empty {
            source.warn_at(None, "", message);
        } else {
            let expected = "expected at least one, or allow_empty = true in [directory.file]";
            source.fault_at(None, "", format!("{message}; {expected}"));
        }
    }
    let Findings { faults, warnings, .. } = source.findings();
    (keys, faults, warnings)
}

/// Notes what a file of keys may hold.
pub(super) fn outline(outline: &Outline) {
    let source = Source::new(Path::new(""), "", &|_| None).noting(Some(outline));
    if let Some(mut root) = Section::document(&source) {
        root.sections("key").into_iter().for_each(|section| drop(key(section)));
    }
}

/// The keys of a file without faults and warnings, each parsed on its own, because 100 000 keys as one document take half a
/// second and 200 MiB. `None` if there is a fault or a warning, because its line is known only from the whole document.
fn one_by_one(source: Source<'_>) -> Option<Vec<KeyEntry>> {
    let mut keys = Vec::new();
    for (number, part) in tables::parts(source.text).enumerate() {
        source.go_to(&part);
        let sections = match tables::plain(&source.text[part]) {
            Some(table) => vec![Section::new(&source, "key".into(), table, 0)],
            None => {
                let mut root = Section::document(&source)?;
                // There is nothing before the first key.
                let sections = if number == 0 { Vec::new() } else { root.sections("key") };
                root.finish();
                sections
            }
        };
        keys.extend(sections.into_iter().filter_map(key));
        if !source.is_clean() {
            return None;
        }
    }
    (!keys.is_empty()).then_some(keys)
}

fn key(mut section: Section<'_>) -> Option<KeyEntry> {
    let source = section.source;
    let at = section.at;
    let line = source.line(at);
    let faults = source.fault_count();
    let api_key = named(&mut section, "api_key", "1 to 64 letters and digits", |text| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    let account = named(&mut section, "account", Identifier::FORM, Identifier::is_one);
    let member = named(&mut section, "member", Identifier::FORM, Identifier::is_one);
    let role_at = section.at("role");
    section.known("role");
    section.note("role", || Shape::word(Role::ALL.map(Role::as_str)), None);
    let roles = "\"MEMBER\", \"DEVELOPER\" or \"OWNER\"";
    let role = section.has("role").then(|| text(&mut section, "role", roles)).flatten();
    let role = match role {
        Some(name) => {
            let role = Role::parse(&name);
            if role.is_none() {
                let near = Role::ALL.iter().find(|r| r.as_str().eq_ignore_ascii_case(name.trim()));
                let hint = near.map(|r| format!("; did you mean \"{r}\"?")).unwrap_or_default();
                let message = format!(
                    "{} is not a role: this key may delete nothing; roles are \"MEMBER\", \"DEVELOPER\" and \"OWNER\"{hint}",
                    quoted(&name)
                );
                source.warn_at(role_at, "key.role", message);
            }
            role
        }
        None => None,
    };
    section.note("active", || Shape::Flag, Some(if KeyEntry::ACTIVE { "true" } else { "false" }));
    section.note("expires", || Shape::Date, None);
    section.note_optional("expires");
    section.note("secret_1_expires", || Shape::Date, None);
    section.note_optional("secret_1_expires");
    let active = section.take("active").map_or(KeyEntry::ACTIVE, |value| active(&value, source));
    let expires = section.take("expires").and_then(|value| date(value, "key.expires", source));
    let at_end = section.at("secret_1_expires");
    let secret_1_expires = section.take("secret_1_expires");
    let secret_1_expires = secret_1_expires.and_then(|value| date(value, "key.secret_1_expires", source));
    let secrets = secrets(&mut section, api_key.as_deref());
    section.finish();
    if secrets.len() == 1 && secret_1_expires.is_some() {
        let message = "ends the first of two secrets, and this key has one; expected `expires`, which ends the key";
        source.fault_at(at_end, "key.secret_1_expires", message);
    }
    if source.fault_count() > faults {
        return None;
    }
    if secrets.is_empty() {
        return None;
    }
    let owner = Owner { account: account?.into(), member: member?.into() };
    Some(KeyEntry { api_key: api_key?, secrets, owner, role, active, expires, secret_1_expires, line })
}

fn named(section: &mut Section<'_>, name: &'static str, expected: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let source = section.source;
    let at = section.at(name);
    let text = text(section, name, expected)?;
    if !fits(&text) {
        source.fault_at(at, &format!("key.{name}"), format!("is {}; expected {expected}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Text that is not recorded as a setting, because settings of keys are not shown.
fn text(section: &mut Section<'_>, name: &'static str, expected: &str) -> Option<String> {
    let source = section.source;
    section.note(name, || Shape::Text, None);
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

fn active(value: &Spanned<DeValue<'_>>, source: &Source<'_>) -> bool {
    let DeValue::Boolean(active) = value.get_ref() else {
        let problem = format!("is {}; expected true or false", kind(value.get_ref()));
        source.fault_at(Some(value.span().start), "key.active", problem);
        return true;
    };
    *active
}

fn date(value: Spanned<DeValue<'_>>, name: &'static str, source: &Source<'_>) -> Option<SystemTime> {
    let at = value.span().start;
    let expected = "expected a date with its zone and without quotes, such as 2027-01-01T00:00:00Z";
    let DeValue::Datetime(datetime) = value.get_ref() else {
        source.fault_at(Some(at), name, format!("is not a date; {expected}"));
        return None;
    };
    let parsed = parse_datetime(datetime);
    if parsed.is_none() {
        source.fault_at(Some(at), name, format!("has no day, no time or no zone; {expected}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secret;

    fn read(text: &str, how: impl FnOnce(Source<'_>) -> Option<Vec<KeyEntry>>) -> Option<Vec<String>> {
        let environment = |name: &str| (name == "SECRET").then(|| "a secret of the environment".to_owned());
        let keys = how(Source::new(Path::new("/keys.toml"), text, &environment))?;
        let told = |key: &KeyEntry| {
            let secrets: Vec<&[u8]> = key.secrets.iter().map(Secret::expose).collect();
            format!("{key:?} {secrets:?}")
        };
        Some(keys.iter().map(told).collect())
    }

    fn whole(source: Source<'_>) -> Option<Vec<KeyEntry>> {
        let (keys, faults, warnings) = as_one_document(source, false);
        (faults.is_empty() && warnings.is_empty()).then_some(keys)
    }

    const KEY: &str = "api_key = \"K\"\nsecret = \"0123456789abcdef\"\naccount = \"a\"\nmember = \"m\"\n";

    #[test]
    fn keys_parsed_one_by_one_equal_those_of_the_whole_document() {
        let bare = KEY.replace("secret = \"0123456789abcdef\"\n", "");
        let text = [
            "\n# The keys.\n[[key]]\n",
            KEY,
            "role = \"OWNER\"\nactive = false\n\n[[key]]\n",
            &bare,
            "secrets = [\"fedcba9876543210\", { env = \"SECRET\" }] # two\nexpires = 2027-01-01T00:00:00+09:00\nsecret_1_expires = 2026-12-01T00:00:00Z\n[[key]]\n",
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
        assert_eq!(lines, ["3 ", "11", "18", "24", "30"]);
    }

    #[test]
    fn faults_and_warnings_are_left_to_the_whole_document() {
        let faulty = [
            String::new(),
            "[[key]]\n".into(),
            format!("[[key]]\n{KEY}[[key]]\n{KEY}rule = \"OWNER\"\n"),
            format!("[[key]]\n{KEY}role = \"BOSS\"\n"),
            format!("[[key]]\n{KEY}secret_1_expires = 2026-12-01T00:00:00Z\n"),
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
    fn a_key_header_inside_a_string_does_not_begin_a_key() {
        let account = "account = \"\"\"\\\n[[key]]\\\n\"\"\"\n";
        let text = format!("[[key]]\n{}", KEY.replace("account = \"a\"\n", account));
        let keys = read(&text, whole).unwrap();
        assert!(keys.len() == 1 && keys[0].contains("account: \"[[key]]\""), "{keys:?}");
        assert_eq!(read(&text, one_by_one), None, "left to the whole document");
    }
}
