//! Measures whether the time of a refusal reveals its reason (`make timing`), by dudect's method.
//!
//! Requests of all classes are answered by the whole stack, in process and in random order, each prepared before
//! its time is taken. Welch's t compares every two classes, over all samples and over those below several
//! percentiles of all times (slow samples depend on the machine more than on the request). The verdict is the
//! largest |t|.
//!
//! 1. Unknown key, wrong signature and inactive key must not differ: |t| < 4.5 for each pair. Anybody can send
//!    them, and a difference would reveal to strangers which keys exist.
//! 2. A valid signature with a spent salt passes more checks, so it takes longer, and its t is printed without a
//!    limit. Only a holder of the secret, or of a spent header, can send one. The time reveals that the header is
//!    valid and was used, which anybody who saw the header pass knows already.
//!
//! The address of a key in memory makes its requests faster or slower by a nanosecond or two, whatever is wrong with them,
//! and a million samples show this. So the samples come from several processes, in which the keys lie elsewhere, and a
//! difference counts only from [`LEAST`] on. An attacker's clock is at the other end of a network.
//!
//! `SAMPLES=100000 make timing` takes fewer samples.
#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::convert::Infallible;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use saltgate::parts::{
    Arrival, Body, Client, Clock, Config, Gateway, Secret, SigningKey, header_value, rfc3339, stack,
};
use tower::Service;

/// How many other keys the gateway has for each key that is used.
const OTHERS: usize = 8;
/// Differences of the means below this many nanoseconds do not count; the clock has steps of ten.
const LEAST: f64 = 3.0;
/// What dudect and the TVLA test take for a difference.
const LIMIT: f64 = 4.5;
/// Samples above these percentiles of all times are left out, one test for each. 100 leaves out none.
const PERCENTILES: [f64; 6] = [100.0, 99.0, 95.0, 90.0, 75.0, 50.0];
/// Processes that the samples are taken from, one after the other: each order of keys equally often.
const PROCESSES: usize = 40;
/// Set for the processes that take samples: how many of each class, and which class has the first key.
const TAKE: &str = "TIMING_TAKE";
const FIRST: &str = "TIMING_FIRST";
/// Requests that are prepared at once: their memory is warm alike.
const BATCH: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    UnknownKey,
    WrongSignature,
    InactiveKey,
    SpentSalt,
}

impl Class {
    const ALL: [Self; 4] = [Self::UnknownKey, Self::WrongSignature, Self::InactiveKey, Self::SpentSalt];

    fn name(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown key",
            Self::WrongSignature => "wrong signature",
            Self::InactiveKey => "inactive key",
            Self::SpentSalt => "spent salt",
        }
    }
}

/// The nth apiKey and its secret. All are of one length. The first ones are those of the classes: each class has its own, so
/// that none is used more often than another.
fn key(n: usize) -> (String, String) {
    (format!("NCSTESTKEY{n:06}"), format!("THROWAWAYSECRET{n:017}"))
}

/// Makes requests of each class. All headers have one length, and all but the spent one a date and a salt of their own.
struct Requests {
    /// By class.
    keys: [SigningKey; 4],
    spent: String,
    salts: u64,
}

impl Requests {
    fn new() -> Self {
        let secret = |class| Secret::new(key(class as usize).1.as_bytes()).expect("long enough");
        let keys = Class::ALL.map(|class| SigningKey::new(&secret(class)));
        let mut requests = Self { keys, spent: String::new(), salts: 0 };
        requests.spent = requests.header(Class::SpentSalt);
        requests
    }

    fn header(&mut self, class: Class) -> String {
        self.salts += 1;
        let (date, salt) = (rfc3339(Clock::system().now()), format!("{:032x}", self.salts));
        let mut signature = self.keys[class as usize].sign(&date, &salt);
        if class == Class::WrongSignature {
            // Which digit is wrong must make no difference either.
            let at = (self.salts % 64) as usize;
            let digit = if signature.as_bytes()[at] == b'0' { "1" } else { "0" };
            signature.replace_range(at..=at, digit);
        }
        header_value(&key(class as usize).0, &date, &salt, &signature)
    }

    fn of(&mut self, class: Class) -> Arrival<Full<Bytes>> {
        let header = if class == Class::SpentSalt { self.spent.clone() } else { self.header(class) };
        let request = Request::delete("/crm-core/v1/segments/CRMSG12345")
            .header("host", "crm.example")
            .header("authorization", header)
            .body(Full::default())
            .expect("well formed");
        // From a Unix socket: an address with so many failed signatures would be throttled.
        Arrival { request, client: Client::new(None, false) }
    }
}

/// A gateway that knows the keys of all classes but the unknown one, in whose place it has another.
fn gateway(directory: &Path, first: usize) -> Gateway {
    let entry = |n: usize| {
        let ((api_key, secret), active) = (key(n), n != Class::InactiveKey as usize);
        format!(
            "[[key]]\napi_key = \"{api_key}\"\nsecret = \"{secret}\"\naccount = \"a\"\nmember = \"m\"\nrole = \"OWNER\"\n\
             active = {active}\n"
        )
    };
    let classes = Class::ALL.len();
    let used = (0..classes).map(|n| (first + n) % classes);
    let keys = used.enumerate().flat_map(|(at, n)| {
        let known = if n == Class::UnknownKey as usize { classes } else { n };
        std::iter::once(known).chain((0..OTHERS).map(move |other| classes + 1 + at * OTHERS + other))
    });
    let keys: String = keys.map(entry).collect();
    let config = "[[listener]]\naddress = \"127.0.0.1:0\"\n[runtime]\nworkers = 1\n[directory.file]\npath = \"keys.toml\"\n\
                  [ownership.delegate]\n[upstream]\nservers = [\"http://127.0.0.1:9\"]\n[audit]\ndanger_no_record = true\n\
                  [replay.memory]\nwhen_new = \"accept\"\n";
    let path = directory.join("saltgate.toml");
    std::fs::write(directory.join("keys.toml"), keys).expect("written");
    std::fs::write(&path, config).expect("written");
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults:?}"));
    Gateway::start(config, Clock::system()).expect("started")
}

/// Nanoseconds to the answer, by class.
fn measure(samples: usize, first: usize) -> [Vec<f64>; 4] {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = gateway(directory.path(), first);
    let mut stack = stack::<Full<Bytes>>(gateway.process(), gateway.current(), 0);
    let mut requests = Requests::new();
    let mut answer = |arrival| answered(&runtime, &mut stack, arrival);
    let (_, answered) = answer(requests.of(Class::SpentSalt));
    assert_eq!(answered.status(), 502, "it was admitted, and there is no service");
    let mut times: [Vec<f64>; 4] = std::array::from_fn(|_| Vec::with_capacity(samples));
    let mut random = Random(0x5a17_9a7e);
    let until = clock_ahead();
    while times.iter().any(|times| times.len() < samples) {
        if Clock::system().now() > until {
            panic!("the spent header grew too old while samples were taken; take fewer");
        }
        let batch: Vec<Class> = (0..BATCH).map(|_| Class::ALL[random.below(4)]).collect();
        let arrivals: Vec<_> = batch.iter().map(|class| requests.of(*class)).collect();
        for (class, arrival) in batch.into_iter().zip(arrivals) {
            let (took, response) = answer(arrival);
            assert_eq!(response.status(), 401, "{}", class.name());
            let times = &mut times[class as usize];
            if times.len() < samples {
                times.push(took);
            }
        }
    }
    gateway.drain();
    times
}

/// The spent header stays in the window for a quarter of an hour.
fn clock_ahead() -> SystemTime {
    Clock::system().now() + std::time::Duration::from_secs(14 * 60)
}

#[allow(clippy::disallowed_methods, reason = "it measures real time; no test clock has a say in it")]
fn answered<S>(
    runtime: &tokio::runtime::Runtime,
    stack: &mut S,
    arrival: Arrival<Full<Bytes>>,
) -> (f64, Box<Response<Body>>)
where
    S: Service<Arrival<Full<Bytes>>, Response = Box<Response<Body>>, Error = Infallible>,
{
    runtime.block_on(async {
        let started = Instant::now();
        let Ok(response) = stack.call(arrival).await;
        (started.elapsed().as_nanos() as f64, response)
    })
}

/// Welch's t between two classes, over the samples at or below `limit`, and the difference of the means.
fn welch(a: &[f64], b: &[f64], limit: f64) -> (f64, f64) {
    let moments = |times: &[f64]| {
        let (mut n, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times.iter().filter(|time| **time <= limit) {
            n += 1.0;
            let delta = time - mean;
            mean += delta / n;
            squares += delta * (time - mean);
        }
        (n, mean, squares / (n - 1.0))
    };
    let ((n_a, mean_a, variance_a), (n_b, mean_b, variance_b)) = (moments(a), moments(b));
    let difference = mean_a - mean_b;
    ((difference / (variance_a / n_a + variance_b / n_b).sqrt()).abs(), difference.abs())
}

/// xorshift64, used only to shuffle the classes.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) % n) as usize
    }
}

/// The samples of several processes that run this program. A line is a class, and the nanoseconds of each of its samples.
fn measure_in_processes(samples: usize) -> std::io::Result<[Vec<f64>; 4]> {
    let mut times: [Vec<f64>; 4] = Default::default();
    for n in 0..PROCESSES {
        let take = samples * (n + 1) / PROCESSES - samples * n / PROCESSES;
        let first = n % Class::ALL.len();
        let mut process = Command::new(std::env::current_exe()?);
        process.env(TAKE, take.to_string()).env(FIRST, first.to_string());
        let output = process.stderr(Stdio::inherit()).output()?;
        assert!(output.status.success(), "a process that takes samples failed");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.lines().count(), times.len());
        for (line, times) in text.lines().zip(&mut times) {
            times.extend(line.split(' ').map(|time| time.parse::<f64>().expect("a number")));
        }
    }
    Ok(times)
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs every bench with this argument; a million samples would take too long then.
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<usize>().ok());
    if let (Some(samples), Some(first)) = (number(TAKE), number(FIRST)) {
        for times in measure(samples, first) {
            println!("{}", times.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        }
        return ExitCode::SUCCESS;
    }
    let samples = number("SAMPLES").unwrap_or(1_000_000);
    let times = match measure_in_processes(samples) {
        Ok(times) => times,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_unstable_by(f64::total_cmp);
    let limits = PERCENTILES.map(|p| all[((all.len() - 1) as f64 * p / 100.0) as usize]);
    println!("{samples} samples of each class");
    for class in Class::ALL {
        let mut sorted = times[class as usize].clone();
        sorted.sort_unstable_by(f64::total_cmp);
        println!("{:>16}: median {:.0} ns", class.name(), sorted[sorted.len() / 2]);
    }
    println!("|t| over the samples below each percentile:  {}", PERCENTILES.map(|p| format!("{p:>17}")).concat());
    let mut differs = false;
    for (n, one) in Class::ALL.into_iter().enumerate() {
        for other in &Class::ALL[n + 1..] {
            let found = limits.map(|limit| welch(&times[one as usize], &times[*other as usize], limit));
            let shown = found.map(|(t, nanoseconds)| format!("{t:>7.1} ({nanoseconds:>4.1} ns)")).concat();
            let judged = one != Class::SpentSalt && *other != Class::SpentSalt;
            let over = judged && found.iter().any(|(t, nanoseconds)| *t >= LIMIT && *nanoseconds >= LEAST);
            differs |= over;
            let verdict = if over {
                "DIFFERS"
            } else if judged {
                "alike"
            } else {
                "(not judged)"
            };
            println!("{:>16} / {:<24}  {shown}  {verdict}", one.name(), other.name());
        }
    }
    if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
