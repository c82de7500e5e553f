//! The secrets of a key: `"text"`, `{ env = "NAME" }`, `{ file = "path" }` or `{ sealed = "sg1:…" }`. No message contains any part of them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::outline::Shape;
use super::section::Section;
use super::source::Source;
use crate::credential::{Secret, SecretError};
use crate::seal::{KeyRing, Place, SecretSlot};

/// The one or two secrets of the key with this apiKey, if it has one; none if there is a fault.
pub(super) fn secrets(section: &mut Section<'_>, api_key: Option<&str>) -> Vec<Secret> {
    let place = |slot| api_key.map(|api_key| Place { api_key, slot });
    let source = section.source;
    let at = section.at;
    section.note_choice(&["secret", "secrets"]);
    section.note("secret", || Shape::Secret, None);
    section.note("secrets", || Shape::List(Box::new(Shape::Secret), 1, 2), None);
    let values = match (section.take("secret"), section.take("secrets")) {
        (Some(one), None) => return secret(&one, place(SecretSlot::First), source).into_iter().collect(),
        (None, Some(list)) => list,
        (Some(both), Some(_)) => {
            source.fault_at(Some(both.span().start), "key.secret", "conflicts with `secrets`; expected one of the two");
            return Vec::new();
        }
        (None, None) => {
            let expected = "expected secret = \"…\", { env = \"NAME\" }, { file = \"path\" } or { sealed = \"…\" }";
            source.fault_at(Some(at), "key.secret", format!("is missing; {expected}"));
            return Vec::new();
        }
    };
    match values.get_ref() {
        DeValue::Array(array) if (1..=2).contains(&array.len()) => {
            let slots = [SecretSlot::First, SecretSlot::Second];
            array.iter().zip(slots).filter_map(|(value, slot)| secret(value, place(slot), source)).collect()
        }
        _ => {
            source.fault_at(Some(values.span().start), "key.secrets", "is not a list of one or two secrets");
            Vec::new()
        }
    }
}

fn secret(value: &Spanned<DeValue<'_>>, place: Option<Place<'_>>, source: &Source<'_>) -> Option<Secret> {
    let at = value.span().start;
    match resolve(value.get_ref(), place, at, source)? {
        Ok((whence, Ok(secret))) => {
            if let Some(doubt) = secret.doubt() {
                let message = format!("{} {doubt}: clients that sign without it are refused", whence.name());
                source.warn_at(Some(at), "key.secret", message);
            }
            Some(secret)
        }
        Ok((whence, Err(error))) => {
            source.fault_at(Some(at), "key.secret", format!("{} {error}", whence.name()));
            None
        }
        Err(message) => {
            source.fault_at(Some(at), "key.secret", message);
            None
        }
    }
}

/// The source of a secret.
enum SecretSource<'v> {
    Here,
    Environment(&'v str),
    File(String),
    Sealed,
}

impl SecretSource<'_> {
    fn name(&self) -> String {
        match self {
            Self::Here => "the secret".into(),
            Self::Sealed => "the sealed secret".into(),
            Self::Environment(name) => format!("the secret in {name}"),
            Self::File(path) => format!("the secret in {path}"),
        }
    }
}

type Resolved<'v> = Result<(SecretSource<'v>, Result<Secret, SecretError>), String>;

/// `None` if the fault was already reported.
fn resolve<'v>(
    value: &'v DeValue<'_>,
    place: Option<Place<'_>>,
    at: usize,
    source: &Source<'_>,
) -> Option<Resolved<'v>> {
    const EXPECTED: &str = "is neither text nor { env = \"NAME\" } nor { file = \"path\" } nor { sealed = \"…\" }";
    let table = match value {
        DeValue::String(text) => return Some(Ok((SecretSource::Here, Secret::new(text.as_bytes())))),
        DeValue::Table(table) if table.len() == 1 => table,
        _ => return Some(Err(EXPECTED.into())),
    };
    if let Some(name) = text(table, "env") {
        let value = (source.environment)(name);
        let value = value.ok_or_else(|| format!("names {name}, which is not set in the environment"));
        let value = value.map(zeroize::Zeroizing::new);
        return Some(value.map(|value| (SecretSource::Environment(name), Secret::new(value.as_bytes()))));
    }
    if let Some(sealed) = text(table, "sealed") {
        // Without an apiKey there is a fault already.
        let opened = source.seal.unwrap_or(&KeyRing::default()).open(place?, sealed);
        return Some(opened.map(|secret| (SecretSource::Sealed, Ok(secret))).map_err(|error| error.to_string()));
    }
    let Some(path) = text(table, "file") else { return Some(Err(EXPECTED.into())) };
    let path = source.expand(at, "key.secret", path)?;
    let path = source.resolve(&path);
    source.will_read(&path);
    let read = std::fs::read(&path).map(zeroize::Zeroizing::new);
    let read = read.map_err(|error| format!("names {}: {error}", path.display()));
    Some(read.map(|bytes| (SecretSource::File(path.display().to_string()), Secret::of_file(&bytes))))
}

fn text<'v>(table: &'v DeTable<'_>, name: &str) -> Option<&'v str> {
    table.get(name).and_then(|value| value.get_ref().as_str())
}
