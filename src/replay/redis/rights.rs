//! Tries the commands that only a fleet's counts need, so that a user without the right to one is found at the start and
//! not by the first deletion. What it writes is gone when it returns.

use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Pipeline, Value};
use tokio::time::timeout;

use super::script::Keys;
use super::server::Trouble;

pub(super) async fn try_counting(
    connection: &mut (impl ConnectionLike + Send),
    keys: &Keys,
    limit: Duration,
) -> Result<(), Trouble> {
    // Names that no apiKey has.
    let (parts, set) = (keys.budget("parts", ""), keys.budget("set", ""));
    let mut ask = Pipeline::new();
    let mut command = |name: &str, arguments: &[&str]| {
        ask.cmd(name).arg(arguments);
    };
    command("EXISTS", &[&parts]);
    command("HINCRBY", &[&parts, "0", "1"]);
    command("PEXPIRE", &[&parts, "1000"]);
    command("HGETALL", &[&parts]);
    command("HDEL", &[&parts, "0"]);
    command("ZADD", &[&set, "1", "a", "2", "b"]);
    command("PEXPIRE", &[&set, "1000"]);
    command("ZCARD", &[&set]);
    command("ZRANGE", &[&set, "-1", "-1", "WITHSCORES"]);
    command("ZSCORE", &[&set, "-"]);
    command("ZREMRANGEBYRANK", &[&set, "0", "0"]);
    command("ZREM", &[&set, "b"]);
    let late = |_| Trouble::OutOfReach("no answer in time".into());
    let answers: Vec<Value> = timeout(limit, ask.query_async(connection)).await.map_err(late)??;
    drop(answers);
    Ok(())
}
