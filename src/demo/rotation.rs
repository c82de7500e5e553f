//! A key is rotated and then revoked while the gateway runs, with requests that show it.

use std::thread;
use std::time::Duration;

use super::walk::{Demo, Key, Outcome, UNKNOWN, random, signed};
use crate::clock::{self, Clock};
use crate::console::say;
use crate::key_file::{KeyFile, KeyFileError, WrittenSecret};
use crate::state;

/// The answer to a caller who is known and asks for a segment that is not there.
const ACCEPTED: u16 = 404;
/// The answer to everybody else.
const REFUSED: u16 = 401;
/// How long a change may take to be in force: the gateway looks at the file each second, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

impl Demo {
    /// Rotates a key and revokes it. Returns whether every answer is as expected.
    pub(super) fn change_a_key(&self) -> Outcome<bool> {
        let old = &self.keys[1];
        let new = Key { secret: random()?, ..old.clone() };
        let api_key = &old.api_key;
        let text = |key: &Key| WrittenSecret::Text(key.secret.clone());
        say!("\n{api_key} is rotated and revoked while the gateway runs (404: known, and there is no such segment):");

        self.change("a second secret is added", (&new, ACCEPTED), |file| {
            file.set_secrets(api_key, &[text(old), text(&new)])
        })?;
        let mut as_expected = self.shows(old, "the old secret", ACCEPTED, "accepted as before")?;
        as_expected &= self.shows(&new, "the new secret", ACCEPTED, "accepted too: callers change over one by one")?;

        self.change("the old one is taken away", (old, REFUSED), |file| file.set_secrets(api_key, &[text(&new)]))?;
        as_expected &= self.shows(old, "the old secret", REFUSED, "the signature does not match")?;
        as_expected &= self.shows(&new, "the new secret", ACCEPTED, "accepted")?;

        self.change("the key is revoked", (&new, REFUSED), |file| file.switch_off(api_key))?;
        as_expected &= self.shows(&new, "the new secret", REFUSED, "the key is switched off")?;
        Ok(as_expected)
    }

    /// Changes the file of keys as `saltgate keys` does, and waits until a request with this key is answered like this.
    fn change(
        &self,
        what: &str,
        (key, status): (&Key, u16),
        change: impl FnOnce(&mut KeyFile) -> Result<(), KeyFileError>,
    ) -> Outcome<()> {
        let mut file = KeyFile::parse(&std::fs::read_to_string(self.directory.join("keys.toml"))?)?;
        change(&mut file)?;
        state::replace(&self.directory, "keys.toml", file.text().as_bytes())?;
        let clock = Clock::system();
        let began = clock.elapsed();
        while self.asks(key)? != status {
            if clock.elapsed() - began > PATIENCE {
                return Err(format!("{what} in keys.toml, and the gateway did not take it").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        say!("  {what}; in force after {:.1} s", (clock.elapsed() - began).as_secs_f64());
        Ok(())
    }

    fn shows(&self, key: &Key, what: &str, expected: u16, why: &str) -> Outcome<bool> {
        let status = self.asks(key)?;
        let mark = if status == expected { ' ' } else { '!' };
        say!("{mark}   signed with {what:<32} {status}  {why}");
        Ok(status == expected)
    }

    fn asks(&self, key: &Key) -> Outcome<u16> {
        self.delete(UNKNOWN, &signed(key, &clock::rfc3339(Clock::system().now()))?)
    }
}
