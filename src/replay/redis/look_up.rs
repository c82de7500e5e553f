//! Whether a salt is spent, asked without spending it.

use redis::Value;
use tokio::time::timeout;

use super::script;
use super::server::{Server, Trouble};
use super::shared::Shared;
use crate::credential::SaltId;

impl Shared {
    pub(super) async fn look_up(&self, salt: SaltId) -> Option<bool> {
        let key = self.keys.salt(salt);
        let map = self.map.load_full();
        let server = map.owner(self.keys.slot(&key)).filter(|server| server.is_usable())?;
        match self.get(server, &key).await? {
            Value::Nil => Some(false),
            // The value that a claim writes. Earlier versions wrote an empty one.
            Value::BulkString(mark) if mark.is_empty() || script::mark(&mark).is_some() => Some(true),
            _ => None,
        }
    }

    /// The value of a key. The reply is verified to belong to this request.
    pub(super) async fn get(&self, server: &Server, key: &str) -> Option<Value> {
        let limit = self.settings.timeout;
        let asked = async {
            let mut connection = server.connection(limit).await.ok()?;
            let (number, mut ask) = (self.numbers.next(), redis::pipe());
            ask.cmd("GET").arg(key).cmd("PING").arg(number.to_string());
            let (value, echo): (Value, Value) = ask.query_async(&mut connection).await.ok()?;
            if !number.is_echoed(&echo) {
                self.failed(server, Trouble::OutOfSync);
                server.disconnect();
                return None;
            }
            Some(value)
        };
        timeout(limit, asked).await.ok()?
    }
}
