//! A cluster of Redis that loses a master, one with TLS and certificates of clients, and slots that are moved under load.

use std::process::{Command, Stdio};

use crate::harness::{Upstream, service, signed, until};
use crate::http::get;
use crate::redis::{ACCEPT, Load, Redis, certificates, free_port, gate, refused_to_start, settings};

/// Masters that speak TLS to each other and to clients with a certificate, and plainly to `redis-cli`.
struct Cluster {
    servers: Vec<Redis>,
    tls_ports: Vec<u16>,
    files: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let files = certificates();
        let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
        let tls_ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let start = |tls: &u16| {
            let (port, bus, tls) = (free_port(), free_port().to_string(), tls.to_string());
            let (plain, certificate, key, ca) = (port.to_string(), file("r.pem"), file("r.key"), file("ca.pem"));
            let mut server = Redis::on(
                port,
                &[
                    ["--port", &plain, "--tls-port", &tls],
                    ["--tls-cert-file", &certificate, "--tls-key-file", &key],
                    ["--tls-ca-cert-file", &ca, "--tls-auth-clients", "yes"],
                    ["--tls-cluster", "yes", "--cluster-enabled", "yes"],
                    ["--cluster-port", &bus, "--cluster-node-timeout", "5000"],
                ]
                .concat(),
            );
            server.run();
            server
        };
        let servers: Vec<Redis> = tls_ports.iter().map(start).collect();
        let cluster = Self { servers, tls_ports, files };
        let names: Vec<String> = (0..3).map(|n| cluster.name(n)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        cluster.manage(&[&["create"], &names[..], &["--cluster-replicas", "0"]].concat());
        until("the cluster stands", || {
            cluster.servers.iter().all(|server| server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
        cluster
    }

    fn name(&self, server: usize) -> String {
        format!("127.0.0.1:{}", self.tls_ports[server])
    }

    fn manage(&self, arguments: &[&str]) {
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "--cacert", "ca.pem", "--cert", "c.pem", "--key", "c.key", "--cluster"]).args(arguments);
        command.arg("--cluster-yes").current_dir(&self.files).stdout(Stdio::null());
        assert!(command.status().unwrap().success());
    }

    fn id(&self, server: usize) -> String {
        self.servers[server].cli(&["CLUSTER", "MYID"]).trim().to_owned()
    }

    fn settings(&self, more: &str) -> String {
        let file = |name: &str| self.files.path().join(name).to_str().unwrap().to_owned();
        let url = format!("rediss://127.0.0.1:{},127.0.0.1:{}", self.tls_ports[0], self.tls_ports[1]);
        let tls = format!("ca = {:?}\ntimeout = \"2s\"\ncluster = true\n", file("ca.pem"));
        settings(&url, &format!("{ACCEPT}{tls}{}", more.replace("FILES", self.files.path().to_str().unwrap())))
            .replace("clock_margin = \"200ms\"", "clock_margin = \"2s\"")
    }
}

const CERTIFICATE: &str = "certificate = \"FILES/c.pem\"\nkey = \"FILES/c.key\"\n";

#[test]
fn slots_that_move_under_load_let_each_header_pass_once_and_claims_follow_them() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let cluster = Cluster::start();
    let settings = cluster.settings(CERTIFICATE);
    let gates = [gate(&upstream, &settings), gate(&upstream, &settings)];
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(300);
    let (from, to) = (cluster.id(0), cluster.id(1));
    let reshard = ["reshard", &cluster.name(0), "--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", "600"];
    cluster.manage(&reshard);
    until("the fence has fallen", || {
        gates.iter().all(|gate| get(gate.admin(), "/ready").body.contains("\"replay\":\"ok\""))
    });
    load.passes(300);
    let headers = load.end();
    assert_eq!(upstream.deletes(), headers);
}

/// Redis refuses a claim in a slot that is being moved, because the salt's key is not there yet, and did not run it.
#[test]
fn a_claim_in_a_slot_that_is_being_moved_waits_and_passes() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let cluster = Cluster::start();
    // The server writes each of them down, which takes Valkey 5 ms on a busy disk. So only every fourth of its slots is moved.
    let settings = cluster.settings(CERTIFICATE).replace("\"2s\"", "\"15s\"");
    let gate = gate(&upstream, &settings);
    until("it is in use", || gate.delete(&signed("OWNER")).status == 200);
    let to = cluster.id(1);
    let slots = || (0..=5460).step_by(4);
    cluster.servers[0].pipe(slots().map(|slot| format!("CLUSTER SETSLOT {slot} MIGRATING {to}")));
    let address = gate.address();
    let send = || std::thread::spawn(move || crate::http::delete(address, &signed("OWNER")).status);
    let mut sent = vec![];
    until("one of them is in such a slot", || {
        sent.push(send());
        cluster.servers[0].cli(&["INFO", "errorstats"]).contains("errorstat_TRYAGAIN")
    });
    cluster.servers[0].pipe(slots().map(|slot| format!("CLUSTER SETSLOT {slot} STABLE")));
    let statuses: Vec<u16> = sent.into_iter().map(|sent| sent.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

/// A slot that takes long to move keeps its server's other slots from nothing.
#[test]
fn while_a_slot_is_being_moved_the_other_slots_of_its_server_are_in_use() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let cluster = Cluster::start();
    let gate = gate(&upstream, &cluster.settings(CERTIFICATE));
    let in_use = || (0..40).all(|_| gate.delete(&signed("OWNER")).status == 200);
    until("it is in use", in_use);
    let to = cluster.id(1);
    let markers = cluster.servers[0].cli(&["--scan", "--pattern", "saltgate:epoch:*"]);
    let markers: Vec<&str> = markers.lines().collect();
    // Three slots are being moved, and their markers are on the other server already.
    for marker in &markers[..3] {
        let slot = cluster.servers[0].cli(&["CLUSTER", "KEYSLOT", marker]);
        cluster.servers[0].cli(&["CLUSTER", "SETSLOT", slot.trim(), "MIGRATING", &to]);
        cluster.servers[0].cli(&["DEL", marker]);
        assert!(cluster.servers[0].cli(&["GET", marker]).contains("ASK"));
    }
    // The others have lost theirs. The first claim finds that out, and they are fenced.
    cluster.servers[0].pipe(markers[3..].iter().map(|marker| format!("DEL {marker}")));
    until("it is noticed", || get(gate.admin(), "/ready").body.contains("fenced until") || !in_use());
    until("it is in use again", in_use);
}

#[test]
fn a_client_without_its_certificate_gets_no_connection_and_one_that_cannot_be_used_stops_the_start() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let cluster = Cluster::start();
    let stranger = gate(&upstream, &cluster.settings(""));
    assert_eq!(stranger.delete(&signed("OWNER")).status, 503);
    let known = gate(&upstream, &cluster.settings(CERTIFICATE));
    until("it is in use", || known.delete(&signed("OWNER")).status == 200);
    assert!(known.metrics().contains("part=\"redis\""), "{}", known.metrics());
    let told = refused_to_start(&upstream, &cluster.settings("certificate = \"FILES/c.pem\"\nkey = \"FILES/c.csr\"\n"));
    assert!(told.contains("cannot be used with ca, certificate and key") && !told.contains("BEGIN"), "{told}");
    let told = refused_to_start(&upstream, &cluster.settings("certificate = \"FILES/c.pem\"\nkey = \"FILES/none\"\n"));
    assert!(told.contains("replay.redis.key: cannot be read"), "{told}");
}

#[test]
fn a_cluster_that_loses_a_master_lets_nothing_pass_twice() {
    let upstream = Upstream::start(service("account-1", "member-1"));
    let mut servers: Vec<Redis> = (0..6)
        .map(|_| {
            let bus = free_port().to_string();
            Redis::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])
        })
        .collect();
    let names: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]).args(&names).args(["--cluster-replicas", "1", "--cluster-yes"]);
    assert!(create.stdout(Stdio::null()).status().unwrap().success());
    until("the cluster stands", || {
        let linked = |server: &Redis| {
            let info = server.cli(&["INFO", "replication"]);
            info.contains("role:master") || info.contains("master_link_status:up")
        };
        servers.iter().all(|s| s.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok") && linked(s))
    });
    let alone = refused_to_start(&upstream, &servers[0].settings(ACCEPT));
    assert!(alone.contains("cluster = true"), "{alone}");

    let url = format!("redis://{},{}", names[1], names[2]);
    let settings = settings(&url, "cluster = true\nwhen_new = \"accept\"\n");
    let gates = [gate(&upstream, &settings), gate(&upstream, &settings)];
    let load = Load::start(&[&gates[0], &gates[1]]);
    load.passes(300);
    servers[0].kill();
    load.is_refused();
    until("a replica takes over", || {
        !servers[1].cli(&["CLUSTER", "INFO"]).contains("cluster_state:fail") && {
            let nodes = servers[1].cli(&["CLUSTER", "NODES"]);
            nodes.lines().filter(|line| line.contains("master") && !line.contains("fail")).count() == 3
        }
    });
    until("it is in use, behind its fence", || get(gates[0].admin(), "/ready").body.contains("fenced until"));
    until("the fence has fallen", || get(gates[0].admin(), "/ready").body.contains("\"replay\":\"ok\""));
    load.passes(300);
    // Slots that move are fenced; the others are not.
    let myself = |server: &Redis| server.cli(&["CLUSTER", "MYID"]).trim().to_owned();
    let (from, to) = (myself(&servers[1]), myself(&servers[2]));
    let mut reshard = Command::new("redis-cli");
    reshard.args(["--cluster", "reshard", &names[1], "--cluster-from", &from, "--cluster-to", &to]);
    reshard.args(["--cluster-slots", "64", "--cluster-yes"]).stdout(Stdio::null());
    assert!(reshard.status().unwrap().success());
    load.passes(300);
    let headers = load.end();
    assert_eq!(upstream.deletes(), headers);
    let keys: usize =
        (1..6).map(|n| servers[n].cli(&["--scan", "--pattern", "saltgate:epoch:*"]).lines().count()).sum();
    assert!(keys >= 16_384, "a witness in each slot: {keys}");
}
