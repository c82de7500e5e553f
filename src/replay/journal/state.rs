//! What a journal knows besides its salts, in one small file that is replaced whole.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::segment::{Fault, VERSION};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Nothing dated at or below this is admitted, in nanoseconds since 1970.
    pub(super) floor: i64,
    /// Nothing dated beyond this was ever admitted.
    pub(super) reach: i64,
    /// The kernel that was running; empty if what was written may be lost even while it runs.
    pub(super) boot_id: String,
    /// Whether everything was on disk when it was closed.
    pub(super) clean: bool,
    /// Whether every salt was on disk before it was answered.
    pub(super) each: bool,
    /// The number of the oldest segment.
    pub(super) first: u64,
    /// The number of the newest segment that may have been written.
    pub(super) last: u64,
    /// Segments that were being written when a machine stopped: any place in them may be empty.
    pub(super) holes: Vec<u64>,
}

const NAME: &str = "state.json";
const FORMAT: &str = "saltgate replay journal";

impl State {
    /// Whether what was written may be gone: another kernel ran, or nobody can say which.
    pub(super) fn is_of_another_kernel(&self, boot_id: &str) -> bool {
        !self.clean && (self.boot_id != boot_id || boot_id.is_empty())
    }

    /// The state of a journal; `None` where there is none yet.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Result<Self, Fault>>> {
        match std::fs::read(directory.join(NAME)) {
            Ok(bytes) => Ok(Some(Self::parse(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let damaged = || Fault::Damaged("is not the state of a journal".into());
        let value: Value = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let version = value["version"].as_u64().filter(|_| value["format"] == FORMAT).ok_or_else(damaged)?;
        if version > u64::from(VERSION) {
            return Err(Fault::Newer(u32::try_from(version).unwrap_or(u32::MAX)));
        }
        let state = || {
            Some(Self {
                floor: value["floor"].as_i64()?,
                reach: value["reach"].as_i64()?,
                boot_id: value["boot_id"].as_str()?.to_owned(),
                clean: value["clean"].as_bool()?,
                each: value["each"].as_bool()?,
                first: value["first"].as_u64()?,
                last: value["last"].as_u64()?,
                holes: value["holes"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?,
            })
        };
        state().filter(|state| state.first <= state.last).ok_or_else(damaged)
    }

    /// Replaces the file: what is there afterwards is the old one whole, or this one.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let value = json!({
            "format": FORMAT,
            "version": VERSION,
            "floor": self.floor,
            "reach": self.reach,
            "boot_id": self.boot_id,
            "clean": self.clean,
            "each": self.each,
            "first": self.first,
            "last": self.last,
            "holes": self.holes,
        });
        let new = directory.join(format!("{NAME}.new"));
        let mut file = File::create(&new)?;
        file.write_all(format!("{value}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, directory.join(NAME))?;
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert!(State::read(dir.path()).unwrap().is_none());
        let state = State {
            floor: i64::MIN,
            reach: 7,
            boot_id: "b".into(),
            clean: true,
            each: false,
            first: 2,
            last: 9,
            holes: vec![3],
        };
        state.write(dir.path()).unwrap();
        assert_eq!(State::read(dir.path()).unwrap().unwrap().unwrap(), state);
        let path = dir.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        for (name, text) in [
            ("empty", String::new()),
            ("cut off", text[..text.len() / 2].to_owned()),
            ("another format", text.replace("saltgate", "other")),
            ("a missing field", text.replace("reach", "rich")),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(State::read(dir.path()).unwrap().unwrap(), Err(Fault::Damaged(_))), "{name}");
        }
        std::fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert_eq!(State::read(dir.path()).unwrap().unwrap(), Err(Fault::Newer(2)));
    }
}
