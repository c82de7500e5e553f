//! The cost of each gate, and of the whole stack with a service that answers at once.
//!
//! `up_to/…` is the path of an authorized deletion up to and including that gate, from its arrival on: the cost of
//! a gate is the difference to the line before. `up_to/nothing` is the cost of measuring, and `up_to/observe` adds
//! the arrival, the observation and its metrics. `whole/…` is the whole stack. `whole/accepted` uses a connection
//! to a service on loopback in the same process and thread, one request after the other, so it includes the waits
//! of both ends. The others end with the refusal that they are named after.
//!
//! `traced/accepted` is `whole/accepted` with traces, of which 1 % are sampled.
//!
//! There is no log here, and no HTTP in front; `bench/compare` has both. Making and signing a request is not
//! measured.

#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::io::{BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use saltgate::parts::Client;
use saltgate::parts::Config;
use saltgate::parts::Gateway;
use saltgate::parts::Process;
use saltgate::parts::RefusedAfterSpend;
use saltgate::parts::stack;
use saltgate::parts::{
    Admit, Arrival, Authenticate, Authorize, Directed, Gate, Inspect, Observation, Observed, Read, Received,
    RecordIntent, Rejection, Release, RouteGate, Routed, Safeguard, Spend,
};
use saltgate::parts::{Clock, rfc3339};
use saltgate::parts::{Dispatch, Observe, gates};
use saltgate::parts::{Secret, SigningKey, header_value};
use tokio::runtime::Runtime;
use tower::{Layer, Service};

const KEY: &str = "NCSTESTKEY000001";
const SECRET: &[u8] = b"THROWAWAYSECRET0123456789ABCDEFG";
/// More than the longest run of criterion spends.
const SALTS: u64 = 20_000_000;

type Body = Full<Bytes>;

/// Signs new requests.
struct Signer {
    key: SigningKey,
    salts: u64,
}

impl Signer {
    fn new() -> Self {
        Self { key: SigningKey::new(&Secret::new(SECRET).expect("long enough")), salts: 0 }
    }

    fn header(&mut self, api_key: &str, date: SystemTime) -> String {
        self.salts += 1;
        let (date, salt) = (rfc3339(date), format!("{:032x}", self.salts));
        header_value(api_key, &date, &salt, &self.key.sign(&date, &salt))
    }

    fn deletion(&mut self) -> Arrival<Body> {
        let header = self.header(KEY, Clock::system().now());
        arrival(&header)
    }
}

fn arrival(authorization: &str) -> Arrival<Body> {
    let request = Request::delete("/crm-core/v1/segments/CRMSG12345")
        .header("host", "crm.example")
        .header("authorization", authorization)
        .header("accept", "application/json")
        .body(Full::default())
        .expect("well formed");
    Arrival { request, client: Client::new(Some([127, 0, 0, 1].into()), false) }
}

/// From a Unix socket, because failed signatures are counted by address, and so many would be throttled.
fn from_nowhere(authorization: &str) -> Arrival<Body> {
    Arrival { client: Client::new(None, false), ..arrival(authorization) }
}

/// A service that answers every deletion at once.
async fn service(listener: tokio::net::TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}")))) });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

fn gateway(directory: &Path, upstream: std::net::SocketAddr, more: &str) -> Gateway {
    let secret = std::str::from_utf8(SECRET).expect("text");
    let keys = format!(
        "[[key]]\napi_key = \"{KEY}\"\nsecret = \"{secret}\"\naccount = \"a\"\nmember = \"m\"\nrole = \"OWNER\"\n"
    );
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[directory.file]\npath = \"keys.toml\"\n\
         [ownership.delegate]\n[upstream]\nservers = [\"http://{upstream}\"]\n[audit]\ndanger_no_record = true\n\
         [replay.memory]\nwhen_new = \"accept\"\nmax_salts = {SALTS}\nmax_salts_per_key = {SALTS}\n\
         [limits]\nspent_per_key = \"100000/second\"\n{more}"
    );
    let path = directory.join("saltgate.toml");
    std::fs::write(directory.join("keys.toml"), keys).expect("written");
    std::fs::write(&path, config).expect("written");
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults:?}"));
    Gateway::start(config, Clock::system()).expect("started")
}

/// Takes spans on a thread of its own, and returns its address.
fn collector() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while lines.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            drop(std::io::copy(&mut (&mut lines).take(length), &mut std::io::sink()));
            drop(lines.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    address
}

/// The end of a part of the path.
#[derive(Clone, Copy)]
struct End;

impl<T> Service<Observed<T>> for End {
    type Response = ();
    type Error = Rejection;
    type Future = Ready<Result<(), Rejection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Observed<T>) -> Self::Future {
        ready(Ok(()))
    }
}

/// No gates at all: the cost of measuring.
struct Nothing;

impl Service<Arrival<Body>> for Nothing {
    type Response = Box<Response<saltgate::parts::Body>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Arrival<Body>) -> Self::Future {
        ready(Ok(Box::new(Response::new(saltgate::parts::Body::Own(None)))))
    }
}

/// Checks that a request that should reach the end is not refused before.
#[derive(Clone)]
struct Passes<S>(S);

impl<S> Service<Observed<Received<Body>>> for Passes<S>
where
    S: Service<Observed<Received<Body>>, Response = (), Error = Rejection>,
    S::Future: Send + 'static,
{
    type Response = Box<Response<saltgate::parts::Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Observed<Received<Body>>) -> Self::Future {
        let passed = self.0.call(request);
        Box::pin(async move {
            assert!(passed.await.is_ok(), "a gate refused what it should let through");
            Ok(Box::new(Response::new(saltgate::parts::Body::Own(None))))
        })
    }
}

/// Deletions only.
struct Deletions;

impl Gate<Directed> for Deletions {
    type Out = Routed;
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "";

    async fn decide(&self, directed: Directed, _: &mut Observation) -> Result<Routed, RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => Ok(routed),
            Directed::DryRun(_) => Err(RefusedAfterSpend::RouteNotFound),
        }
    }
}

fn measure<S>(
    c: &mut Criterion,
    name: &str,
    runtime: &Runtime,
    mut way: S,
    status: u16,
    mut next: impl FnMut() -> Arrival<Body>,
) where
    S: Service<Arrival<Body>, Response = Box<Response<saltgate::parts::Body>>, Error = Infallible>,
{
    c.bench_function(name, |b| {
        b.iter_batched(
            &mut next,
            |arrival| {
                // Read to its end: the next request cannot use a connection with an unread answer.
                let (status_came, body) = runtime.block_on(async {
                    let Ok(answer) = way.call(arrival).await;
                    (answer.status(), answer.into_body().collect().await)
                });
                assert!(status_came == status && body.is_ok(), "{name}");
            },
            BatchSize::SmallInput,
        );
    });
}

fn up_to(c: &mut Criterion, runtime: &Runtime, gateway: &Gateway) {
    let Process { clock, salts, repeats, record, freeze, budget_usage, slots, late_bodies, failed_signatures, .. } =
        &**gateway.process();
    let mut signer = Signer::new();
    macro_rules! up_to {
        ($name:literal, $way:expr) => {{
            let way = || Observe.layer(Passes($way));
            let ways = Dispatch::new(gateway.current().clone(), 0, way(), way(), way());
            measure(c, concat!("up_to/", $name), runtime, ways, 200, || signer.deletion());
        }};
    }
    let authenticate = || Inspect::new().then(Authenticate::new(clock, salts, failed_signatures));
    let admit = || Admit::new(slots, salts, repeats, record, late_bodies, freeze);
    let before = || authenticate().then(admit()).then(Read::new(clock));
    let spend = || Spend::new(clock, salts, repeats, gateway.current());
    let authorize = || spend().then(RouteGate).then(Deletions).then(Authorize);
    let safeguard = || authorize().then(Safeguard::new(freeze, budget_usage, clock));
    let record = || safeguard().then(RecordIntent::new(record, budget_usage, clock));
    measure(c, "up_to/nothing", runtime, Nothing, 200, || signer.deletion());
    up_to!("observe", End);
    up_to!("inspect", gates(Inspect::new()).layer(End));
    up_to!("authenticate", gates(authenticate()).layer(End));
    up_to!("admit", gates(authenticate().then(admit())).layer(End));
    up_to!("read", gates(before()).layer(End));
    up_to!("spend", gates(before()).layer(gates(spend()).layer(End)));
    up_to!("route", gates(before()).layer(gates(spend().then(RouteGate)).layer(End)));
    up_to!("authorize", gates(before()).layer(gates(authorize()).layer(End)));
    up_to!("safeguard", gates(before()).layer(gates(safeguard()).layer(End)));
    up_to!("record", gates(before()).layer(gates(record()).layer(End)));
    up_to!("release", gates(before()).layer(gates(record().then(Release::new(freeze))).layer(End)));
}

fn whole(c: &mut Criterion, runtime: &Runtime, gateway: &Gateway) {
    let way = || stack::<Body>(gateway.process(), gateway.current(), 0);
    // Salts that the other group does not spend.
    let mut signer = Signer { salts: SALTS, ..Signer::new() };
    let spent = signer.header(KEY, Clock::system().now());
    let Ok(first) = runtime.block_on(way().call(arrival(&spent)));
    assert_eq!(first.status(), 200);
    measure(c, "whole/accepted", runtime, way(), 200, || signer.deletion());
    measure(c, "whole/replay", runtime, way(), 401, || arrival(&spent));
    measure(c, "whole/bad_signature", runtime, way(), 401, || {
        let header = signer.header(KEY, Clock::system().now());
        let wrong = if header.ends_with('0') { "1" } else { "0" };
        from_nowhere(&format!("{}{wrong}", &header[..header.len() - 1]))
    });
    measure(c, "whole/unknown_key", runtime, way(), 401, || {
        from_nowhere(&signer.header("NCSNOSUCHKEY0001", Clock::system().now()))
    });
    measure(c, "whole/stale_date", runtime, way(), 401, || {
        from_nowhere(&signer.header(KEY, Clock::system().now() - Duration::from_secs(3600)))
    });
}

/// The whole stack with traces. Parts of it cannot be measured: a request that ends without a verdict counts as failed, and is
/// exported whatever the ratio is.
fn traced(c: &mut Criterion, runtime: &Runtime, gateway: &Gateway) {
    let mut signer = Signer::new();
    let whole = stack::<Body>(gateway.process(), gateway.current(), 0);
    measure(c, "traced/accepted", runtime, whole, 200, || signer.deletion());
}

fn all(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let upstream = listener.local_addr().expect("bound");
    let untraced = gateway(directory.path(), upstream, "");
    let trace = format!("[trace]\nendpoint = \"http://{}\"\nratio = 0.01\n", collector());
    let with_traces = gateway(directory.path(), upstream, &trace);
    runtime.spawn(service(listener));
    up_to(c, &runtime, &untraced);
    whole(c, &runtime, &untraced);
    traced(c, &runtime, &with_traces);
    untraced.drain();
    with_traces.drain();
}

criterion_group! {
    name = benches;
    // Short, because most of them spend salts, which stay in memory.
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = all
}
criterion_main!(benches);
