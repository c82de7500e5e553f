//! `saltgate demo`: the gateway in front of the embedded CRM, and a walk through the decision
//! table with real requests over real sockets.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::crm::{Crm, MEMBERS, SampleMember, Tables};
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::credential::{Secret, SigningKey, header_value};
use crate::serve::Gateway;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Of the API's own form, and in nobody's account.
const NOBODYS: &str = "CRMSG1000000000000000SGM00000000";

/// The gateway, the CRM behind it, and the keys of its members.
pub struct Demo {
    directory: PathBuf,
    temporary: bool,
    crm: Arc<Crm>,
    gateway: Option<Gateway>,
    keys: Vec<Key>,
    _crm_runtime: tokio::runtime::Runtime,
}

struct Key {
    member: SampleMember,
    api_key: String,
    secret: String,
}

/// One request of the walk, and what the table says to it.
struct Row<'d> {
    key: &'d Key,
    whose: &'static str,
    segment: String,
    status: u16,
    why: &'static str,
}

impl Demo {
    /// Starts both, on free ports, with keys of their own.
    ///
    /// # Errors
    /// If the directory cannot be written, or a port cannot be had.
    pub fn start(data: Option<&Path>) -> Outcome<Self> {
        let temporary = data.is_none();
        let directory = data.map_or_else(temporary_directory, Path::to_path_buf);
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let crm = Arc::new(Crm::open(&directory.join("crm.sqlite"))?);
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

    /// The walk. Returns whether every answer was what the table says.
    ///
    /// # Errors
    /// If a request has no answer, or the sample data is used up.
    pub fn walk(&self) -> Outcome<bool> {
        println!("Saltgate at http://{} in front of an embedded CRM ({})\n", self.address(), self.directory.display());
        println!("The decision table, one request each:");
        let mut as_told = true;
        let mut last: Option<(String, String, Tables, Tables)> = None;
        for row in self.rows()? {
            let before = self.crm.store().tables_for(&row.segment)?;
            let header = signed(row.key, &clock::rfc3339(Clock::system().now()))?;
            let status = self.delete(&row.segment, &header)?;
            as_told &= report(&row, status);
            if status == 200 {
                let after = self.crm.store().tables_for(&row.segment)?;
                as_told &= after.segment.is_none();
                last = Some((row.segment, header, before, after));
            }
        }
        println!("\nWhat no signature buys:");
        let (segment, header, before, after) = last.ok_or("nothing was deleted")?;
        as_told &= self.refused(&segment, &header, "the same header once more", "its salt is spent")?;
        let owner = &self.keys[0];
        let hour_ago = Clock::system().now() - Duration::from_secs(3600);
        let stale = signed(owner, &clock::rfc3339(hour_ago))?;
        as_told &= self.refused(&segment, &stale, "a date of an hour ago", "outside the window of 15 minutes")?;
        let stolen = Key { member: owner.member, api_key: owner.api_key.clone(), secret: self.keys[2].secret.clone() };
        let stolen = signed(&stolen, &clock::rfc3339(Clock::system().now()))?;
        as_told &= self.refused(&segment, &stolen, "one key, another key's secret", "the signature does not match")?;

        println!("\nWhat the last deletion did, in the CRM's own tables ({segment}):");
        show("before", &before);
        show("after ", &after);
        Ok(as_told)
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
                Some("OWNER") => ((200, "it is an OWNER"), (200, "an OWNER may, whoever created it")),
                Some(_) => {
                    ((200, "who created it may delete it"), (401, "only an OWNER may delete what others created"))
                }
                None => ((401, "no role"), (401, "no role")),
            };
            let nobody =
                if key.member.role.is_some() { (404, "it does not exist for this account") } else { (401, "no role") };
            // What is deleted is taken from the end, so that the first samples stay for pasting, and
            // no row asks for what another deleted.
            rows.push(Row { key, whose: OWN, segment: segment_of(&key.member, 0)?, status: own.0, why: own.1 });
            let others_segment = segment_of(&other.member, if others.0 == 200 { 1 } else { 2 })?;
            rows.push(Row { key, whose: OTHERS, segment: others_segment, status: others.0, why: others.1 });
            let elsewhere = segment_of(&stranger.member, 0)?;
            rows.push(Row { key, whose: ELSEWHERE, segment: elsewhere, status: nobody.0, why: nobody.1 });
            rows.push(Row { key, whose: NONE, segment: NOBODYS.into(), status: nobody.0, why: nobody.1 });
        }
        Ok(rows)
    }

    fn refused(&self, segment: &str, header: &str, what: &str, why: &str) -> Outcome<bool> {
        let status = self.delete(segment, header)?;
        let mark = if status == 401 { ' ' } else { '!' };
        println!("{mark} {what:<46} {status}  {why}");
        Ok(status == 401)
    }

    /// Prints three commands to paste, and serves until it is told to end.
    ///
    /// # Errors
    /// If signals cannot be received.
    pub fn keep_serving(mut self) -> Outcome<()> {
        let maker = &self.keys[2];
        let segments = self.crm.store().segments_of(maker.member.account, maker.member.id)?;
        let ids: Vec<&str> = segments.iter().map(|segment| segment.id.as_str()).collect();
        println!("\nStill serving. To paste in another terminal:");
        for (segment, program) in ids.iter().zip(super::programs::ALL) {
            println!("\n{}", program(self.address(), &maker.api_key, &maker.secret, segment));
        }
        println!("\nThe record is in {}. Ctrl-C ends.", self.directory.join("record").display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tokio::signal::ctrl_c())?;
        if let Some(gateway) = self.gateway.take() {
            gateway.drain();
        }
        Ok(())
    }

    fn delete(&self, segment: &str, header: &str) -> Outcome<u16> {
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
            // What is left of a temporary directory is the system's to clear.
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}

fn report(row: &Row<'_>, status: u16) -> bool {
    let as_told = status == row.status;
    let role = row.key.member.role.unwrap_or("no role");
    let (mark, wanted) =
        if as_told { (' ', String::new()) } else { ('!', format!(" (the table says {})", row.status)) };
    println!("{mark} {:<16} {role:<10} {:<18} {status}{wanted}  {}", row.key.member.id, row.whose, row.why);
    as_told
}

fn show(when: &str, tables: &Tables) {
    let segment = tables.segment.as_ref().map_or("gone".to_owned(), |segment| format!("\"{}\"", segment.name));
    let triggering = tables.automations.iter().filter(|automation| automation.triggering).count();
    println!(
        "  {when}  segments: {segment:<24} segment_members: {}   automations: {} linked or stopped, {triggering} triggering",
        tables.contacts.len(),
        tables.automations.len()
    );
}

fn key(member: SampleMember) -> Outcome<Key> {
    let random = || -> Outcome<String> { Ok(format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?)) };
    let short: String = member.id.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
    Ok(Key { member, api_key: format!("NCS{short}"), secret: random()? })
}

fn signed(key: &Key, date: &str) -> Outcome<String> {
    let salt = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    let signature = SigningKey::new(&Secret::new(key.secret.as_bytes())?).sign(date, &salt);
    Ok(header_value(&key.api_key, date, &salt, &signature))
}

fn temporary_directory() -> PathBuf {
    std::env::temp_dir().join(format!("saltgate-demo-{}", std::process::id()))
}

/// The same files that anybody would write.
fn write_configuration(directory: &Path, upstream: SocketAddr, keys: &[Key]) -> Outcome<PathBuf> {
    let mut text = String::new();
    for Key { member, api_key, secret } in keys {
        let role = member.role.map(|role| format!("role = \"{role}\"\n")).unwrap_or_default();
        text += &format!(
            "[[key]]\napi_key = \"{api_key}\"\nsecret = \"{secret}\"\naccount = \"{}\"\nmember = \"{}\"\n{role}\n",
            member.account, member.id
        );
    }
    std::fs::write(directory.join("keys.toml"), text)?;
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
    std::fs::write(&config, text)?;
    Ok(config)
}
