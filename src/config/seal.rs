//! Reads `[seal]`: the keys that open sealed secrets.

use super::section::Section;
use super::texts::quoted;
use crate::seal::{Kek, KeyRing, is_id};

/// The sealing keys; none if there are no sealed secrets.
pub(super) fn seal(root: &mut Section<'_>) -> KeyRing {
    let source = root.source;
    if !root.has("seal") {
        root.take("seal");
        return KeyRing::default();
    }
    let mut section = root.section("seal");
    let mut keys: Vec<(String, Kek)> = Vec::new();
    let listed = section.sections("keys");
    if listed.is_empty() {
        let expected = "expected keys = [{ id = \"2026-12\", file = \"kek\" }], of which the first seals";
        source.fault_at(Some(section.at), "seal.keys", format!("names no key; {expected}"));
    }
    for mut key in listed {
        let (at_id, at_file) = (key.at("id"), key.at("file"));
        let id = key.text("id", "a name of the key, which each text that it seals contains");
        let file = key.text("file", "the file of the key: 32 random bytes");
        key.finish();
        let (Some(id), Some(file)) = (id, file) else { continue };
        if !is_id(&id) {
            let message = format!("is {}; expected 1 to 32 letters, digits, `.`, `_` or `-`", quoted(&id));
            source.fault_at(at_id, "seal.keys.id", message);
            continue;
        }
        if keys.iter().any(|(known, _)| *known == id) {
            source.fault_at(at_id, "seal.keys.id", format!("names {} twice; each must be its own", quoted(&id)));
            continue;
        }
        let path = source.resolve(&file);
        let content = std::fs::read(&path).map(zeroize::Zeroizing::new).map_err(|error| error.to_string());
        match content.and_then(|content| Kek::of_file(&content).map_err(|error| error.to_string())) {
            Ok(kek) => keys.push((id, kek)),
            Err(why) => {
                source.fault_at(at_file, "seal.keys.file", format!("names {}: {why}", path.display()));
            }
        }
    }
    section.finish();
    KeyRing::new(keys)
}
