//! What each setting is for, in the words of the annotated examples, `config/edge.toml` and `config/keys.example.toml`.

use std::collections::BTreeMap;

/// Comments of a line of their own begin here or later if they continue the one above.
const CONTINUES_AT: usize = 20;

pub(super) struct Descriptions(BTreeMap<String, String>);

impl Descriptions {
    pub(super) fn of_the_configuration() -> Self {
        Self::read(include_str!("../../config/edge.toml"))
    }

    pub(super) fn of_the_keys() -> Self {
        Self::read(include_str!("../../config/keys.example.toml"))
    }

    pub(super) fn of(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Reads the comments of an example in which each setting stands in its section, whether it is commented out or not.
    fn read(example: &str) -> Self {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let (mut section, mut last) = (String::new(), String::new());
        // Whole lines of comment, which belong to the section below them.
        let mut above = Vec::new();
        for line in example.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let more = line.trim_start().strip_prefix('#').map(str::trim);
            let at = line.find(|c: char| c != ' ' && c != '#').unwrap_or(0);
            if let Some(more) = more
                && at >= CONTINUES_AT
            {
                if let Some(text) = found.get_mut(&last) {
                    text.push(' ');
                    text.push_str(more);
                }
            } else if let Some(name) = bare.strip_prefix('[') {
                let (name, rest) = name.split_once(']').unwrap_or((name, ""));
                section = name.trim_start_matches('[').to_owned();
                last = section.clone();
                let behind = rest.split_once("# ").map(|(_, comment)| comment.trim().to_owned());
                let text = behind.unwrap_or_else(|| above.join(" "));
                above.clear();
                if !text.is_empty() {
                    found.entry(section.clone()).or_insert(text);
                }
            } else if let Some((name, value)) = bare.split_once(" = ")
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            {
                last = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
                above.clear();
                let comment = value.rsplit_once(" # ").map(|(_, comment)| comment.trim().to_owned());
                if let Some(comment) = comment {
                    found.entry(last.clone()).or_insert(comment);
                }
            } else if line.starts_with("# ") {
                above.push(bare);
            } else {
                above.clear();
            }
        }
        Self(found)
    }
}
