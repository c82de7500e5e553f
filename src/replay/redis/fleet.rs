//! What is frozen for the fleet, in Redis beside the salts, and which gateways know it. The counts are in [`budget`].

use std::sync::Arc;
use std::time::Duration;

use redis::{Script, Value};
use tokio::time::timeout;

use super::budget;
use super::script::{Number, decimal};
use super::sentinels::TERM;
use super::shared::Shared;
use crate::replay::StoreFuture;
use crate::replay::fleet::{
    FleetDeletion, FleetMember, FleetReading, FleetReport, FleetStore, FleetTaken, FleetVerdict,
};

/// See the module.
pub(super) struct RedisFleet {
    shared: Arc<Shared>,
    script: Arc<Script>,
    budget: Arc<Script>,
    id: String,
    name: String,
}

impl RedisFleet {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let id = shared.numbers.next().to_string();
        let name = format!("{} (process {}, {})", machine.trim(), std::process::id(), id.get(..6).unwrap_or_default());
        let script = Arc::new(Script::new(include_str!("fleet.lua")));
        Self { shared, script, budget: Arc::new(budget::script()), id, name }
    }

    /// Asks, and returns the texts of the answer behind the number.
    fn ask(&self, what: &'static str, arguments: Vec<String>) -> StoreFuture<Result<Vec<String>, String>> {
        let (shared, script) = (self.shared.clone(), self.script.clone());
        Box::pin(async move {
            let map = shared.map.load_full();
            let elapsed = shared.clock.elapsed();
            let server = map.owner(0).filter(|_| map.is_in_force(elapsed)).ok_or("no server is known")?;
            let number = shared.numbers.next();
            let asked = async {
                let mut connection =
                    server.connection(shared.settings.timeout).await.map_err(|trouble| trouble.to_string())?;
                let mut invocation = script.key(shared.keys.fleet());
                invocation.arg(what).arg(number.to_string());
                for argument in &arguments {
                    invocation.arg(argument);
                }
                let answer: Value =
                    invocation.invoke_async(&mut connection).await.map_err(|error| error.to_string())?;
                texts(&answer, number).ok_or_else(|| "a reply did not match its request".to_owned())
            };
            let late = || Err(format!("no answer within {} ms", shared.settings.timeout.as_millis()));
            let answer = timeout(shared.settings.timeout, asked).await.unwrap_or_else(|_| late());
            if answer.is_err() {
                server.disconnect();
            }
            answer.map_err(|why| format!("Redis at {server}: {why}"))
        })
    }
}

/// The texts of an answer to the request with this number.
fn texts(answer: &Value, number: Number) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    let (echo, rest) = answer.as_sequence()?.split_first()?;
    if !number.is_echoed(echo) {
        return None;
    }
    rest.iter().map(text).collect()
}

fn strange() -> String {
    "what it says of the fleet is not understood".into()
}

fn member(text: &str) -> Option<FleetMember> {
    let mut parts = text.splitn(3, ' ');
    let (silent, cleared) = (decimal(parts.next()?)?, decimal(parts.next()?)?);
    Some(FleetMember { name: parts.next()?.to_owned(), cleared, silent: Duration::from_millis(silent) })
}

impl FleetStore for RedisFleet {
    fn read(&self, report: FleetReport) -> StoreFuture<Result<FleetReading, String>> {
        let FleetReport { version, state, cleared } = report;
        let arguments = vec![self.id.clone(), self.name.clone(), cleared.to_string(), version.to_string(), state];
        let asked = self.ask("read", arguments);
        Box::pin(async move {
            let mut answer = asked.await?.into_iter();
            let (Some(version), Some(state), None) = (answer.next(), answer.next(), answer.next()) else {
                return Err(strange());
            };
            Ok(FleetReading { version: decimal(&version).ok_or_else(strange)?, state })
        })
    }

    fn replace(&self, version: u64, state: String) -> StoreFuture<Result<bool, String>> {
        let asked = self.ask("replace", vec![version.to_string(), state]);
        Box::pin(async move {
            match asked.await?.as_slice() {
                [done] if done == "1" => Ok(true),
                [done] if done == "0" => Ok(false),
                _ => Err(strange()),
            }
        })
    }

    fn members(&self) -> StoreFuture<Result<(u64, Vec<FleetMember>), String>> {
        let asked = self.ask("members", Vec::new());
        Box::pin(async move {
            let answer = asked.await?;
            let (version, members) = answer.split_first().ok_or_else(strange)?;
            let members: Option<Vec<FleetMember>> = members.iter().map(|text| member(text)).collect();
            decimal(version).zip(members).ok_or_else(strange)
        })
    }

    fn straggling(&self) -> Duration {
        if self.shared.settings.sentinel.is_some() { TERM } else { Duration::ZERO }
    }
    fn count(&self, deletion: FleetDeletion, take: bool) -> StoreFuture<Result<FleetVerdict, String>> {
        let (shared, script) = (self.shared.clone(), self.budget.clone());
        Box::pin(async move { budget::count(&shared, &script, &deletion, take).await })
    }

    fn give_back(&self, deletion: FleetDeletion, taken: FleetTaken) -> StoreFuture<()> {
        let shared = self.shared.clone();
        Box::pin(async move { budget::give_back(&shared, &deletion, taken).await })
    }
}
