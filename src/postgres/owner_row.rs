//! The question whose segment it is, as one statement, and the strict reader of its answer.
//!
//! 1. The server's role is part of the answer, so a server that has become a standby is not believed, also if it says that
//!    there is no such segment.
//! 2. The segment's id is a bound parameter. It is sent as text, and the database infers its type from the query.
//! 3. The types of both columns are judged, also if there is no row: each has one way to be written as text.
//! 4. The statement is unnamed and is parsed and executed in one message, so a pooler may give each one another connection.

use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};

use bytes::BytesMut;
use futures_util::Stream;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Row, RowStream};

use super::session::Session;
use super::{OwnerAnswer, OwnerColumn, PostgresError};

/// The whole statement for a query. `union all` fails if the query has more or fewer than two columns.
pub(super) fn question(query: &str) -> String {
    format!(
        "select pg_catalog.pg_is_in_recovery(), saltgate_row.saltgate_found, \
         pg_catalog.pg_typeof(saltgate_row.account)::pg_catalog.oid, saltgate_row.account::pg_catalog.text, \
         pg_catalog.pg_typeof(saltgate_row.creator)::pg_catalog.oid, saltgate_row.creator::pg_catalog.text \
         from (values (1)) as saltgate_one left join (select true as saltgate_found, saltgate_asked.* \
         from (select null, null where false union all (\n{query}\n)) as saltgate_asked (account, creator)) \
         as saltgate_row on true limit 2"
    )
}

/// Asks it about a segment, on this connection.
pub(super) async fn look(session: &Session, question: &str, segment: &str) -> Result<OwnerAnswer, PostgresError> {
    let rows = session.client.query_typed_raw(question, [(SegmentText(segment), Type::UNKNOWN)]).await?;
    let mut rows = pin!(rows);
    let Some(first) = next(&mut rows).await? else { return Err(PostgresError::NoRows) };
    let answer = read(&first)?;
    match (next(&mut rows).await?, answer) {
        (None, answer) => Ok(answer),
        (Some(_), _) => {
            // The end is waited for: a statement that fails later has failed.
            while next(&mut rows).await?.is_some() {}
            Ok(OwnerAnswer::SeveralRows)
        }
    }
}

async fn next(rows: &mut Pin<&mut RowStream>) -> Result<Option<Row>, tokio_postgres::Error> {
    poll_fn(|cx| rows.as_mut().poll_next(cx)).await.transpose()
}

fn read(row: &Row) -> Result<OwnerAnswer, PostgresError> {
    if row.try_get(0)? {
        return Err(PostgresError::Standby);
    }
    let account = text(row, OwnerColumn::Account, 2)?;
    let creator = text(row, OwnerColumn::Creator, 4)?;
    Ok(match row.try_get::<_, Option<bool>>(1)? {
        Some(_) => OwnerAnswer::Row { account, creator },
        None => OwnerAnswer::NoRow,
    })
}

/// The column at `at` is a type, and the next one is the value.
fn text(row: &Row, column: OwnerColumn, at: usize) -> Result<Option<String>, PostgresError> {
    let oid = row.try_get(at)?;
    match Type::from_oid(oid) {
        Some(
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UUID | Type::INT2 | Type::INT4 | Type::INT8,
        ) => Ok(row.try_get(at + 1)?),
        Some(other) => Err(PostgresError::ColumnType(column, other.name().to_owned())),
        None => Err(PostgresError::ColumnType(column, format!("a type of the database's own (OID {oid})"))),
    }
}

/// A segment's id, sent as text whatever type the database gives the parameter.
#[derive(Debug)]
struct SegmentText<'s>(&'s str);

impl ToSql for SegmentText<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
