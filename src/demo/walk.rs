//! The demo itself: starts the gateway in front of the embedded CRM, and walks through the decision table with real
//! requests over real sockets.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::crm::{Crm, MEMBERS, SampleMember, Tables};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::console::say;
use crate::credential::{Secret, SigningKey, header_value};
use crate::serve::Gateway;
use crate::state;

pub(super) type Outcome<T> = Result<T, Box<dyn Error>>;

/// A well-formed segment id that no account has.
pub(super) const UNKNOWN: &str = "CRMSG1000000000000000SGM00000000";

/// The gateway, the CRM behind it, and the keys of its members.
pub(crate) struct Demo {
    pub(super) directory: PathBuf,
    temporary: bool,
    crm: Arc<Crm>,
    gateway: Option<Gateway>,
    pub(super) keys: Vec<Key>,
    _crm_runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) member: SampleMember,
    pub(super) api_key: String,
    pub(super) secret: String,
}

/// One request of the walk-through, and the answer that the decision table gives.
struct Row<'d> {
    key: &'d Key,
    whose: &'static str,
    segment: String,
    status: u16,
    why: &'static str,
}

impl Demo {
    /// Starts the gateway and the CRM on free ports, with fresh keys.
    ///
    /// # Errors
    /// If the directory cannot be written, or a port cannot be bound.
    pub(crate) fn start(data: Option<&Path>) -> Outcome<Self> {
        let temporary = data.is_none();
        let directory = data.map_or_else(temporary_directory, Path::to_path_buf);
        let crm = Arc::new(Crm::open(&database_in(&directory)?)?);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let upstream = listener.local_addr()?;
        runtime.spawn(crm.clone().serve(listener));

        let keys: Vec<Key> = MEMBERS.into_iter().map(key).collect::<Outcome<_>>()?;
        let config = write_configuration(&directory, upstream, &keys)?;
        let config =
            Config::load(&config).map_err(|faults| faults.iter().map(|f| format!("{f}\n")).collect::<String>())?;
        let gateway = Some(Gateway::start(config, Clock::system())?);
        Ok(Self { directory, temporary, crm, gateway, keys, _crm_runtime: runtime })
    }

    fn address(&self) -> SocketAddr {
        self.gateway.as_ref().and_then(Gateway::address).unwrap_or_else(|| ([127, 0, 0, 1], 0).into())
    }

    /// Walks through the decision table, and changes a key. Returns whether every answer is the expected one.
    ///
    /// # Errors
    /// If a request gets no answer, or the sample data is used up.
    pub(crate) fn walk(&self) -> Outcome<bool> {
        say!("Saltgate at http://{} in front of an embedded CRM ({})\n", self.address(), self.directory.display());
        say!("The decision table, one request each:");
        let mut as_expected = true;
        let mut last: Option<(String, String, Tables, Tables)> = None;
        for row in self.rows()? {
            let before = self.crm.store().tables_for(&row.segment)?;
            let header = signed(row.key, &clock::rfc3339(Clock::system().now()))?;
            let status = self.delete(&row.segment, &header)?;
            as_expected &= report(&row, status);
            if status == 200 {
                let after = self.crm.store().tables_for(&row.segment)?;
                as_expected &= after.segment.is_none();
                last = Some((row.segment, header, before, after));
            }
        }
        say!("\nRequests that are refused although they are signed:");
        let (segment, header, before, after) = last.ok_or("nothing was deleted")?;
        as_expected &= self.refused(&segment, &header, "the same header again", "its salt is spent")?;
        let owner = &self.keys[0];
        let hour_ago = Clock::system().now() - Duration::from_secs(3600);
        let stale = signed(owner, &clock::rfc3339(hour_ago))?;
        as_expected &= self.refused(&segment, &stale, "a date one hour ago", "outside the window of 15 minutes")?;
        let stolen = Key { member: owner.member, api_key: owner.api_key.clone(), secret: self.keys[2].secret.clone() };
        let stolen = signed(&stolen, &clock::rfc3339(Clock::system().now()))?;
        as_expected &=
            self.refused(&segment, &stolen, "one key, another key's secret", "the signature does not match")?;

        say!("\nThe last deletion in the CRM's tables ({segment}):");
        show("before", &before);
        show("after ", &after);
        as_expected &= self.change_a_key()?;
        Ok(as_expected)
    }

    fn rows(&self) -> Outcome<Vec<Row<'_>>> {
        const OWN: &str = "own segment";
        const OTHERS: &str = "somebody else's";
        const ELSEWHERE: &str = "another account's";
        const NONE: &str = "no such segment";
        let segment_of = |member: &SampleMember, nth_last: usize| -> Outcome<String> {
            let segments = self.crm.store().segments_of(member.account, member.id)?;
            let segment = segments.len().checked_sub(nth_last + 1).and_then(|i| segments.into_iter().nth(i));
            Ok(segment.ok_or("the sample data is used up: start with another --data directory")?.id)
        };
        let mut rows = Vec::new();
        let [owner, developer, maker, viewer, stranger] = [0, 1, 2, 3, 4].map(|i| &self.keys[i]);
        for key in [owner, developer, maker, viewer] {
            let other = if key.member.id == maker.member.id { developer } else { maker };
            let (own, others) = match key.member.role {
                Some("OWNER") => ((200, "it is an OWNER"), (200, "an OWNER may delete any segment")),
                Some(_) => ((200, "its creator may delete it"), (401, "only an OWNER may delete what others created")),
                None => ((401, "no role"), (401, "no role")),
            };
            let nobody =
                if key.member.role.is_some() { (404, "it does not exist for this account") } else { (401, "no role") };
            // Delete from the end, so that the first samples are left for the commands to paste, and no row needs a
            // segment that another row deleted.
            rows.push(Row { key, whose: OWN, segment: segment_of(&key.member, 0)?, status: own.0, why: own.1 });
            let others_segment = segment_of(&other.member, if others.0 == 200 { 1 } else { 2 })?;
            rows.push(Row { key, whose: OTHERS, segment: others_segment, status: others.0, why: others.1 });
            let elsewhere = segment_of(&stranger.member, 0)?;
            rows.push(Row { key, whose: ELSEWHERE, segment: elsewhere, status: nobody.0, why: nobody.1 });
            rows.push(Row { key, whose: NONE, segment: UNKNOWN.into(), status: nobody.0, why: nobody.1 });
        }
        Ok(rows)
    }

    fn refused(&self, segment: &str, header: &str, what: &str, why: &str) -> Outcome<bool> {
        let status = self.delete(segment, header)?;
        let mark = if status == 401 { ' ' } else { '!' };
        say!("{mark} {what:<46} {status}  {why}");
        Ok(status == 401)
    }

    /// Prints three commands to paste, and serves until Ctrl-C.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub(crate) fn keep_serving(mut self) -> Outcome<()> {
        let maker = &self.keys[2];
        let segments = self.crm.store().segments_of(maker.member.account, maker.member.id)?;
        let ids: Vec<&str> = segments.iter().map(|segment| segment.id.as_str()).collect();
        say!("\nThe gateway keeps running. Paste into another terminal:");
        for (segment, program) in ids.iter().zip(super::programs::ALL) {
            say!("\n{}", program(self.address(), &maker.api_key, &maker.secret, segment));
        }
        say!("\nThe record is in {}. Press Ctrl-C to stop.", self.directory.join("record").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::signal::ctrl_c())?;
        if let Some(gateway) = self.gateway.take() {
            gateway.drain();
        }
        Ok(())
    }

    pub(super) fn delete(&self, segment: &str, header: &str) -> Outcome<u16> {
        let mut stream = TcpStream::connect(self.address())?;
        let path = format!("/crm-core/v1/segments/{segment}");
        let request = format!(
            "DELETE {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {header}\r\nConnection: close\r\n\r\n",
            self.address()
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(status.ok_or("the gateway's answer is not HTTP")?)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.gateway.take());
        if self.temporary {
            // If this fails, the system clears its temporary directory later.
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}

fn report(row: &Row<'_>, status: u16) -> bool {
    let as_expected = status == row.status;
    let role = row.key.member.role.unwrap_or("no role");
    let (mark, wanted) =
        if as_expected { (' ', String::new()) } else { ('!', format!(" (the table says {})", row.status)) };
    say!("{mark} {:<16} {role:<10} {:<18} {status}{wanted}  {}", row.key.member.id, row.whose, row.why);
    as_expected
}

fn show(when: &str, tables: &Tables) {
    let segment = tables.segment.as_ref().map_or("gone".to_owned(), |segment| format!("\"{}\"", segment.name));
    let triggering = tables.automations.iter().filter(|automation| automation.triggering).count();
    say!(
        "  {when}  segments: {segment:<24} segment_members: {}   automations: {} linked or stopped, {triggering} triggering",
        tables.contacts.len(),
        tables.automations.len()
    );
}

pub(super) fn random() -> Outcome<String> {
    Ok(format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?))
}

fn key(member: SampleMember) -> Outcome<Key> {
    let short: String = member.id.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    Ok(Key { member, api_key: format!("NCS{short}"), secret: random()? })
}

pub(super) fn signed(key: &Key, date: &str) -> Outcome<String> {
    let salt = random()?;
    let signature = SigningKey::new(&Secret::new(key.secret.as_bytes())?).sign(date, &salt);
    Ok(header_value(&key.api_key, date, &salt, &signature))
}

/// The database of a CRM in this directory; both are created if they are not there.
pub(super) fn database_in(directory: &Path) -> Outcome<PathBuf> {
    state::folder(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let database = directory.join("crm.sqlite");
    // SQLite accepts an empty file as a new database, and gives its journal the same mode.
    state::file().create(true).append(true).open(&database)?;
    Ok(database)
}

pub(super) fn temporary_directory() -> PathBuf {
    std::env::temp_dir().join(format!("saltgate-demo-{}", std::process::id()))
}

/// Writes the same configuration files as a user would.
fn write_configuration(directory: &Path, upstream: SocketAddr, keys: &[Key]) -> Outcome<PathBuf> {
    let mut text = String::new();
    for Key { member, api_key, secret } in keys {
        let role = member.role.map(|role| format!("role = \"{role}\"\n")).unwrap_or_default();
        text += &format!(
            "[[key]]\napi_key = \"{api_key}\"\nsecret = \"{secret}\"\naccount = \"{}\"\nmember = \"{}\"\n{role}\n",
            member.account, member.id
        );
    }
    state::replace(directory, "keys.toml", text.as_bytes())?;
    let config = directory.join("saltgate.toml");
    let text = format!(
        r#"[[listener]]
address = "127.0.0.1:0"

[replay.memory]
when_new = "accept"

[directory.file]
path = "keys.toml"

[ownership.upstream]
account = "/accountId"
creator = "/ownerId"

[upstream]
servers = ["http://{upstream}"]

[audit]
path = "record"
"#
    );
    state::replace(directory, "saltgate.toml", text.as_bytes())?;
    Ok(config)
}
