//! Server, gateway, client: all real, on free ports, stopped with the test.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use saltgate::clock::{self, Clock};
use saltgate::config::Config;
use saltgate::credential::{Secret, SigningKey, header_value};
use saltgate::serve::Gateway;

pub const SEGMENT: &str = "CRMSG1260423081530123SGM11122233";
pub const ROLES: [&str; 5] = ["OWNER", "DEVELOPER", "MEMBER", "", "ADMIN"];
/// How long anything is waited for before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn secret(role: &str) -> String {
    format!("the secret of the role {role:-<12}")
}

pub fn api_key(role: &str) -> String {
    format!("NCS{}", if role.is_empty() { "NONE" } else { role })
}

/// The value of a header by the key of this role.
pub fn signed_at(role: &str, at: SystemTime, salt: &str) -> String {
    let date = clock::rfc3339(at);
    let signature = SigningKey::new(&Secret::new(secret(role).as_bytes()).unwrap()).sign(&date, salt);
    header_value(&api_key(role), &date, salt, &signature)
}

pub fn salt() -> String {
    format!("{:016x}{:016x}", getrandom::u64().unwrap(), getrandom::u64().unwrap())
}

/// A header that is good now.
pub fn signed(role: &str) -> String {
    signed_at(role, Clock::system().now(), &salt())
}

/// What the upstream of a test does with a request it has read: bytes to answer, or `None` to
/// reset the connection.
pub type Play = Arc<dyn Fn(&Seen, &mut TcpStream) + Send + Sync>;

/// A request as an upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: String,
    pub body: String,
}

/// An upstream that counts.
pub struct Upstream {
    pub address: SocketAddr,
    pub deletes: Arc<AtomicUsize>,
    pub gets: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    pub last: Arc<std::sync::Mutex<Vec<Seen>>>,
}

pub fn answer(stream: &mut TcpStream, status: &str, extra: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{extra}\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes());
}

/// The ordinary service: one segment, created by `creator` in `account`.
pub fn service(account: &'static str, creator: &'static str) -> Play {
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

/// The ordinary service, but for what it does with a DELETE.
pub fn but_delete(play: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Play {
    let ordinary = service("account-1", "member-1");
    Arc::new(move |seen, stream| if seen.method == "DELETE" { play(stream) } else { ordinary(seen, stream) })
}

impl Upstream {
    pub fn start(play: Play) -> Self {
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
                let (play, deletes, gets, last) = (play.clone(), deletes.clone(), gets.clone(), last.clone());
                std::thread::spawn(move || {
                    while let Some(seen) = read_request(&mut stream) {
                        match seen.method.as_str() {
                            "DELETE" => deletes.fetch_add(1, Ordering::SeqCst),
                            _ => gets.fetch_add(1, Ordering::SeqCst),
                        };
                        last.lock().unwrap().push(seen.clone());
                        play(&seen, &mut stream);
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

fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).ok()?;
    let mut line = head.lines().next()?.split(' ');
    let (method, target) = (line.next()?.to_owned(), line.next()?.to_owned());
    let length =
        head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { method, target, head, body: String::from_utf8(body).ok()? })
}

/// The files of a gateway, and where they are.
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
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n[directory.file]\npath = \"keys.toml\"\n[upstream]\nservers = [\"http://{upstream}\"]\nresponse_timeout = \"700ms\"\nconnect_timeout = \"700ms\"\n"
        );
        if !more.contains("[replay") {
            config += "[replay.memory]\nwhen_new = \"accept\"\n";
        }
        if !more.contains("[audit") {
            config += "[audit]\npath = \"record\"\n";
        }
        if !more.contains("[ownership") {
            config += "[ownership.upstream]\naccount = \"/accountId\"\ncreator = \"/ownerId\"\n";
        }
        std::fs::write(self.path(), config + more).unwrap();
    }

    /// Has these listeners instead of the one there is.
    pub fn listen(&self, listeners: &str) {
        let text = std::fs::read_to_string(self.path()).unwrap();
        let at = text.find("[admin]").unwrap();
        std::fs::write(self.path(), format!("{listeners}\n{}", &text[at..])).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("saltgate.toml")
    }

    /// The record, as far as it is written.
    pub fn record_text(&self) -> String {
        let files = std::fs::read_dir(self.dir.path().join("record")).unwrap();
        files.map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).into_owned()).collect()
    }

    /// Every line of the record.
    pub fn record(&self) -> Vec<serde_json::Value> {
        record_in(&self.dir.path().join("record"))
    }
}

fn record_in(directory: &Path) -> Vec<serde_json::Value> {
    let files = std::fs::read_dir(directory).unwrap();
    let text: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

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

    pub fn from_files(files: Files, clock: Clock) -> Self {
        let config = Config::load(&files.path()).unwrap();
        let gateway = Gateway::start(config, clock).unwrap();
        Self { files, gateway: Some(gateway) }
    }

    /// By these files, however they were changed.
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

    /// Takes the configuration as it is now.
    pub fn reload(&mut self) -> Result<Vec<String>, String> {
        let config = Config::load(&self.files.path());
        let taken = self.gateway().reload(config);
        taken.map_err(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect())
    }

    pub fn drain(&mut self) -> bool {
        self.gateway.take().unwrap().drain()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.drain();
        }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["errorCode"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn delete(gate: SocketAddr, authorization: &str) -> Answer {
    let path = format!("/crm-core/v1/segments/{SEGMENT}");
    exchange(
        gate,
        &format!("DELETE {path} HTTP/1.1\r\nHost: gate\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"),
    )
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n"))
}

/// Sends these bytes on a connection of their own and reads until it closes.
pub fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(request.as_bytes());
    read_answer(&mut stream)
}

/// A connection that is kept, and made anew if it was closed.
pub struct Kept {
    address: SocketAddr,
    stream: Option<std::io::BufReader<TcpStream>>,
}

impl Kept {
    pub fn to(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    pub fn send(&mut self, authorization: &str) {
        let stream = self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            std::io::BufReader::new(stream)
        });
        let request = format!(
            "DELETE /crm-core/v1/segments/{SEGMENT} HTTP/1.1\r\nHost: gate\r\nAuthorization: {authorization}\r\n\r\n"
        );
        stream.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// The status of the answer to what was sent.
    pub fn status(&mut self) -> u16 {
        let stream = self.stream.as_mut().unwrap();
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).unwrap() > 0, "closed without an answer");
            if line == "\r\n" {
                break;
            }
            let line = line.to_lowercase();
            if let Some(n) = line.strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap();
            }
            head.push(line);
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        if head.iter().any(|line| line.trim() == "connection: close") {
            self.stream = None;
        }
        head[0].split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Whether there is a connection that nobody has announced the end of.
    pub fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    pub fn delete(&mut self, authorization: &str) -> u16 {
        self.send(authorization);
        self.status()
    }
}

pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let clock = Clock::system();
    let started = clock.elapsed();
    while !is_so() {
        assert!(clock.elapsed() - started < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(2));
    }
}
