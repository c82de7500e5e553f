//! The harness: real services, gateways and clients on free ports, stopped with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use saltgate::parts::Config;
use saltgate::parts::{Clock, rfc3339};
use saltgate::parts::{Drained, Gateway};
use saltgate::parts::{Secret, SigningKey, header_value};

use crate::http::{Answer, Received, delete, get};

pub const SEGMENT: &str = "CRMSG1260423081530123SGM11122233";
pub const ROLES: [&str; 5] = ["OWNER", "DEVELOPER", "MEMBER", "", "ADMIN"];
/// A route that forwards query and body, which distinguish requests.
pub const KEEPS: &str = "[[route]]\npath = \"/crm-core/v1/segments/{segmentId}\"\nkeep = [\"query\", \"body\"]\n";
/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn secret(role: &str) -> String {
    format!("the secret of the role {role:-<12}")
}

pub fn api_key(role: &str) -> String {
    format!("NCS{}", if role.is_empty() { "NONE" } else { role })
}

/// A header value signed with the key of this role.
pub fn signed_at(role: &str, at: SystemTime, salt: &str) -> String {
    let date = rfc3339(at);
    let signature = SigningKey::new(&Secret::new(secret(role).as_bytes()).unwrap()).sign(&date, salt);
    header_value(&api_key(role), &date, salt, &signature)
}

pub fn salt() -> String {
    format!("{:016x}{:016x}", getrandom::u64().unwrap(), getrandom::u64().unwrap())
}

/// A header that is valid now.
pub fn signed(role: &str) -> String {
    signed_at(role, Clock::system().now(), &salt())
}

/// What the service of a test does with a request that it has read.
pub type Behaviour = Arc<dyn Fn(&Received, &mut TcpStream) + Send + Sync>;

/// A service that counts what it receives.
pub struct Upstream {
    pub address: SocketAddr,
    pub deletes: Arc<AtomicUsize>,
    pub gets: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    pub last: Arc<Mutex<Vec<Received>>>,
}

pub fn answer(stream: &mut TcpStream, status: &str, extra: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{extra}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes());
}

/// The usual service: one segment, created by `creator` in `account`.
pub fn service(account: &'static str, creator: &'static str) -> Behaviour {
    Arc::new(move |seen, stream| match seen.method.as_str() {
        "GET" if seen.target.ends_with(SEGMENT) => {
            let body = format!(r#"{{"segmentId":"{SEGMENT}","accountId":"{account}","ownerId":"{creator}"}}"#);
            answer(stream, "200 OK", "ETag: \"v1\"\r\n", &body);
        }
        "DELETE" => answer(
            stream,
            "200 OK",
            "X-Saltgate-Forged: 1\r\nX-Request-Id: theirs\r\nX-Kept: yes\r\n",
            r#"{"deleted":true}"#,
        ),
        _ => answer(stream, "404 Not Found", "", "{}"),
    })
}

/// The usual service, except for what it does with a DELETE.
pub fn but_delete(play: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Behaviour {
    let ordinary = service("account-1", "member-1");
    Arc::new(move |seen, stream| if seen.method == "DELETE" { play(stream) } else { ordinary(seen, stream) })
}

impl Upstream {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            deletes: Arc::default(),
            gets: Arc::default(),
            connections: Arc::default(),
            last: Arc::default(),
        };
        let (deletes, gets, connections) =
            (upstream.deletes.clone(), upstream.gets.clone(), upstream.connections.clone());
        let last = upstream.last.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                connections.fetch_add(1, Ordering::SeqCst);
                let (behaviour, deletes, gets, last) = (behaviour.clone(), deletes.clone(), gets.clone(), last.clone());
                std::thread::spawn(move || {
                    while let Some(seen) = Received::read(&mut stream) {
                        match seen.method.as_str() {
                            "DELETE" => deletes.fetch_add(1, Ordering::SeqCst),
                            _ => gets.fetch_add(1, Ordering::SeqCst),
                        };
                        last.lock().unwrap().push(seen.clone());
                        behaviour(&seen, &mut stream);
                    }
                });
            }
        });
        upstream
    }

    pub fn deletes(&self) -> usize {
        self.deletes.load(Ordering::SeqCst)
    }

    pub fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }
}

/// The files of a gateway.
pub struct Files {
    pub dir: tempfile::TempDir,
}

impl Files {
    pub fn new(upstream: SocketAddr, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = String::new();
        for role in ROLES {
            let line = if role.is_empty() { String::new() } else { format!("role = \"{role}\"\n") };
            keys += &format!(
                "[[key]]\napi_key = \"{}\"\nsecret = \"{}\"\naccount = \"account-1\"\nmember = \"member-1\"\n{line}",
                api_key(role),
                secret(role)
            );
        }
        std::fs::write(dir.path().join("keys.toml"), keys).unwrap();
        let files = Self { dir };
        files.configure(upstream, more);
        files
    }

    pub fn configure(&self, upstream: SocketAddr, more: &str) {
        let mut config = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[directory.file]\npath = \"keys.toml\"\n[upstream]\nservers = [\"http://{upstream}\"]\nresponse_timeout = \"{PATIENT}\"\nconnect_timeout = \"{PATIENT}\"\n"
        );
        if !more.contains("[replay") {
            config += "[replay.memory]\nwhen_new = \"accept\"\n";
        }
        if !more.contains("[audit") {
            config += "[audit]\npath = \"record\"\n";
        }
        // A test sends faster than any real caller.
        const UNHURRIED: &str = "[limits]\nspent_per_key = \"100000/second\"\n";
        let mut more = more.to_owned();
        if !more.contains("[limits]\n") {
            config += UNHURRIED;
        } else if !more.contains("spent_per_key") {
            more = more.replacen("[limits]\n", UNHURRIED, 1);
        }
        // The same tests, on rings: CONTRIBUTING.md.
        if let Ok(io) = std::env::var("SALTGATE_TEST_IO")
            && !more.contains("\"shared\"")
        {
            let setting = format!("[runtime]\nio = \"{io}\"\n");
            if more.contains("[runtime]\n") {
                more = more.replacen("[runtime]\n", &setting, 1);
            } else {
                config += &setting;
            }
        }
        if !more.contains("[ownership") {
            config += "[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"\n";
        }
        std::fs::write(self.path(), config + &more).unwrap();
    }

    /// Gives the service little time, for tests of one that does not answer.
    #[must_use]
    pub fn hasty(self) -> Self {
        let config = std::fs::read_to_string(self.path()).unwrap();
        let hasty = config.replace(&format!("_timeout = \"{PATIENT}\""), "_timeout = \"2s\"");
        assert_ne!(config, hasty);
        std::fs::write(self.path(), hasty).unwrap();
        self
    }

    /// Replaces the listener by these.
    pub fn listen(&self, listeners: &str) {
        let text = std::fs::read_to_string(self.path()).unwrap();
        let at = text.find("[admin]").unwrap();
        std::fs::write(self.path(), format!("{listeners}\n{}", &text[at..])).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("saltgate.toml")
    }

    /// The record as far as it is written.
    pub fn record_text(&self) -> String {
        let files = self.record_files().into_iter();
        files.map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()).collect()
    }

    /// The record's files of lines. Its directory also contains files of counts, and lists all files in any order.
    pub fn record_files(&self) -> Vec<PathBuf> {
        lines_in(&self.dir.path().join("record"))
    }

    /// Every line of the record.
    pub fn record(&self) -> Vec<serde_json::Value> {
        record_in(&self.dir.path().join("record"))
    }
}

/// A record's files of lines.
pub fn lines_in(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    files.sort();
    files
}

fn record_in(directory: &Path) -> Vec<serde_json::Value> {
    let text: String = lines_in(directory).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How long a service may take: longer than the busiest machine needs.
pub const PATIENT: &str = "20s";

/// A gateway in this process.
pub struct Gate {
    pub files: Files,
    gateway: Option<Gateway>,
}

impl Gate {
    pub fn before(upstream: &Upstream) -> Self {
        Self::with(upstream.address, "", Clock::system())
    }

    pub fn with(upstream: SocketAddr, more: &str, clock: Clock) -> Self {
        Self::from_files(Files::new(upstream, more), clock)
    }

    /// A gateway that gives its service little time.
    pub fn hasty(upstream: &Upstream, more: &str) -> Self {
        Self::from_files(Files::new(upstream.address, more).hasty(), Clock::system())
    }

    /// A gateway that gives its service much time.
    pub fn patient(upstream: &Upstream, more: &str) -> Self {
        Self::from_files(Files::new(upstream.address, more), Clock::system())
    }

    pub fn from_files(files: Files, clock: Clock) -> Self {
        let config = Config::load(&files.path()).unwrap();
        let gateway = Gateway::start(config, clock).unwrap();
        Self { files, gateway: Some(gateway) }
    }

    /// A gateway with these files, however they were changed.
    pub fn by(files: Files) -> Self {
        let config = Config::load(&files.path()).unwrap();
        let gateway = Gateway::start(config, Clock::system()).unwrap();
        Self { files, gateway: Some(gateway) }
    }

    pub fn gateway(&mut self) -> &mut Gateway {
        self.gateway.as_mut().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.as_ref().unwrap().address().unwrap()
    }

    pub fn admin(&self) -> SocketAddr {
        self.gateway.as_ref().unwrap().admin_address().unwrap()
    }

    pub fn delete(&self, authorization: &str) -> Answer {
        delete(self.address(), authorization)
    }

    pub fn metrics(&self) -> String {
        get(self.admin(), "/metrics").body
    }

    /// Loads the configuration as it is now; returns the settings that need a restart.
    pub fn reload(&mut self) -> Result<Vec<String>, String> {
        let config = Config::load(&self.files.path());
        let taken = self.gateway().reload(config);
        taken
            .map(|taken| taken.needs_restart)
            .map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect())
    }

    /// Returns whether all requests in progress ended by themselves.
    pub fn drain(&mut self) -> bool {
        self.gateway.take().unwrap().drain() == Drained::Whole
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.drain();
        }
    }
}

/// Holds the service at one point until the test opens it; from then on it stays open.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn open(&self) {
        let (open, changed) = &*self.0;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }

    /// Waits until it is open, or until the test's time is up.
    pub fn wait(&self) {
        let (open, changed) = &*self.0;
        drop(changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap());
    }
}

/// The usual service, but a DELETE is answered only once the latch is open.
pub fn deleting_after(latch: &Latch) -> Behaviour {
    let latch = latch.clone();
    but_delete(move |stream| {
        latch.wait();
        answer(stream, "200 OK", "", "{}");
    })
}

/// Does not answer until the gateway closes the connection.
pub fn never_answer(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}

/// Waits until a condition holds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = Clock::system();
    let started = clock.elapsed();
    while !is_so() {
        assert!(clock.elapsed() - started < PATIENCE, "timed out: {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(2));
    }
}
