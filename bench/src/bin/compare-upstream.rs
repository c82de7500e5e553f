//! `compare-upstream PORT PATH`: listens at a port and a Unix socket. A minimal, correct keep-alive HTTP/1.1 server with one thread. It answers a DELETE with
//! the id in its path, and a GET with the owner of the segment: `account-1`, created by `somebody`.

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use saltgate_compare::message;
use saltgate_compare::poll::Poll;
use saltgate_compare::stream::Stream;

const TCP: usize = usize::MAX;
const UNIX: usize = usize::MAX - 1;

struct Connection {
    socket: Stream,
    received: Vec<u8>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(port), Some(path)) = (words.next(), words.next()) else {
        return Err("usage: compare-upstream PORT PATH".into());
    };
    let tcp = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    tcp.set_nonblocking(true)?;
    let unix = UnixListener::bind(path)?;
    unix.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&tcp, TCP)?;
    poll.add(&unix, UNIX)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut part = vec![0; 16 << 10];
    let mut answers = Vec::new();
    let mut ready = Vec::new();
    loop {
        poll.ready(None, &mut ready)?;
        for &number in &ready {
            if number == TCP || number == UNIX {
                let accept = || match number {
                    TCP => tcp.accept().map(|(socket, _)| Stream::from(socket)),
                    _ => unix.accept().map(|(socket, _)| Stream::from(socket)),
                };
                while let Ok(socket) = accept() {
                    socket.set_nonblocking()?;
                    let free = connections.iter().position(Option::is_none).unwrap_or(connections.len());
                    poll.add(&socket, free)?;
                    let connection = Some(Connection { socket, received: Vec::new() });
                    match connections.get_mut(free) {
                        Some(place) => *place = connection,
                        None => connections.push(connection),
                    }
                }
                continue;
            }
            let Some(connection) = &mut connections[number] else { continue };
            answers.clear();
            match connection.socket.read(&mut part) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Ok(0) | Err(_) => {
                    connections[number] = None;
                    continue;
                }
                Ok(length) => connection.received.extend_from_slice(&part[..length]),
            }
            while let Some(request) = message::first(&connection.received) {
                answer(request.start, &mut answers)?;
                let taken = request.length;
                connection.received.drain(..taken);
            }
            // Its end is read in a later turn.
            let _ = connection.socket.write_all(&answers);
        }
    }
}

fn answer(start: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut words = start.split(|&byte| byte == b' ');
    let get = words.next() == Some(b"GET");
    let segment = words.next().and_then(|path| path.rsplit(|&byte| byte == b'/').next()).unwrap_or_default();
    let (before, behind): (&[u8], &[u8]) = match get {
        true => (br#"{"segmentId":""#, br#"","name":"VIP","accountId":"account-1","ownerId":"somebody"}"#),
        false => (br#"{"segmentId":""#, br#""}"#),
    };
    let length = before.len() + segment.len() + behind.len();
    write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n")?;
    for part in [before, segment, behind] {
        out.extend_from_slice(part);
    }
    Ok(())
}
