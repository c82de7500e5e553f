//! Services that close idle connections: a deletion is never sent on a connection that is being closed.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use saltgate::parts::Clock;

use crate::harness::{Files, Gate, signed};
use crate::http::Received;

/// The delay of the network: a request that is sent within it meets a closed connection.
const AWAY: Duration = Duration::from_millis(10);

/// A service behind a delay that closes a connection after this long without a request.
struct Closing {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    deletes: Arc<AtomicUsize>,
}

impl Closing {
    fn after(limit: Duration, fields: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (connections, deletes) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let closing = Self {
            address: listener.local_addr().unwrap(),
            connections: connections.clone(),
            deletes: deletes.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let deletes = deletes.clone();
                std::thread::spawn(move || serve(stream, limit, fields, &deletes));
            }
        });
        closing
    }
}

fn serve(mut stream: TcpStream, limit: Duration, fields: &str, deletes: &AtomicUsize) {
    stream.set_read_timeout(Some(limit - AWAY)).unwrap();
    while Received::read(&mut stream).is_some() {
        deletes.fetch_add(1, Ordering::SeqCst);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\n{{}}");
        let _ = stream.write_all(answer.as_bytes());
    }
    // For the service the connection is closed; bytes that arrived since are not read.
    std::thread::sleep(2 * AWAY);
}

fn gate(service: &Closing, upstream: &str) -> Gate {
    let files = Files::new(service.address, "[runtime]\nworkers = 1\n[ownership.delegate]\n");
    let text = std::fs::read_to_string(files.path()).unwrap();
    std::fs::write(files.path(), text.replace("[upstream]\n", &format!("[upstream]\n{upstream}"))).unwrap();
    Gate::from_files(files, Clock::system())
}

#[test]
fn no_deletion_is_lost_to_a_service_that_closes_idle_connections() {
    const LIMIT: Duration = Duration::from_millis(300);
    let tries = (0..=20).map(|n| {
        std::thread::spawn(move || {
            let service = Closing::after(LIMIT, "");
            let gate = gate(&service, "fresh = \"200ms\"\n");
            assert_eq!(gate.delete(&signed("OWNER")).status, 200);
            std::thread::sleep(LIMIT - AWAY + Duration::from_millis(n));
            let answer = gate.delete(&signed("OWNER"));
            (n, answer.status, service.deletes.load(Ordering::SeqCst))
        })
    });
    let tries: Vec<_> = tries.collect();
    for tried in tries {
        let (n, status, deletes) = tried.join().unwrap();
        assert_eq!((status, deletes), (200, 2), "{n} ms after a close that is on its way");
    }
}

#[test]
fn a_fresh_connection_is_reused() {
    let service = Closing::after(Duration::from_secs(60), "");
    let gate = gate(&service, "fresh = \"20s\"\n");
    (0..5).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    assert_eq!(service.connections.load(Ordering::SeqCst), 1);
    // Without fresh connections, none is reused.
    let service = Closing::after(Duration::from_secs(60), "");
    let gate = gate_without_fresh(&service);
    (0..5).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
    assert_eq!(service.connections.load(Ordering::SeqCst), 5);
}

fn gate_without_fresh(service: &Closing) -> Gate {
    gate(service, "fresh = \"0s\"\n")
}

#[test]
fn a_keep_alive_timeout_that_the_service_announces_is_respected() {
    let fresh = "fresh = \"20s\"\nidle_timeout = \"20s\"\n";
    for (fields, connections) in [
        ("Keep-Alive: timeout=60\r\n", 1),
        ("Keep-Alive: timeout=18446744073709551616, max=2\r\n", 1),
        ("Keep-Alive: timeout=1\r\n", 3),
        ("Keep-Alive: timeout=0\r\n", 3),
        ("Keep-Alive: timeout=soon\r\n", 3),
    ] {
        let service = Closing::after(Duration::from_secs(60), fields);
        let gate = gate(&service, fresh);
        (0..3).for_each(|_| assert_eq!(gate.delete(&signed("OWNER")).status, 200));
        assert_eq!(service.connections.load(Ordering::SeqCst), connections, "{fields:?}");
    }
    // A second less than announced: a request sent in the last second may meet the end.
    let tries = [0_u64, 5, 10, 15, 20].map(|n| {
        std::thread::spawn(move || {
            let service = Closing::after(Duration::from_secs(2), "Keep-Alive: timeout=2\r\n");
            let gate = gate(&service, fresh);
            assert_eq!(gate.delete(&signed("OWNER")).status, 200);
            std::thread::sleep(Duration::from_secs(2) - AWAY + Duration::from_millis(n));
            (gate.delete(&signed("OWNER")).status, service.deletes.load(Ordering::SeqCst))
        })
    });
    for tried in tries {
        assert_eq!(tried.join().unwrap(), (200, 2));
    }
}
