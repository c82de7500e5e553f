//! `seal` and `reseal`.

use std::process::ExitCode;

use super::Source;
use super::document::Document;
use super::file::Opened;
use crate::cli::fail;
use crate::console::say;
use crate::credential::Secret;
use crate::key_file::WrittenSecret;
use crate::seal::{Place, SecretSlot, id_of};

pub(super) fn seal(source: &Source) -> Result<(), ExitCode> {
    let (sealed, file) = seal_those(source, |_, secret, _| match secret {
        WrittenSecret::Text(text) => Ok(Some(Secret::new(text.as_bytes()).map_err(fail)?)),
        WrittenSecret::Sealed(_) | WrittenSecret::Elsewhere(_) => Ok(None),
    })?;
    match file.document {
        Document::File(_) => say!("sealed {sealed} secrets that stood in the file"),
        #[cfg(feature = "postgres")]
        Document::Table(_) => say!("sealed {sealed} secrets"),
    }
    Ok(())
}

pub(super) fn reseal(source: &Source) -> Result<(), ExitCode> {
    let (sealed, file) = seal_those(source, |file, secret, place| match secret {
        WrittenSecret::Sealed(text) if id_of(text).ok() != file.settings.seal.sealing() => {
            Ok(Some(file.settings.seal.open(place, text).map_err(fail)?))
        }
        WrittenSecret::Sealed(_) | WrittenSecret::Text(_) | WrittenSecret::Elsewhere(_) => Ok(None),
    })?;
    let id = file.settings.seal.sealing().unwrap_or_default();
    say!("sealed {sealed} secrets again; every sealed secret is sealed by {id} now");
    Ok(())
}

/// Seals those secrets that `wanted` returns, and writes the file. Returns how many.
fn seal_those(
    source: &Source,
    wanted: impl Fn(&Opened, &WrittenSecret, Place<'_>) -> Result<Option<Secret>, ExitCode>,
) -> Result<(usize, Opened), ExitCode> {
    let mut file = source.open()?;
    if file.settings.seal.sealing().is_none() {
        return Err(fail(
            "there is no key to seal by; give --config with [seal] keys = [{ id = \"…\", file = \"…\" }]",
        ));
    }
    let mut count = 0;
    for api_key in file.document.api_keys() {
        let mut secrets = file.document.secrets(&api_key).map_err(|error| file.refused(&error))?;
        let before = count;
        for (secret, slot) in secrets.iter_mut().zip([SecretSlot::First, SecretSlot::Second]) {
            if let Some(opened) = wanted(&file, secret, Place { api_key: &api_key, slot })? {
                *secret = file.written(&api_key, slot, &opened)?;
                count += 1;
            }
        }
        if count > before {
            file.document.set_secrets(&api_key, &secrets).map_err(|error| file.refused(&error))?;
        }
    }
    if count > 0 {
        file.write()?;
    }
    Ok((count, file))
}
