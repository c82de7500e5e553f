//! The table that records are copied to: adds lines, and reads them in order.

use std::pin::pin;
use std::time::Duration;

use futures_util::Stream;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::session::{Session, within};
use super::{PostgresAddress, PostgresError};

/// The table of `deploy/postgres/record.sql`, and one connection to it.
pub(crate) struct RecordTable {
    address: PostgresAddress,
    timeout: Duration,
    session: Option<Session>,
}

/// The place of a line in all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    /// The process that wrote it, in hexadecimal digits.
    pub instance: String,
    /// The number of its file, from 1.
    pub file: u64,
    /// Its number in the file, from 1.
    pub line: u64,
}

impl RecordTable {
    /// Connects at the first query.
    pub(crate) fn new(address: PostgresAddress, timeout: Duration) -> Self {
        Self { address, timeout, session: None }
    }

    async fn session(&mut self) -> Result<Session, PostgresError> {
        match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => Session::open(&self.address, self.timeout, None).await,
        }
    }

    /// What the table has of these processes: for each file the last line, and how many lines there are.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn stored(&mut self, instances: &[String]) -> Result<Vec<(RecordPlace, u64)>, PostgresError> {
        let names: Vec<String> = instances.iter().map(|name| hex_text(name.as_bytes())).collect();
        let text = format!(
            "{} select instance, file, max(line), count(*) from saltgate.record where instance in ({}) group by instance, file; \
             commit",
            begin(self.timeout),
            names.join(", ")
        );
        let messages = self.query(&text, "the query of what is there").await?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let stored = |row: &SimpleQueryRow| Some((place(row)?, number(row, 3)?));
        rows.map(|row| stored(row).ok_or(PostgresError::RecordRow)).collect()
    }

    /// Adds lines, unless they are there. When this returns, they are as durable as the database's other data.
    ///
    /// # Errors
    /// If the database does not confirm it: each line may be there or not.
    pub(crate) async fn add<'l>(
        &mut self,
        lines: impl Iterator<Item = (RecordPlace, &'l [u8])>,
    ) -> Result<(), PostgresError> {
        let mut text =
            format!("{} insert into saltgate.record (instance, file, line, bytes) values ", begin(self.timeout));
        for (at, (RecordPlace { instance, file, line }, bytes)) in lines.enumerate() {
            text.push_str(if at == 0 { "(" } else { ", (" });
            text.push_str(&format!("{}, {file}, {line}, decode('", hex_text(instance.as_bytes())));
            push_hex(&mut text, bytes);
            text.push_str("', 'hex'))");
        }
        text.push_str(" on conflict (instance, file, line) do nothing; commit");
        self.query(&text, "adding lines").await?;
        Ok(())
    }

    /// Calls `each` for every line, ordered by place, until it returns false.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub(crate) async fn read(
        &mut self,
        mut each: impl FnMut(RecordPlace, Vec<u8>) -> bool,
    ) -> Result<(), PostgresError> {
        const ALL: &str =
            "select instance, file, line, encode(bytes, 'hex') from saltgate.record order by instance, file, line";
        let session = self.session().await?;
        let limit = (self.timeout, self.address.section);
        let mut messages = pin!(
            within(limit, "the query of all lines", async { Ok(session.client.simple_query_raw(ALL).await?) }).await?
        );
        loop {
            let next = std::future::poll_fn(|cx| messages.as_mut().poll_next(cx));
            let Some(message) = within(limit, "a line", async { Ok(next.await.transpose()?) }).await? else {
                return Ok(());
            };
            if let SimpleQueryMessage::Row(row) = message {
                let bytes = row.try_get(3).ok().flatten().and_then(from_hex).ok_or(PostgresError::RecordRow)?;
                if !each(place(&row).ok_or(PostgresError::RecordRow)?, bytes) {
                    return Ok(());
                }
            }
        }
    }

    /// One message of the simple protocol, because a pooler may give each transaction another connection. After an error the
    /// connection is closed.
    async fn query(&mut self, text: &str, what: &'static str) -> Result<Vec<SimpleQueryMessage>, PostgresError> {
        let session = self.session().await?;
        let limit = (self.timeout, self.address.section);
        let messages = within(limit, what, async { Ok(session.client.simple_query(text).await?) }).await?;
        self.session = Some(session);
        Ok(messages)
    }
}

/// The begin of a transaction that is durable once it is confirmed, also where the database's default is otherwise.
fn begin(timeout: Duration) -> String {
    let ms = timeout.as_millis();
    format!(
        "begin; set local statement_timeout = {ms}; set local idle_in_transaction_session_timeout = {ms}; \
         select set_config('synchronous_commit', 'on', true) where current_setting('synchronous_commit') = 'off';"
    )
}

/// Text as SQL, of which no character can end a literal.
fn hex_text(bytes: &[u8]) -> String {
    let mut text = "convert_from(decode('".to_owned();
    push_hex(&mut text, bytes);
    text + "', 'hex'), 'UTF8')"
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn place(row: &SimpleQueryRow) -> Option<RecordPlace> {
    let instance = row.try_get(0).ok().flatten()?.to_owned();
    Some(RecordPlace { instance, file: number(row, 1)?, line: number(row, 2)? })
}

fn number(row: &SimpleQueryRow, column: usize) -> Option<u64> {
    row.try_get(column).ok().flatten()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_text_that_cannot_end_a_literal_and_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        push_hex(&mut text, &all);
        assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(from_hex(&text), Some(all));
        assert_eq!((from_hex("0"), from_hex("0x"), from_hex("")), (None, None, Some(Vec::new())));
        assert_eq!(hex_text(b"a'"), "convert_from(decode('6127', 'hex'), 'UTF8')");
    }
}
