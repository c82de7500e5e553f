//! The answers that are kept for repeats which reach another gateway of the fleet.

use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::shared::{Shared, millis};
use crate::credential::SaltId;

impl Shared {
    pub(super) async fn store_answer(&self, salt: SaltId, text: Vec<u8>, life: Duration) -> Option<()> {
        let key = self.keys.answer(salt);
        let map = self.map.load_full();
        let server = map.owner(self.keys.slot(&key)).filter(|server| server.is_usable())?;
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(text).arg("PX").arg(millis(life).max(1));
        let kept = async {
            let mut connection = server.connection(self.settings.timeout).await.ok()?;
            set.exec_async(&mut connection).await.ok()
        };
        timeout(self.settings.timeout, kept).await.ok()?
    }

    pub(super) async fn stored_answer(&self, salt: SaltId) -> Option<Vec<u8>> {
        let key = self.keys.answer(salt);
        let map = self.map.load_full();
        let server = map.owner(self.keys.slot(&key)).filter(|server| server.is_usable())?;
        match self.get(server, &key).await? {
            Value::BulkString(text) => Some(text),
            _ => None,
        }
    }
}
