//! A file that is one line of JSON, its head, and then a sealed content. The head is authenticated with it.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::SnapshotError;
use crate::seal::{KeyRing, SealError};
use crate::state;

/// No snapshot is larger: a million keys with two secrets of 256 bytes each have this many.
const MAX_BYTES: u64 = 1 << 30;
/// No head is longer.
const MAX_HEAD: usize = 16 << 10;
const SALT: usize = 32;

/// A file that was opened.
pub(super) struct SealedFile {
    pub(super) head: Map<String, Value>,
    /// The salt that it was sealed with, which no other file has.
    pub(super) salt: String,
    pub(super) content: Zeroizing<Vec<u8>>,
}

/// The bytes of a file with this head and content, and its salt.
pub(super) fn render(
    ring: &KeyRing,
    mut head: Value,
    mut content: Zeroizing<Vec<u8>>,
) -> Result<(Vec<u8>, String), SealError> {
    let sealing = ring.sealing_whole()?;
    let salt = digits(sealing.salt());
    head["kek"] = json!(sealing.id());
    head["salt"] = json!(salt);
    let mut bytes = format!("{head}\n").into_bytes();
    sealing.seal(&bytes, &mut content)?;
    bytes.extend_from_slice(&content);
    Ok((bytes, salt))
}

/// Reads and opens a file.
pub(super) fn read(ring: &KeyRing, path: &Path) -> Result<SealedFile, SnapshotError> {
    parse(ring, &bytes(path)?)
}

fn bytes(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    let about = match path.symlink_metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(SnapshotError::None),
        Err(error) => return Err(SnapshotError::Read(error)),
    };
    // Whoever put a pipe there must not make the start wait.
    if !about.is_file() || about.len() > MAX_BYTES {
        return Err(SnapshotError::NotAFile);
    }
    let file = state::file().read(true).open(path).map_err(SnapshotError::Read)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(SnapshotError::Read)?;
    Ok(bytes)
}

pub(super) fn parse(ring: &KeyRing, bytes: &[u8]) -> Result<SealedFile, SnapshotError> {
    let end = bytes.iter().take(MAX_HEAD).position(|byte| *byte == b'\n').ok_or(SnapshotError::Damaged)?;
    let (line, sealed) = bytes.split_at(end + 1);
    let head: Map<String, Value> = serde_json::from_slice(line).map_err(|_| SnapshotError::Damaged)?;
    let text = |name: &str| head.get(name).and_then(Value::as_str).ok_or(SnapshotError::Damaged);
    let (id, salt) = (text("kek")?, text("salt")?.to_owned());
    let salt_bytes = undigits(&salt).ok_or(SnapshotError::Damaged)?;
    let content = ring.open_whole(id, &salt_bytes, line, Zeroizing::new(sealed.to_vec()))?;
    Ok(SealedFile { head, salt, content })
}

fn digits(salt: &[u8; SALT]) -> String {
    salt.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn undigits(text: &str) -> Option<[u8; SALT]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}
