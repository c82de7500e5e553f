//! A freeze for a fleet: real gateways that are stopped, a Redis that is killed, and deletions under way.

use std::net::TcpStream;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use saltgate::parts::Clock;

use crate::control::command;
use crate::harness::{Files, Latch, Upstream, answer, but_delete, service, signed, until};
use crate::http::{Kept, delete};
use crate::operations::{Process, text};
use crate::redis::{ACCEPT, Redis};

const LEASE: Duration = Duration::from_secs(1);

/// A gateway, and its files.
struct Member(Process, Files);

impl Member {
    fn start(upstream: &Upstream, redis: &Redis) -> Self {
        let files = Files::new(upstream.address, &settings(redis));
        let process = Process::serve(&files);
        let member = Self(process, files);
        until("it is in use", || member.delete() == 200);
        member
    }

    fn delete(&self) -> u16 {
        delete(self.0.address(), &signed("OWNER")).status
    }

    fn told(&self, arguments: &[&str]) -> Output {
        command(&self.1, arguments, "")
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.told(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }
}

fn settings(redis: &Redis) -> String {
    let fleet = "timeout = \"2s\"\n[safeguard]\nscope = \"fleet\"\nlease = \"1s\"\n[control]\nsocket = \"c.sock\"\nstate = \"kept\"\n";
    redis.settings(&format!("{ACCEPT}{fleet}")).replace("clock_margin = \"200ms\"", "clock_margin = \"2s\"")
}

#[test]
fn a_freeze_holds_on_every_gateway_of_a_fleet_when_it_returns() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let [one, other] = [(); 2].map(|()| Member::start(&upstream, &redis));
    for (by, at) in [(&one, &other), (&other, &one)] {
        let said = by.done(&["freeze", "key", "NCSOWNER", "--reason", "a leak"]);
        assert!(said.contains("no gateway of the fleet has a deletion in progress"), "{said}");
        assert_eq!((by.delete(), at.delete()), (423, 423));
        assert_eq!(delete(at.0.address(), &signed("DEVELOPER")).status, 200, "another key");
        assert!(at.done(&["freeze", "--list"]).contains("key NCSOWNER"));
        assert!(at.done(&["freeze", "key", "NCSOWNER"]).contains("was already frozen"));
        assert!(at.done(&["unfreeze", "key", "NCSOWNER"]).contains("is unfrozen"));
        assert_eq!((by.delete(), at.delete()), (200, 200));
    }
    // One that starts later knows it before it lets anything through.
    one.done(&["freeze", "all"]);
    let files = Files::new(upstream.address, &settings(&redis));
    let late = Process::serve(&files);
    until("it has read what is frozen", || match delete(late.address(), &signed("OWNER")).status {
        503 => false,
        status => {
            assert_eq!(status, 423);
            true
        }
    });
}

/// Stopped for longer than its lease, with a request in its socket.
#[test]
fn a_gateway_that_was_stopped_sends_nothing_after_the_freeze_has_returned() {
    let (redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let [one, other] = [(); 2].map(|()| Member::start(&upstream, &redis));
    let clients = || -> Vec<Kept> { (0..8).map(|_| Kept::to(other.0.address())).collect() };
    let (mut under_way, mut waiting) = (clients(), clients());
    // Some of these are stopped on their way, wherever they are.
    under_way.iter_mut().for_each(|client| client.send(&signed("OWNER")));
    other.0.signal("-STOP");
    until("it is stopped", || other.0.is_stopped());
    waiting.iter_mut().for_each(|client| client.send(&signed("OWNER")));
    let said = one.done(&["freeze", "all"]);
    assert!(said.contains("has not been heard of for longer than its lease"), "{said}");
    let before = upstream.deletes();
    other.0.signal("-CONT");
    let passed = under_way.iter_mut().map(Kept::status).filter(|status| *status == 200).count();
    let statuses: Vec<u16> = waiting.iter_mut().map(Kept::status).collect();
    assert!(statuses.iter().all(|status| [423, 500, 503].contains(status)), "{statuses:?}");
    until("it has read what is frozen", || other.delete() == 423);
    assert_eq!(upstream.deletes(), before, "and {passed} had left before");
}

#[test]
fn a_freeze_names_the_gateway_whose_earlier_deletion_has_no_answer() {
    let redis = Redis::start(&[]);
    let latch = Arc::new(Latch::default());
    let held = latch.clone();
    let upstream = Upstream::start(but_delete(move |stream: &mut TcpStream| {
        held.wait();
        answer(stream, "200 OK", "", "{}");
    }));
    let files = Files::new(upstream.address, &settings(&redis));
    let other = Member(Process::serve(&files), files);
    let files = Files::new(upstream.address, &settings(&redis));
    let one = Member(Process::serve(&files), files);
    let address = other.0.address();
    let under_way = std::thread::spawn(move || {
        let mut status = 503;
        // Until both know what is frozen.
        until("it is sent", || {
            status = delete(address, &signed("OWNER")).status;
            status != 503
        });
        status
    });
    until("it has reached the service", || upstream.deletes() == 1);
    let failed = one.told(&["freeze", "all", "--wait", "3"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stdout));
    let said = text(&failed.stderr);
    assert!(said.contains("have not said that no earlier deletion is in progress"), "{said}");
    latch.open();
    assert_eq!(under_way.join().unwrap(), 200);
    one.done(&["freeze", "all"]);
    assert_eq!((one.delete(), other.delete()), (423, 423));
}

#[test]
fn without_redis_nothing_is_let_through_and_what_it_lost_stays_frozen() {
    let (mut redis, upstream) = (Redis::start(&[]), Upstream::start(service("account-1", "member-1")));
    let [one, other] = [(); 2].map(|()| Member::start(&upstream, &redis));
    one.done(&["freeze", "key", "NCSOWNER"]);
    let clock = Clock::system();
    redis.kill();
    let killed = clock.elapsed();
    let mut last = killed;
    until("the lease has ended", || {
        if delete(one.0.address(), &signed("DEVELOPER")).status == 200 {
            last = clock.elapsed();
        }
        clock.elapsed() - killed > 3 * LEASE
    });
    assert!(last - killed <= LEASE, "{:?}", last - killed);
    assert_eq!(delete(other.0.address(), &signed("DEVELOPER")).status, 503);
    let failed = one.told(&["freeze", "all", "--wait", "1"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(text(&failed.stderr).contains("run the command again"), "{}", text(&failed.stderr));
    // It comes back without data.
    redis.run();
    until("it is in use", || delete(one.0.address(), &signed("DEVELOPER")).status == 200);
    assert_eq!((one.delete(), other.delete()), (423, 423));
    assert!(redis.cli(&["HGET", "saltgate:fleet", "state"]).contains("NCSOWNER"), "the gateways wrote it again");
}

#[test]
fn a_gateway_without_the_fleets_redis_cannot_be_of_a_fleet() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let files = Files::new(upstream.address, "[safeguard]\nscope = \"fleet\"\n");
    let faults = saltgate::parts::Config::load(&files.path()).err().unwrap();
    let said: String = faults.iter().map(ToString::to_string).collect();
    assert!(said.contains("safeguard.scope: is \"fleet\", which needs [replay.redis]"), "{said}");
    // What was frozen for one gateway is not forgotten.
    let redis = Redis::start(&[]);
    let alone = settings(&redis).replace("scope = \"fleet\"", "scope = \"process\"");
    let files = Files::new(upstream.address, &alone);
    let mut process = Process::serve(&files);
    assert!(command(&files, &["freeze", "all"], "").status.success());
    process.kill();
    files.configure(upstream.address, &settings(&redis));
    let told = Process::attempt(&files).err().unwrap();
    assert!(told.contains("something is frozen for this gateway alone"), "{told}");
}
