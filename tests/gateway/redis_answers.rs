//! Redis, or something in front of it, that sends one reply too many: a connection matches replies to requests only
//! by their order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Gate, Upstream, service, signed, until};
use crate::http::Kept;
use crate::redis::{ACCEPT, Redis, gate, settings};

/// What the proxy does with the next reply `SPENT` to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// Keeps a copy, and sends it when the next request of that connection has arrived, before its reply.
    AnswerAgainLater,
    /// Waits for two claims, and sends the first reply twice.
    AnswerTwoAtOnce,
}

/// A proxy in front of Redis.
struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    done: Arc<Mutex<usize>>,
}

impl Proxy {
    fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            plan: Arc::new(Mutex::new(Plan::Nothing)),
            done: Arc::default(),
        };
        let (plan, done, port) = (proxy.plan.clone(), proxy.done.clone(), redis.port);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                relay(client, server, plan.clone(), done.clone());
            }
        });
        proxy
    }

    fn plans(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    fn has_done_so(&self, times: usize) {
        until("the proxy has answered once too often", || *self.done.lock().unwrap() >= times);
    }
}

/// One connection, with its own kept reply.
fn relay(client: TcpStream, server: TcpStream, plan: Arc<Mutex<Plan>>, done: Arc<Mutex<usize>>) {
    let stale: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let asked: Arc<Mutex<usize>> = Arc::default();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (mut from_server, to_client) = (server, Arc::new(Mutex::new(client)));
    {
        let (stale, to_client, asked, done) = (stale.clone(), to_client.clone(), asked.clone(), done.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(read @ 1..) = from_client.read(&mut bytes) {
                *asked.lock().unwrap() += count(&bytes[..read], b"EVALSHA");
                if let Some(answer) = stale.lock().unwrap().take() {
                    let _ = to_client.lock().unwrap().write_all(&answer);
                    *done.lock().unwrap() += 1;
                }
                if to_server.write_all(&bytes[..read]).is_err() {
                    return;
                }
            }
        });
    }
    std::thread::spawn(move || {
        let mut bytes = [0; 65_536];
        while let Ok(read @ 1..) = from_server.read(&mut bytes) {
            let answer = &bytes[..read];
            let says_spent = count(answer, b"SPENT") > 0;
            let now = *plan.lock().unwrap();
            match now {
                Plan::AnswerAgainLater if says_spent => {
                    *plan.lock().unwrap() = Plan::Nothing;
                    *stale.lock().unwrap() = Some(answer.to_vec());
                    let _ = to_client.lock().unwrap().write_all(answer);
                }
                Plan::AnswerTwoAtOnce if says_spent => {
                    *plan.lock().unwrap() = Plan::Nothing;
                    let before = *asked.lock().unwrap();
                    // If the second request never comes, the test fails with a message.
                    for _ in 0..2000 {
                        if *asked.lock().unwrap() > before || count(answer, b"REUSED") > 0 {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let first = answer.split_inclusive(|byte| *byte == b'\n').take(2).flatten().copied();
                    let first: Vec<u8> = first.collect();
                    let twice = [first.as_slice(), answer].concat();
                    let _ = to_client.lock().unwrap().write_all(&twice);
                    *done.lock().unwrap() += 1;
                }
                _ => {
                    let _ = to_client.lock().unwrap().write_all(answer);
                }
            }
        }
    });
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|window| *window == what).count()
}

/// A gateway with one worker, so that it has one connection for its claims.
fn behind(proxy: &Proxy, upstream: &Upstream) -> Gate {
    let settings = settings(&format!("redis://{}", proxy.address), &format!("timeout = \"5s\"\n{ACCEPT}"));
    // On a busy machine more than that may pass between reading the clock and Redis.
    let settings = settings.replace("clock_margin = \"200ms\"", "clock_margin = \"10s\"");
    gate(upstream, &format!("[runtime]\nworkers = 1\n{settings}"))
}

#[test]
fn a_surplus_redis_reply_admits_no_spent_header() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let proxy = Proxy::before(&redis);
    let gate = behind(&proxy, &upstream);
    let mut client = Kept::to(gate.address());
    let spent = signed("OWNER");
    assert_eq!(client.delete(&spent), 200);

    proxy.plans(Plan::AnswerAgainLater);
    assert_eq!(client.delete(&signed("OWNER")), 200);
    // The stale reply says SPENT; the header that it is matched with was spent long before.
    let replayed = client.delete(&spent);
    proxy.has_done_so(1);
    assert_ne!(replayed, 200);
    assert_eq!(upstream.deletes(), 2);
    // The connection is closed, and the next one is in sync.
    until("it is in use again", || gate.delete(&signed("OWNER")).status == 200);
    assert_eq!(client.delete(&spent), 401);
}

#[test]
fn one_of_two_copies_passes_even_if_its_redis_reply_comes_twice() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let proxy = Proxy::before(&redis);
    let gate = behind(&proxy, &upstream);
    let (mut one, mut other) = (Kept::to(gate.address()), Kept::to(gate.address()));
    assert_eq!((one.delete(&signed("OWNER")), other.delete(&signed("OWNER"))), (200, 200));
    let header = signed("OWNER");
    proxy.plans(Plan::AnswerTwoAtOnce);
    one.send(&header);
    other.send(&header);
    let mut statuses = [one.status(), other.status()];
    proxy.has_done_so(1);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 500], "both got an answer that says SPENT, of which one is nobody's");
    assert_eq!(upstream.deletes(), 3);
}

#[test]
fn a_surplus_reply_to_a_connection_check_loses_nothing() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let proxy = Proxy::before(&redis);
    let gate = behind(&proxy, &upstream);
    let mut client = Kept::to(gate.address());
    proxy.plans(Plan::AnswerAgainLater);
    assert_eq!(client.delete(&signed("OWNER")), 200);
    // Long enough that the connection is checked before it is used.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(client.delete(&signed("OWNER")), 200, "it was closed before anything was claimed on it");
    proxy.has_done_so(1);
}
