//! Redis servers, Sentinels and a network that exist only in a test. The code of the gateway runs unchanged: it asks its
//! connections, and they bring each request to a [`Machine`](machine) instead of a socket.
//!
//! Time is tokio's, which stands still while a task can go on, and then jumps to the next that waits. One seed decides
//! everything: the order of messages, their delays, and every failure.
//!
//! What is assumed of the servers (docs/fleet.md says the same to operators):
//! - Connections are TCP: requests arrive in order, once, late, or never, and those under way may arrive after whoever sent
//!   them has given up or ended. They do not arrive at a server that was started meanwhile.
//! - Replication is asynchronous. A failover promotes any replica, however far behind. Every promotion and every start of a
//!   master begins a new history; a start brings back all data, those of an earlier moment, or none.
//! - No Sentinel goes back to a lower epoch, and each epoch has one master, elected by a majority.
//! - A slot of a cluster moves key by key. As long as it moves, its old master answers ASK to a claim if both keys are gone,
//!   and TRYAGAIN if one is. The new master takes it with all keys or without some, and then raises its own epoch without a
//!   vote, also if it was stopped and replaced meanwhile. A master forgets the keys of slots that it has lost.
//!   Whoever cancels a move deletes the slot's marker first.
//! - A server refuses what writes, in this order: a replica (READONLY), a master that has heard of no replica lately, if it
//!   needs one (NOREPLICAS), and one without memory (OOM, at the first write of a script). While it loads its data it
//!   refuses everything but INFO and TIME (LOADING).
//! - A master of a cluster that does not hear a majority of the masters for `cluster-node-timeout` takes no more commands,
//!   at most half of that time later, and at once after it was stopped. A replica is promoted after that time at the
//!   earliest.
//! - The clock of a server that is set ahead by more than `clock_margin` stays so until a gateway has looked at it.

mod agreement;
mod cluster;
mod failures;
mod machine;
mod network;
mod reshard;
mod scripts;
mod sentinels;
mod servers;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Arg, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use self::machine::bulk;
use self::network::State;
use super::script::Keys;
use super::settings::TlsFiles;
use super::watch::Watch;
use super::{Access, OnFailover, Redis, RedisSettings, SentinelSettings};
use crate::clock::Clock;
use crate::net::Authority;
use crate::replay::{Room, WhenNew, Window};

pub(crate) use self::failures::{FAILURES, FAILURES_OF_A_CLUSTER, Failure, Tally};
pub(crate) use self::network::wall;

/// How gateways find the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Alone,
    Sentinels,
    Cluster,
}

/// What protects a salt from passing twice. One of them can be turned off, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// The floor is raised after a loss.
    Fence,
    /// A claim is refused at or below the floor.
    Floor,
    /// A claim is refused if the history is not the attested one.
    History,
    /// A claim is refused if the failover is not the one that the gateway knows.
    Epoch,
    /// A claim is refused if the clocks differ.
    Clock,
    /// A floor is not raised by a gateway whose clock differs from the server's.
    ClockOfFence,
    /// A gateway does not take this error, by which a server refuses to run a claim, for a salt that was spent.
    Refusal(&'static str),
}

fn is_off(off: Option<Mechanism>, mechanism: Mechanism) -> bool {
    off == Some(mechanism)
}

/// The settings of all gateways of a fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetSettings {
    pub(crate) topology: Topology,
    pub(crate) window: Window,
    pub(crate) clock_margin: Duration,
    pub(crate) timeout: Duration,
    pub(crate) off: Option<Mechanism>,
    /// What goes wrong with servers.
    pub(crate) failures: &'static [Failure],
}

/// Whether a process is stopped, as by SIGSTOP.
#[derive(Clone, Default)]
pub(crate) struct Stopped(Arc<Mutex<Option<Instant>>>);

impl Stopped {
    pub(crate) fn until(&self, until: Instant) {
        *self.0.lock().unwrap() = Some(until);
    }

    /// Waits until it goes on.
    pub(crate) async fn goes_on(&self) {
        loop {
            let until = *self.0.lock().unwrap();
            match until {
                Some(until) if until > Instant::now() => sleep_until(until).await,
                _ => return,
            }
        }
    }
}

/// All servers, and the network between them and the gateways.
pub(crate) struct RedisWorld(Mutex<State>);

impl RedisWorld {
    pub(crate) fn new(settings: FleetSettings, gateways: usize, seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::new(settings, gateways, seed))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets the servers go on: replication, expiry, elections. Never ends.
    pub(crate) async fn live(self: Arc<Self>) {
        loop {
            sleep(Duration::from_millis(50)).await;
            self.state().tick();
        }
    }

    /// A store for a gateway, and its watcher, which never ends.
    pub(crate) fn store(
        self: &Arc<Self>,
        gateway: usize,
        clock: Clock,
        stopped: &Stopped,
    ) -> (Redis, impl Future<Output = ()> + Send + use<>) {
        let (settings, servers, sentinels, from) = {
            let state = self.state();
            (state.settings, state.servers(), state.sentinels(), state.gateway(gateway))
        };
        let is_with = |topology| settings.topology == topology;
        let nodes = sentinels.into_iter().map(|address| (address, Access::default())).collect();
        let fence = !is_off(settings.off, Mechanism::Fence);
        let redis = RedisSettings {
            servers: if is_with(Topology::Sentinels) { Vec::new() } else { servers },
            cluster: is_with(Topology::Cluster),
            sentinel: is_with(Topology::Sentinels).then(|| SentinelSettings { master: "m".into(), nodes }),
            access: Access::default(),
            ca: None,
            client_certificate: None,
            prefix: "s".into(),
            fleet_shares: false,
            timeout: settings.timeout,
            clock_margin: settings.clock_margin,
            room: Room { max_salts: usize::MAX, max_salts_per_key: usize::MAX },
            when_new: if fence { WhenNew::Fence } else { WhenNew::Accept },
            on_failover: if fence { OnFailover::Fence } else { OnFailover::DangerAccept },
            window: settings.window,
        };
        let link = Link { world: self.clone(), from, stopped: stopped.clone() };
        let slots = if redis.cluster { cluster::SLOTS } else { 0 };
        let tls = TlsFiles { link: Some(link), ..TlsFiles::default() };
        let shared = Redis::shared(clock, redis, Keys::with_slots("s", slots), tls).unwrap();
        let watch = Watch::new(shared.clone()).unwrap();
        let watching = async move {
            let (first, _looked) = std::sync::mpsc::channel();
            watch.run(&first).await;
        };
        (Redis { shared, watcher: None }, watching)
    }
}

/// A process of a gateway, as the network knows it.
#[derive(Clone)]
pub(super) struct Link {
    world: Arc<RedisWorld>,
    from: usize,
    stopped: Stopped,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link of {}", self.from)
    }
}

impl Link {
    fn misreads(&self, request: &[Vec<String>]) -> Misread {
        let off = self.world.state().settings.off;
        Misread(match (off, request) {
            (Some(Mechanism::Refusal(code)), [claim]) if claim.get(2).is_some_and(|keys| keys == "2") => {
                Some((code, bulk(format!("SPENT {} {}", claim[3], claim[11]))))
            }
            _ => None,
        })
    }

    pub(super) async fn connect(&self, address: &Authority) -> RedisResult<Connection> {
        self.stopped.goes_on().await;
        let to = usize::from(address.port()) - 1;
        if !self.world.carry(self.from, to).await {
            return std::future::pending().await;
        }
        let opened = self.world.state().opened(to);
        if !self.world.carry(to, self.from).await {
            return std::future::pending().await;
        }
        self.stopped.goes_on().await;
        let process = opened.ok_or_else(|| refused(std::io::ErrorKind::ConnectionRefused))?;
        Ok(Connection::Simulated(Wire { link: self.clone(), to, process, is_dead: Arc::default() }))
    }
}

/// The error that is taken for a claim's success, and that success, if there is to be one.
struct Misread(Option<(&'static str, Value)>);

impl Misread {
    fn read(&self, answer: Value) -> Value {
        match (&self.0, &answer) {
            (Some((code, spent)), Value::ServerError(error)) if error.code() == *code => spent.clone(),
            _ => answer,
        }
    }
}

fn refused(kind: std::io::ErrorKind) -> redis::RedisError {
    std::io::Error::from(kind).into()
}

/// A connection of a gateway: a real one, or one that is simulated.
#[derive(Clone)]
pub(super) enum Connection {
    Real(MultiplexedConnection),
    Simulated(Wire),
}

/// A simulated connection to one process of a server.
#[derive(Clone)]
pub(super) struct Wire {
    link: Link,
    to: usize,
    process: u64,
    /// Whether something that was sent is lost. Held while a request is on its way: requests arrive in order.
    is_dead: Arc<tokio::sync::Mutex<bool>>,
}

impl Wire {
    async fn ask(self, request: Vec<Vec<String>>) -> RedisResult<Vec<Value>> {
        let stopped = self.link.stopped.clone();
        stopped.goes_on().await;
        let (reply, answer) = oneshot::channel();
        let misread = self.link.misreads(&request);
        // What was sent arrives, even if nobody waits for the answer any more.
        tokio::spawn(self.bring(request, reply));
        let answer = answer.await;
        stopped.goes_on().await;
        match answer {
            Ok(answer) => answer.map(|answers| answers.into_iter().map(|answer| misread.read(answer)).collect()),
            Err(_) => std::future::pending().await,
        }
    }

    async fn bring(self, request: Vec<Vec<String>>, reply: oneshot::Sender<RedisResult<Vec<Value>>>) {
        let (world, from, to) = (&self.link.world, self.link.from, self.to);
        {
            let mut is_dead = self.is_dead.lock().await;
            if *is_dead || !world.carry(from, to).await {
                *is_dead = true;
                return;
            }
        }
        loop {
            let stopped = world.state().stopped_until(to);
            match stopped {
                Some(until) => sleep_until(until).await,
                None => break,
            }
        }
        let answer = world.state().answer(to, self.process, &request);
        if world.carry(to, from).await {
            let _ = reply.send(answer.ok_or_else(|| refused(std::io::ErrorKind::ConnectionReset)));
        }
    }
}

fn words(command: &Cmd) -> Vec<String> {
    let word = |arg: Arg<&[u8]>| match arg {
        Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    command.args_iter().map(word).collect()
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Real(real) => real.req_packed_command(command),
            Self::Simulated(wire) => {
                let asked = wire.clone().ask(vec![words(command)]);
                Box::pin(async move { asked.await?.pop().unwrap_or(Value::Nil).extract_error() })
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Real(real) => real.req_packed_commands(pipeline, offset, count),
            Self::Simulated(wire) => Box::pin(wire.clone().ask(pipeline.cmd_iter().map(words).collect())),
        }
    }

    fn get_db(&self) -> i64 {
        0
    }
}
