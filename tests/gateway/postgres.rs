//! Real PostgreSQL servers and PgBouncers on free ports, stopped with the test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::harness::until;
use crate::redis::free_port;

pub const PASSWORD: &str = "the-pass%word";
/// The same, in a URL.
const ENCODED: &str = "the-pass%25word";
const INSTALLED: &str = "tests/requirements.sh installs PostgreSQL and PgBouncer";

/// The user that servers run as, if the tests run as root: neither PostgreSQL nor PgBouncer does.
fn user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let id = |arguments: &[&str]| {
            let output = Command::new("id").args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse().expect(INSTALLED)
        };
        (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
    })
}

/// A program, run by that user.
fn command(program: &Path) -> Command {
    let Some((user, group)) = user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}

fn give(path: &Path) {
    if let Some((user, group)) = user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// A directory of that user.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    give(dir.path());
    dir
}

/// A program of PostgreSQL; Debian has those of the server in a folder for each version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.unwrap().path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// A data directory that others are copied from.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = TEMPLATE.get_or_init(|| {
        let dir = directory();
        let mut initdb = command(&program("initdb"));
        initdb.args(["--no-sync", "--username", "postgres", "--encoding", "UTF8", "--locale", "C", "--pgdata"]);
        let output = initdb.arg(dir.path().join("data")).output().expect(INSTALLED);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Whoever comes by TCP needs SCRAM; the tests themselves use the Unix socket.
        let rules =
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\nhost replication all 127.0.0.1/32 trust\n";
        std::fs::write(dir.path().join("data/pg_hba.conf"), rules).unwrap();
        dir
    });
    dir.path()
}

/// A server, killed with the test.
pub struct Postgres {
    child: Option<Child>,
    pub port: u16,
    dir: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Postgres {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        let dir = directory();
        let copied = Command::new("cp").arg("-a").arg(template().join("data")).arg(dir.path()).status().unwrap();
        assert!(copied.success());
        let mut server = Self::on(dir, arguments);
        server.run();
        server.sql("create role gate login password 'the-pass%word'; create database crm");
        server
    }

    fn on(dir: tempfile::TempDir, arguments: &[&str]) -> Self {
        Self { child: None, port: free_port(), dir, arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }

    /// A standby of this server, which follows it.
    pub fn standby(&self) -> Self {
        let dir = directory();
        let mut backup = command(&program("pg_basebackup"));
        backup.args(["--host", "127.0.0.1", "--username", "postgres", "--write-recovery-conf", "--no-sync"]);
        backup
            .args(["--checkpoint", "fast", "--port", &self.port.to_string(), "--pgdata"])
            .arg(dir.path().join("data"));
        let output = backup.output().expect(INSTALLED);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut standby = Self::on(dir, &[]);
        standby.run();
        standby
    }

    /// Lets the server have a file that only it can read.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        give(&path);
        path
    }

    pub fn run(&mut self) {
        // After a kill, the processes of its connections may need a moment to end.
        until("PostgreSQL answers", || {
            if let Some(child) = &mut self.child
                && child.try_wait().unwrap().is_none()
            {
                return self.try_sql("select 1").is_ok();
            }
            self.child = Some(self.spawn());
            false
        });
    }

    fn spawn(&self) -> Child {
        let mut server = command(&program("postgres"));
        let port = self.port.to_string();
        server.arg("-D").arg(self.dir.path().join("data")).args(["-p", &port, "-k"]).arg(self.dir.path());
        for setting in
            ["listen_addresses=127.0.0.1", "fsync=off", "password_encryption=scram-sha-256", "log_statement=none"]
        {
            server.args(["-c", setting]);
        }
        server.args(self.arguments.iter().flat_map(|setting| ["-c", setting]));
        server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect(INSTALLED)
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--username", "postgres", "--dbname"]);
        psql.args(["crm", "--set", "ON_ERROR_STOP=1", "--port", &self.port.to_string(), "--host"]).arg(self.dir.path());
        psql
    }

    fn try_sql(&self, text: &str) -> Result<String, String> {
        let mut psql = self.psql();
        // The database of the tests is made by the first statement.
        if text.contains("create database") || text == "select 1" {
            psql.args(["--dbname", "postgres"]);
        }
        let each = text.split("; ").flat_map(|statement| ["--command", statement]);
        let output = psql.args(each).output().expect(INSTALLED);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs statements as the superuser, each in a transaction of its own, and returns what they answer.
    pub fn sql(&self, text: &str) -> String {
        self.try_sql(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Whether it answers.
    pub fn answers(&self) -> bool {
        self.try_sql("select 1").is_ok()
    }

    /// Runs a file of statements.
    pub fn file_of_sql(&self, path: &Path) {
        let output = self.psql().arg("--single-transaction").arg("--file").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A connection of its own, whose transactions are open as long as the test wants.
    pub fn session(&self) -> SqlSession {
        let mut psql = self.psql();
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        SqlSession { input: child.stdin.take().unwrap(), output, child }
    }

    /// Stops it at once, as a loss of power would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        url(self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The URL of a server on this port, with the right password.
pub fn url(port: u16) -> String {
    format!("postgres://gate:{ENCODED}@127.0.0.1:{port}/crm?sslmode=disable")
}

/// A connection in which statements are run one after the other.
pub struct SqlSession {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl SqlSession {
    /// Runs statements, and waits until they are done.
    pub fn run(&mut self, text: &str) {
        writeln!(self.input, "{text};\n\\echo done").unwrap();
        let mut line = String::new();
        while line.trim() != "done" {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "{text}: psql has ended");
        }
    }
}

impl Drop for SqlSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A PgBouncer in transaction mode in front of a server, killed with the test.
pub struct PgBouncer {
    child: Option<Child>,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl PgBouncer {
    pub fn before(server: &Postgres) -> Self {
        let (dir, port) = (directory(), free_port());
        let users = dir.path().join("users.txt");
        std::fs::write(&users, format!("\"gate\" \"{PASSWORD}\"\n")).unwrap();
        let mut pooler = Self { child: None, port, dir };
        pooler.configure(server);
        pooler.run();
        pooler
    }

    fn configure(&self, server: &Postgres) {
        let (port, users) = (self.port, self.dir.path().join("users.txt"));
        let settings = format!(
            "[databases]\ncrm = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 2\nserver_login_retry = 0.2\n",
            server.port,
            users.display()
        );
        std::fs::write(self.dir.path().join("pgbouncer.ini"), settings).unwrap();
    }

    /// Leads to another server from now on. Connections of clients stay open.
    pub fn lead_to(&self, server: &Postgres) {
        self.configure(server);
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    pub fn run(&mut self) {
        let mut pooler = command(Path::new("/usr/sbin/pgbouncer"));
        pooler.arg(self.dir.path().join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(pooler.spawn().expect(INSTALLED));
        until("PgBouncer answers", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.kill();
    }
}
