//! What each gate costs by itself, and the whole stack in front of an upstream on loopback; no listener, no log.
//!
//! Budget: observing (a request id, the metrics, the observation) at most 1 µs a request.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used, reason = "what fails here ends the benchmark")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use humantime::format_rfc3339_millis;
use saltgate::clock::Clock;
use saltgate::config::Config;
use saltgate::credential::{Secret, SigningKey, header_value};
use saltgate::gate::{
    Admit, Answered, Arrival, Authenticate, Authorize, Client, Directed, Entering, Gate, Generation, Inspect,
    Body, Concluded, Fresh, Observation, Observe, Observed, Process, Read, Received, Record, Release, RouteGate, Routed, Safeguard, Send, Spend,
};
use saltgate::refusal::{Refusal, RefusedAfterSpend};
use saltgate::serve::parts;
use saltgate::stack::stack;
use tokio::runtime::Runtime;
use tower::{Layer, Service};

type Sent = Empty<Bytes>;

const API_KEY: &str = "NCSTESTKEY000001";
const SECRET: &str = "THROWAWAYSECRET0123456789ABCDEFG";
/// So many requests are made before they are timed: fewer than may be under way of one key.
const BATCH: u64 = 32;

/// Everything there is before the first request.
struct Setting {
    process: Arc<Process>,
    generation: Arc<Generation>,
    key: SigningKey,
    clock: Clock,
    runtime: Runtime,
    salts: AtomicU64,
    _files: tempfile::TempDir,
}

/// What is wrong with a request.
#[derive(Clone, Copy)]
enum Wrong {
    Nothing,
    Signature,
    Key,
    Date,
}

impl Setting {
    fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        let keys = files.path().join("keys.toml");
        let config = files.path().join("saltgate.toml");
        let row = format!(
            "[[key]]\napi_key = \"{API_KEY}\"\nsecret = \"{SECRET}\"\naccount = \"a\"\nmember = \"m\"\nrole = \"OWNER\"\n"
        );
        std::fs::write(&keys, row).unwrap();
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[replay.memory]\nwhen_new = \"accept\"\nmax_salts = 4_000_000\n\
             max_salts_per_key = 4_000_000\n[directory.file]\npath = \"{}\"\n[ownership.delegate]\n[upstream]\n\
             servers = [\"http://{}\"]\n[audit]\ndanger_no_record = true\n[limits]\n\
             failed_signatures_per_client = \"100000000/second\"\n",
            keys.display(),
            upstream(),
        );
        std::fs::write(&config, text).unwrap();
        let clock = Clock::system();
        let (process, generation) = parts(Config::load(&config).unwrap(), clock.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let key = SigningKey::new(&Secret::new(SECRET.as_bytes()).unwrap());
        Self { process, generation, key, clock, runtime, salts: AtomicU64::new(0), _files: files }
    }

    fn request(&self, wrong: Wrong) -> Arrival<Sent> {
        let n = self.salts.fetch_add(1, Ordering::Relaxed);
        let ago = if matches!(wrong, Wrong::Date) { Duration::from_secs(1200) } else { Duration::ZERO };
        let date = format_rfc3339_millis(self.clock.now() - ago).to_string();
        let salt = format!("{n:032x}");
        let mut signature = self.key.sign(&date, &salt);
        if matches!(wrong, Wrong::Signature) {
            let other = if signature.ends_with('0') { "1" } else { "0" };
            signature.replace_range(63.., other);
        }
        let api_key = if matches!(wrong, Wrong::Key) { "NCSNOBODYHASTHIS" } else { API_KEY };
        let request = Request::delete(format!("/crm-core/v1/segments/sg-{n:012x}"))
            .header("host", "gate")
            .header("authorization", header_value(api_key, &date, &salt, &signature))
            .body(Empty::new())
            .unwrap();
        Arrival { request, client: Client::new(Some(Ipv4Addr::LOCALHOST.into()), false) }
    }

    /// One that was answered before.
    fn replay(&self) -> Arrival<Sent> {
        let Arrival { request, client } = self.request(Wrong::Nothing);
        let again = Arrival { request: request.clone(), client };
        let current = Arc::new(ArcSwap::new(self.generation.clone()));
        self.runtime.block_on(async {
            let Ok(answer) = stack::<Sent>(&self.process, &current, 0).call(Arrival { request, client }).await;
            ended(answer, 200).await;
        });
        again
    }

    fn entering(&self, arrival: Arrival<Sent>) -> Entering<Sent> {
        Entering::new(arrival, self.generation.clone())
    }

    /// A request as the outermost layer hands it down.
    fn received(&self) -> Observed<Received<Sent>> {
        let caught = Catch::default();
        let observing = Observe::new(self.process.clone(), 0).layer(caught.clone());
        drop((&observing).call(self.entering(self.request(Wrong::Nothing))));
        caught.0.lock().unwrap().take().unwrap()
    }
}

/// Keeps what it is called with.
#[derive(Clone, Default)]
struct Catch(Arc<Mutex<Option<Observed<Received<Sent>>>>>);

impl Service<Observed<Received<Sent>>> for Catch {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, observed: Observed<Received<Sent>>) -> Self::Future {
        *self.0.lock().unwrap() = Some(observed);
        ready(Ok(Response::new(())))
    }
}

/// Answers at once; what it was called with is dropped, as at the end of any request.
#[derive(Clone)]
struct AtOnce;

impl<T> Service<T> for AtOnce {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: T) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(())))
    }
}

/// Whether it is answered when it is first asked.
fn at_once<E>(answer: impl Future<Output = Result<Response<()>, E>>) -> bool {
    let polled = std::pin::pin!(answer).as_mut().poll(&mut Context::from_waker(Waker::noop()));
    matches!(black_box(polled), Poll::Ready(Ok(_)))
}

/// A keep-alive HTTP/1.1 server on loopback, one thread for each connection, that ends with this process.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

fn serve(mut connection: std::net::TcpStream) -> Option<()> {
    connection.set_nodelay(true).ok()?;
    let (mut received, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let length = connection.read(&mut part).ok().filter(|&length| length > 0)?;
        received.extend_from_slice(&part[..length]);
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            connection.write_all(answer).ok()?;
        }
    }
}

/// What a gate hands down, or the end of the benchmark.
async fn through<In, G: Gate<In>>(gate: &G, request: In, seen: &mut Observation) -> G::Out {
    match gate.decide(request, seen).await {
        Ok(proven) => proven,
        Err(refused) => panic!("a good request was refused: {}", refused.reason().as_str()),
    }
}

/// Times `gate` alone on requests that `before` brought as far; what becomes of them is not timed.
#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn alone<In, G, F>(
    c: &mut Criterion,
    name: &str,
    setting: &Setting,
    gate: &G,
    mut before: impl FnMut(Observed<Received<Sent>>) -> F,
    mut after: impl AsyncFnMut(G::Out),
) where
    G: Gate<In>,
    F: Future<Output = (In, Box<Observation>)>,
{
    c.bench_function(&format!("gate/{name}"), |b| {
        b.iter_custom(|iterations| {
            setting.runtime.block_on(async {
                let (mut took, mut left) = (Duration::ZERO, iterations);
                while left > 0 {
                    let some = left.min(BATCH);
                    let mut ready = Vec::new();
                    for _ in 0..some {
                        ready.push(before(setting.received()).await);
                    }
                    let mut ended = Vec::with_capacity(ready.len());
                    let begun = Instant::now();
                    for (request, mut seen) in ready {
                        let proven = through(gate, request, &mut seen).await;
                        ended.push((proven, seen));
                    }
                    took += begun.elapsed();
                    for (proven, seen) in ended {
                        after(proven).await;
                        drop(seen);
                    }
                    left -= some;
                }
                took
            })
        });
    });
}

/// The gate of routes, where nothing but deletions comes by.
struct Deletions;

impl Gate<Fresh> for Deletions {
    type Out = Routed;
    type Refusal = RefusedAfterSpend;

    async fn decide(&self, fresh: Fresh, seen: &mut Observation) -> Result<Routed, RefusedAfterSpend> {
        match RouteGate.decide(fresh, seen).await? {
            Directed::Deletion(routed) => Ok(routed),
            Directed::Rehearsal(_) => panic!("a deletion became a rehearsal"),
        }
    }
}

/// The way to the gate in question, one gate after the other.
macro_rules! way {
    ($($gate:expr),*) => {
        async |Observed { request, observation }: Observed<Received<Sent>>| {
            #[allow(unused_mut, reason = "the first gate has none before it")]
            let mut observation = observation;
            $(let request = through($gate, request, &mut observation).await;)*
            (request, observation)
        }
    };
}

fn gates(c: &mut Criterion) {
    let s = &Setting::new();
    let process = || s.process.clone();
    let (inspect, authenticate, admit) = (&Inspect::new(), &Authenticate::new(process()), &Admit::new(process()));
    let (read, spend, route, authorize) = (&Read, &Spend::new(process()), &Deletions, &Authorize);
    let (safeguard, record) = (&Safeguard::new(process()), &Record::new(process()));
    let (release, send) = (&Release::new(process()), &Send);
    alone(c, "inspect", s, inspect, way!(), async |_| ());
    alone(c, "authenticate", s, authenticate, way!(inspect), async |_| ());
    alone(c, "admit", s, admit, way!(inspect, authenticate), async |_| ());
    alone(c, "read", s, read, way!(inspect, authenticate, admit), async |_| ());
    alone(c, "spend", s, spend, way!(inspect, authenticate, admit, read), async |_| ());
    alone(c, "route", s, route, way!(inspect, authenticate, admit, read, spend), async |_| ());
    alone(c, "authorize", s, authorize, way!(inspect, authenticate, admit, read, spend, route), async |_| ());
    let routed = way!(inspect, authenticate, admit, read, spend, route, authorize);
    alone(c, "safeguard", s, safeguard, routed, async |_| ());
    let cleared = way!(inspect, authenticate, admit, read, spend, route, authorize, safeguard);
    alone(c, "record", s, record, cleared, async |_| ());
    let recorded = way!(inspect, authenticate, admit, read, spend, route, authorize, safeguard, record);
    alone(c, "release", s, release, recorded, async |_| ());
    // The upstream's turn is in it: two switches of threads.
    let released = way!(inspect, authenticate, admit, read, spend, route, authorize, safeguard, record, release);
    alone(c, "send", s, send, released, async |concluded: Concluded| ended(concluded.into_response(), 200).await);
}

/// Takes an answer to its end, so that its connection can be used again.
async fn ended(answer: Response<Body>, status: u16) {
    assert_eq!(answer.status(), status);
    assert!(answer.into_body().collect().await.is_ok(), "the body breaks off");
}

/// The stack of one worker: a request as hyper hands it over, until its answer is read.
#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn whole(c: &mut Criterion) {
    let s = &Setting::new();
    let current = Arc::new(ArcSwap::new(s.generation.clone()));
    let stack = stack::<Sent>(&s.process, &current, 0);
    let mut timed = |name: &str, status: u16, mut make: Box<dyn FnMut() -> Arrival<Sent> + '_>| {
        c.bench_function(&format!("stack/{name}"), |b| {
            b.iter_custom(|iterations| {
                let (mut took, mut left) = (Duration::ZERO, iterations);
                while left > 0 {
                    let some = left.min(BATCH);
                    let arrivals: Vec<_> = (0..some).map(|_| make()).collect();
                    took += s.runtime.block_on(async {
                        let begun = Instant::now();
                        for arrival in arrivals {
                            let Ok(answer) = stack.clone().call(arrival).await;
                            ended(answer, status).await;
                        }
                        begun.elapsed()
                    });
                    left -= some;
                }
                took
            });
        });
    };
    timed("accepted", 200, Box::new(|| s.request(Wrong::Nothing)));
    timed("bad signature", 401, Box::new(|| s.request(Wrong::Signature)));
    timed("unknown key", 401, Box::new(|| s.request(Wrong::Key)));
    timed("stale date", 401, Box::new(|| s.request(Wrong::Date)));
    timed("replay", 401, Box::new(|| s.replay()));
}

/// What `Observe` costs with metrics alone, nobody reading the log: with it, less without it.
#[allow(clippy::disallowed_methods, reason = "a stopwatch")]
fn observing(c: &mut Criterion) {
    let s = &Setting::new();
    let observing = Observe::new(s.process.clone(), 0).layer(AtOnce);
    let mut timed = |name: &str, one: &dyn Fn(Entering<Sent>) -> bool| {
        c.bench_function(&format!("observe/{name}"), |b| {
            b.iter_batched(|| s.entering(s.request(Wrong::Nothing)), |entering| assert!(one(entering)), BatchSize::SmallInput);
        });
    };
    timed("with", &|entering| at_once((&observing).call(entering)));
    timed("without", &|entering| at_once(AtOnce.call(entering)));
}

criterion_group!(benches, gates, whole, observing);
criterion_main!(benches);
