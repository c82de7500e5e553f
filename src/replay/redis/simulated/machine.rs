//! One Redis server by itself: its data, its names, and the few commands that a gateway sends.

use std::collections::{BTreeMap, HashMap, HashSet};

use redis::{Script, Value};

use super::Mechanism;
use super::scripts::{self, Answer};

/// How a server names a history that it does not have.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Keys and values.
#[derive(Clone, Default)]
pub(super) struct Data {
    /// With the server's time at which it expires.
    strings: HashMap<String, (String, Option<i64>)>,
    hashes: HashMap<String, BTreeMap<String, String>>,
}

/// What a server that has no memory left says.
const FULL: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// A change of the data, as a master sends it to its replicas.
#[derive(Clone)]
pub(super) enum Effect {
    Set(String, String, Option<i64>),
    Delete(String),
    SetField(String, String, String),
    DeleteField(String, String),
    Flush,
}

impl Data {
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Set(key, value, until) => drop(self.strings.insert(key, (value, until))),
            Effect::Delete(key) => drop(self.strings.remove(&key)),
            Effect::SetField(key, field, value) => drop(self.hashes.entry(key).or_default().insert(field, value)),
            Effect::Flush => *self = Self::default(),
            Effect::DeleteField(key, field) => drop(self.hashes.get_mut(&key).map(|fields| fields.remove(&field))),
        }
    }

    /// The keys of strings.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.strings.keys()
    }

    pub(super) fn string(&self, key: &str) -> Option<(String, Option<i64>)> {
        self.strings.get(key).cloned()
    }
}

/// See the module.
pub(super) struct Machine {
    pub(super) run: String,
    pub(super) history: String,
    pub(super) earlier: String,
    /// Its clock, in milliseconds since 1970.
    pub(super) time: i64,
    pub(super) data: Data,
    /// Why it takes no writes.
    pub(super) refuses: Option<&'static str>,
    /// Whether it has no memory left.
    pub(super) is_full: bool,
    /// Whether the script that runs has written: then it may go on writing.
    has_written: bool,
    /// Changes that its replicas have not been sent.
    pub(super) effects: Vec<Effect>,
    scripts: HashSet<String>,
}

pub(super) fn bulk(text: impl Into<String>) -> Value {
    Value::BulkString(text.into().into_bytes())
}

/// What the real parser makes of an error.
pub(super) fn error(line: &str) -> Value {
    redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
}

/// The scripts, and the hashes that they are called by.
pub(super) struct Scripts {
    pub(super) claim: Script,
    pub(super) attest: Script,
    pub(super) fleet: Script,
    /// The hashes that were computed, by text.
    hashes: std::cell::RefCell<HashMap<String, String>>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let fleet = Script::new(include_str!("../fleet.lua"));
        Self {
            claim: super::super::script::claim(),
            attest: super::super::script::attest(),
            fleet,
            hashes: Default::default(),
        }
    }

    fn hash(&self, text: &str) -> String {
        let known = self.hashes.borrow().get(text).cloned();
        known.unwrap_or_else(|| {
            let hash = Script::new(text).get_hash().to_owned();
            self.hashes.borrow_mut().insert(text.into(), hash.clone());
            hash
        })
    }
}

impl Machine {
    pub(super) fn new(run: String, history: String) -> Self {
        let (data, effects, scripts) = (Data::default(), Vec::new(), HashSet::new());
        let (refuses, is_full, has_written) = (None, false, false);
        Self { run, history, earlier: NOTHING.into(), time: 0, data, refuses, is_full, has_written, effects, scripts }
    }

    /// Starts the process anew.
    pub(super) fn restart(&mut self, run: String, data: Data) {
        (self.run, self.data) = (run, data);
        self.scripts.clear();
        self.effects.clear();
    }

    fn write(&mut self, effect: Effect) -> Result<(), String> {
        let grows = !matches!(effect, Effect::Delete(_) | Effect::DeleteField(..));
        self.takes_writes(grows)?;
        self.has_written = true;
        self.writes(effect);
        Ok(())
    }

    /// A command that may write is refused before it runs.
    fn takes_writes(&self, grows: bool) -> Result<(), String> {
        match self.refuses {
            Some(why) => Err(why.into()),
            None if grows && self.is_full && !self.has_written => Err(FULL.into()),
            None => Ok(()),
        }
    }

    /// Changes its data, whatever it refuses to clients.
    pub(super) fn writes(&mut self, effect: Effect) {
        self.data.apply(effect.clone());
        self.effects.push(effect);
    }

    pub(super) fn get(&self, key: &str) -> Option<String> {
        let (value, until) = self.data.strings.get(key)?;
        until.is_none_or(|until| until > self.time).then(|| value.clone())
    }

    /// Sets a key, for so many milliseconds; with `new` only if it does not exist. Returns whether it did.
    pub(super) fn set(&mut self, key: &str, value: &str, life: Option<i64>, new: bool) -> Result<bool, String> {
        self.takes_writes(true)?;
        if new && self.get(key).is_some() {
            return Ok(false);
        }
        self.write(Effect::Set(key.into(), value.into(), life.map(|life| self.time + life)))?;
        Ok(true)
    }

    pub(super) fn field(&self, key: &str, field: &str) -> Option<String> {
        self.data.hashes.get(key)?.get(field).cloned()
    }

    pub(super) fn fields(&self, key: &str) -> Vec<(String, String)> {
        self.data.hashes.get(key).into_iter().flatten().map(|(field, value)| (field.clone(), value.clone())).collect()
    }

    pub(super) fn set_fields(&mut self, key: &str, fields: &[(&str, &str)]) -> Result<(), String> {
        for (field, value) in fields {
            self.write(Effect::SetField(key.into(), (*field).into(), (*value).into()))?;
        }
        Ok(())
    }

    pub(super) fn delete_field(&mut self, key: &str, field: &str) -> Result<(), String> {
        self.write(Effect::DeleteField(key.into(), field.into()))
    }

    /// Forgets what has expired by its clock.
    pub(super) fn expire(&mut self) {
        let now = self.time;
        let is_over = |until: &Option<i64>| until.is_some_and(|until| until <= now);
        let over: Vec<String> =
            self.data.strings.iter().filter(|(_, (_, until))| is_over(until)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.data.strings.remove(&key);
            self.effects.push(Effect::Delete(key));
        }
    }

    /// Runs a command of any server; `None` if it is another one.
    pub(super) fn runs(&mut self, command: &[String], scripts: &Scripts, off: Option<Mechanism>) -> Option<Value> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        self.has_written = false;
        let answer: Answer = match words[..] {
            ["PING", number] => Ok(bulk(number)),
            ["TIME"] => Ok(Value::Array(vec![
                bulk((self.time / 1000).to_string()),
                bulk((self.time % 1000 * 1000).to_string()),
            ])),
            ["DBSIZE"] => Ok(Value::Int(self.data.strings.len() as i64)),
            ["GET", key] => Ok(self.get(key).map_or(Value::Nil, bulk)),
            ["SET", ..] if self.is_full => Err(FULL.into()),
            ["SET", key, value, "PX", life] => self.set(key, value, life.parse().ok(), false).map(|_| Value::Okay),
            ["SCRIPT", "LOAD", text] => {
                let hash = scripts.hash(text);
                self.scripts.insert(hash.clone());
                Ok(bulk(hash))
            }
            ["EVALSHA", hash, ..] if !self.scripts.contains(hash) => {
                Err("NOSCRIPT No matching script. Please use EVAL.".into())
            }
            ["EVALSHA", hash, "1", key, ref argv @ ..] if hash == scripts.attest.get_hash() => {
                scripts::attest(self, &[key], argv, off)
            }
            ["EVALSHA", hash, "1", key, ref argv @ ..] if hash == scripts.fleet.get_hash() => {
                scripts::fleet(self, &[key], argv)
            }
            ["EVALSHA", hash, "2", salt, marker, ref argv @ ..] if hash == scripts.claim.get_hash() => {
                scripts::claim(self, &[salt, marker], argv, off)
            }
            _ => return None,
        };
        Some(answer.unwrap_or_else(|line| error(&line)))
    }
}
