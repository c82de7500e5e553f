//! `compare-upstream PORT`: a minimal, correct keep-alive HTTP/1.1 server with one thread. It answers a DELETE with
//! the id in its path, and a GET with the owner of the segment: `account-1`, created by `somebody`.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use saltgate_compare::message;
use saltgate_compare::poll::Poll;

const LISTENER: usize = usize::MAX;

struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: compare-upstream PORT")?.parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut part = vec![0; 16 << 10];
    let mut answers = Vec::new();
    let mut ready = Vec::new();
    loop {
        poll.ready(None, &mut ready)?;
        for &number in &ready {
            if number == LISTENER {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    socket.set_nonblocking(true)?;
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
            let mut rest = answers.as_slice();
            while !rest.is_empty() {
                match connection.socket.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    Err(_) => break,
                }
            }
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
