//! `compare-floor PORT SERVICE`: a proxy that only copies bytes, with one thread and epoll. SERVICE is a port or the path of a
//! Unix socket. It shows how little a proxy can cost: per request two reads, two writes, and a share of a wait.

use std::io::ErrorKind;
use std::net::TcpListener;

use saltgate_compare::poll::Poll;
use saltgate_compare::stream::Stream;

const LISTENER: usize = usize::MAX;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(port), Some(service)) = (words.next(), words.next()) else {
        return Err("usage: compare-floor PORT SERVICE".into());
    };
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    // The two ends of a pair are neighbours: 2n is the client's, 2n + 1 the service's.
    let mut ends: Vec<Option<Stream>> = Vec::new();
    let mut part = vec![0; 16 << 10];
    let mut ready = Vec::new();
    loop {
        poll.ready(None, &mut ready)?;
        for &number in &ready {
            if number == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    let first = ends.iter().step_by(2).position(Option::is_none).map_or(ends.len(), |pair| pair * 2);
                    ends.resize_with(ends.len().max(first + 2), || None);
                    for (place, end) in [(first, Stream::from(client)), (first + 1, Stream::connect(&service)?)] {
                        end.set_nonblocking()?;
                        poll.add(&end, place)?;
                        ends[place] = Some(end);
                    }
                }
            } else if !copy(&mut ends, number, &mut part) {
                ends[number & !1] = None;
                ends[number | 1] = None;
            }
        }
    }
}

/// Copies what arrived at one end to the other; `false` if either is closed.
fn copy(ends: &mut [Option<Stream>], from: usize, part: &mut [u8]) -> bool {
    let read = match &mut ends[from] {
        Some(end) => end.read(part),
        // Its other end was closed in this turn.
        None => return true,
    };
    match read {
        Ok(0) => false,
        Ok(length) => ends[from ^ 1].as_mut().is_some_and(|end| end.write_all(&part[..length]).is_ok()),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
