//! The JSON Schema of a configuration and of a file of keys, for editors and validators. It is made of what the readers
//! themselves note while they read ([`Outline`]), so there is no second list of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::outline::{Outline, Part, Shape};
use super::{keys, read};

/// The schema's own version: what most editors know.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
/// Texts may take parts from the environment; what comes out is judged when it is read.
const FROM_ENVIRONMENT: &str = r"\$\{[^}]+\}";
/// Settings that must be there unless another is `true`.
const UNLESS: &[(&str, &str)] = &[("audit.path", "audit.danger_no_record")];

/// The schema of the configuration, as JSON.
pub(crate) fn of_configuration() -> String {
    let mut outline = Outline::default();
    loop {
        drop(read::read(Path::new(""), "", &|_| None, Some(&outline)));
        outline.chosen += 1;
        if outline.chosen >= outline.most_choices() {
            break;
        }
    }
    written("Saltgate: configuration", outline, &Descriptions::of_the_configuration())
}

/// The schema of the file of keys, as JSON.
pub(crate) fn of_keys() -> String {
    let mut outline = Outline::default();
    for chosen in 0..2 {
        outline.chosen = chosen;
        keys::outline(&outline);
    }
    written("Saltgate: keys", outline, &Descriptions::of_the_keys())
}

fn written(title: &str, outline: Outline, descriptions: &Descriptions) -> String {
    let (parts, optional, choices) = outline.whole();
    let tree = Tree { parts, optional, choices, descriptions };
    let mut root = tree.table("");
    root.insert("$schema".into(), json!(DRAFT));
    root.insert("title".into(), json!(title));
    // The alternate form of a map prints it over many lines.
    format!("{:#}\n", Value::Object(root))
}

struct Tree<'d> {
    parts: BTreeMap<String, Part>,
    optional: BTreeSet<String>,
    choices: BTreeMap<String, Vec<String>>,
    descriptions: &'d Descriptions,
}

impl Tree<'_> {
    /// The parts of a table: their names, and their keys.
    fn of<'t>(&'t self, table: &'t str) -> impl Iterator<Item = (&'t str, &'t String, &'t Part)> {
        self.parts.iter().filter_map(move |(key, part)| {
            let name = match table {
                "" => key,
                _ => key.strip_prefix(table)?.strip_prefix('.')?,
            };
            (!name.contains('.')).then_some((name, key, part))
        })
    }

    fn table(&self, table: &str) -> Map<String, Value> {
        let mut properties = Map::new();
        for (name, key, part) in self.of(table) {
            let mut schema = match part {
                Part::Table => self.table(key),
                Part::Tables => {
                    let least = if self.optional.contains(key) { 0 } else { 1 };
                    object(json!({ "type": "array", "minItems": least, "items": self.table(key) }))
                }
                Part::Setting(shape, default) => {
                    let mut schema = object(schema_of(shape));
                    if let Some(default) = default.as_deref().and_then(value) {
                        schema.insert("default".into(), default);
                    }
                    schema
                }
            };
            if let Some(text) = self.description(key) {
                schema.insert("description".into(), json!(text));
            }
            properties.insert(name.to_owned(), Value::Object(schema));
        }
        let names = self.of(table).filter(|(name, key, part)| self.is_needed(table, name, key, part));
        let names: Vec<&str> = names.map(|(name, ..)| name).collect();
        let mut schema = object(json!({ "type": "object", "properties": properties, "additionalProperties": false }));
        if !names.is_empty() {
            schema.insert("required".into(), json!(names));
        }
        if let Some(parts) = self.choices.get(table) {
            let each: Vec<Value> = parts.iter().map(|part| json!({ "required": [part] })).collect();
            schema.insert("oneOf".into(), json!(each));
        }
        for (setting, unless) in UNLESS {
            if let (Some((of, name)), Some((_, unless))) = (setting.rsplit_once('.'), unless.rsplit_once('.'))
                && of == table
            {
                let is_so = json!({ "properties": { unless: { "const": true } }, "required": [unless] });
                let is_not = json!({ "properties": { unless: { "const": false } }, "required": [name] });
                schema.insert("anyOf".into(), json!([is_so, is_not]));
            }
        }
        schema
    }

    /// Whether a part must be there: a setting without a default, and a table that holds something that must.
    fn is_needed(&self, table: &str, name: &str, key: &str, part: &Part) -> bool {
        let is_choice = self.choices.get(table).is_some_and(|parts| parts.iter().any(|part| part == name));
        if is_choice || self.optional.contains(key) || UNLESS.iter().any(|(setting, _)| *setting == key) {
            return false;
        }
        match part {
            Part::Setting(_, default) => default.is_none(),
            Part::Tables => true,
            Part::Table => {
                self.choices.contains_key(key)
                    || UNLESS.iter().any(|(setting, _)| setting.rsplit_once('.').is_some_and(|(of, _)| of == key))
                    || self.of(key).any(|(name, inner, part)| self.is_needed(key, name, inner, part))
            }
        }
    }

    /// What the example says about this setting, or about the one of the same name in a part that excludes its own, or about the
    /// list that it is written in.
    fn description(&self, key: &str) -> Option<&str> {
        let (part, name) = key.rsplit_once('.').unwrap_or(("", key));
        let (table, _) = part.rsplit_once('.').unwrap_or(("", part));
        let others = self.choices.get(table).into_iter().flatten().map(|part| format!("{table}.{part}.{name}"));
        let mut keys = std::iter::once(key.to_owned()).chain(others);
        let inline = matches!(self.parts.get(part), Some(Part::Tables)).then(|| part.to_owned());
        keys.find_map(|key| self.descriptions.of(&key)).or_else(|| self.descriptions.of(&inline?))
    }
}

fn schema_of(shape: &Shape) -> Value {
    match shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Shape::Duration => {
            json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?[a-zµ]+( ?[0-9]+(\\.[0-9]+)?[a-zµ]+)*$" })
        }
        Shape::Size => json!({ "type": ["string", "integer"], "pattern": "^[0-9]+(B|KiB|MiB|GiB)?$", "minimum": 1 }),
        Shape::Budget => {
            let budget = "0*[1-9][0-9]*/(second|minute|hour|day|week)";
            json!({ "type": "string", "pattern": format!("^{budget}$|{FROM_ENVIRONMENT}") })
        }
        Shape::Text => json!({ "type": "string" }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Date => json!({ "type": "string", "format": "date-time" }),
        Shape::Secret => {
            let table = |name: &str| {
                json!({
                    "type": "object",
                    "properties": { name: { "type": "string" } },
                    "required": [name],
                    "additionalProperties": false,
                })
            };
            json!({ "anyOf": [{ "type": "string", "minLength": 1 }, table("env"), table("file"), table("sealed")] })
        }
        Shape::List(of, least, most) => {
            let mut list = object(json!({ "type": "array", "items": schema_of(of) }));
            if *least > 0 {
                list.insert("minItems".into(), json!(least));
            }
            if *most < usize::MAX {
                list.insert("maxItems".into(), json!(most));
            }
            Value::Object(list)
        }
        Shape::Either(shapes) => json!({ "anyOf": shapes.iter().map(schema_of).collect::<Vec<_>>() }),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A value of TOML as JSON has it.
fn value(text: &str) -> Option<Value> {
    let mut table: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(table.remove("value")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every setting of a schema, with its whole key.
    fn settings(schema: &Value, table: &str, found: &mut BTreeMap<String, Value>) {
        let tables = if schema["type"] == "array" { &schema["items"] } else { schema };
        match tables["properties"].as_object() {
            Some(inner) => inner.iter().for_each(|(name, inner)| {
                let key = if table.is_empty() { name.clone() } else { format!("{table}.{name}") };
                settings(inner, &key, found);
            }),
            None => drop(found.insert(table.to_owned(), schema.clone())),
        }
    }

    fn all(schema: &str) -> BTreeMap<String, Value> {
        let mut found = BTreeMap::new();
        settings(&serde_json::from_str(schema).unwrap(), "", &mut found);
        found
    }

    #[test]
    fn the_files_in_the_repository_are_what_the_command_prints() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        for (name, schema, flag) in
            [("saltgate.schema.json", of_configuration(), ""), ("keys.schema.json", of_keys(), " --keys")]
        {
            let file = std::fs::read_to_string(config.join(name)).unwrap_or_default();
            assert!(file == schema, "run: cargo run -- config schema{flag} >config/{name}");
        }
    }

    #[test]
    fn every_setting_is_described() {
        for (schema, example) in [(of_configuration(), "edge.toml"), (of_keys(), "keys.example.toml")] {
            let settings = all(&schema);
            assert!(settings.len() > 5);
            let silent: Vec<_> = settings.iter().filter(|(_, schema)| schema["description"].is_null()).collect();
            assert!(silent.is_empty(), "add a comment behind each in config/{example}: {silent:#?}");
        }
    }

    #[test]
    fn the_schema_says_what_a_setting_may_be_and_which_must_be_there() {
        let settings = all(&of_configuration());
        assert_eq!(settings["limits.max_in_flight"]["default"], 1024);
        assert_eq!(settings["listener.keep_alive"]["enum"], json!(["accepted", "always", "never"]));
        assert_eq!(settings["replay.memory.when_new"]["default"], "fence");
        let schema: Value = serde_json::from_str(&of_configuration()).unwrap();
        assert_eq!(
            schema["required"],
            json!(["audit", "directory", "listener", "ownership", "replay", "upstream"]),
            "what every configuration has"
        );
        let stores = &schema["properties"]["replay"]["oneOf"];
        assert_eq!(
            stores,
            &json!([{ "required": ["journal"] }, { "required": ["redis"] }, { "required": ["memory"] }])
        );
        let keys: Value = serde_json::from_str(&of_keys()).unwrap();
        let key = &keys["properties"]["key"]["items"];
        assert_eq!(key["required"], json!(["account", "api_key", "member"]), "a key without a role may delete nothing");
    }
}
