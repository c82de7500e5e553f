//! Rings against real sockets. Where the kernel gives none, there is nothing to test.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream as Peer};
use std::os::unix::net::UnixStream as UnixPeer;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::bounds::{BUFFER, BUFFERS, MAX_UNREAD};
use super::*;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs this on a worker with a ring.
fn on_ring<F: Future<Output = ()> + Send + 'static>(work: F) {
    if probe().is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(turn)
        .on_thread_unpark(turn)
        .build()
        .unwrap();
    let ring = {
        let _inside = runtime.enter();
        begin().unwrap()
    };
    runtime.block_on(async { runtime.spawn(tokio::time::timeout(PATIENCE, work)).await }).unwrap().unwrap();
    drop(runtime);
    drop(ring);
}

/// A connection on the ring, and its other end.
fn connected(delivery: Delivery) -> (RingSocket, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = Peer::connect(listener.local_addr().unwrap()).unwrap();
    let peer = listener.accept().unwrap().0;
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    (adopt(ours.into(), delivery).unwrap(), peer)
}

/// How many connections the ring has, with those that are being closed.
fn count() -> usize {
    with_ring(|ring| ring.connections.len()).unwrap()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Bytes of which each place is known.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn bytes_arrive_in_both_directions_over_tcp_and_unix() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Posted);
        peer.write_all(b"a question").unwrap();
        let mut read = [0; 10];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"a question");
        ours.write_all(b"an answer").await.unwrap();
        ours.flush().await.unwrap();
        turn();
        let mut read = [0; 9];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"an answer");

        let (ours, mut peer) = UnixPeer::pair().unwrap();
        let mut ours = adopt(ours.into(), Delivery::Known).unwrap();
        peer.write_all(b"ping").unwrap();
        let mut read = [0; 4];
        ours.read_exact(&mut read).await.unwrap();
        ours.write_all(&read).await.unwrap();
        ours.flush().await.unwrap();
        peer.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"ping");
    });
}

#[test]
fn what_a_slow_reader_takes_piece_by_piece_arrives_whole_and_in_order() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Posted);
        SockRef::from(&ours).set_send_buffer_size(16 << 10).unwrap();
        let sent = pattern(8 << 20);
        let reading = std::thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), [0; 1000]);
            while let Ok(read @ 1..) = peer.read(&mut piece) {
                all.extend_from_slice(&piece[..read]);
            }
            all
        });
        ours.write_all(&sent).await.unwrap();
        ours.shutdown().await.unwrap();
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert_eq!(ours.taken(), sent.len() as u64);
        assert!(reading.join().unwrap() == sent);
    });
}

#[test]
fn a_peer_that_sends_faster_than_it_is_read_does_not_fill_the_memory() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Posted);
        let sent = pattern(16 << 20);
        let writing = std::thread::spawn({
            let sent = sent.clone();
            move || {
                peer.write_all(&sent).unwrap();
                peer
            }
        });
        let most =
            || with_ring(|ring| ring.connections.iter().map(|(_, it)| it.unread().len()).max().unwrap()).unwrap();
        until("it receives up to its bound", || most() > MAX_UNREAD).await;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let held = most();
            assert!(held <= MAX_UNREAD + usize::from(BUFFERS) * BUFFER, "{held} bytes are held");
        }
        assert!(!writing.is_finished(), "the peer still has most of it");
        let mut all = vec![0; sent.len()];
        ours.read_exact(&mut all).await.unwrap();
        assert!(all == sent);
        drop(writing.join().unwrap());
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    });
}

#[test]
fn more_connections_than_buffers_all_receive() {
    on_ring(async {
        let mut all: Vec<_> = (0..usize::from(BUFFERS) * 3).map(|_| connected(Delivery::Posted)).collect();
        turn();
        for (number, (_, peer)) in all.iter_mut().enumerate() {
            peer.write_all(&vec![number as u8; BUFFER + 1]).unwrap();
        }
        for (number, (ours, _)) in all.iter_mut().enumerate() {
            let mut read = vec![0; BUFFER + 1];
            ours.read_exact(&mut read).await.unwrap();
            assert!(read == vec![number as u8; BUFFER + 1], "{number}");
        }
        // And each goes on receiving.
        for (ours, peer) in &mut all {
            peer.write_all(b"x").unwrap();
            ours.read_exact(&mut [0]).await.unwrap();
        }
    });
}

#[test]
fn a_peer_that_has_ended_its_side_still_gets_the_answer() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Posted);
        peer.write_all(b"last").unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut read = Vec::new();
        ours.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
        ours.write_all(b"answer").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut read = Vec::new();
        peer.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"answer");
        assert!(
            ours.write_all(b"more").await.is_err() || ours.flush().await.is_err() || {
                turn();
                ours.flush().await.is_err()
            }
        );
    });
}

#[test]
fn a_dropped_connection_is_closed_even_if_its_peer_reads_nothing() {
    on_ring(async {
        // More than the kernels take.
        let long = vec![7; 64 << 20];
        for delivery in [Delivery::Posted, Delivery::Known] {
            let (ours, mut peer) = connected(delivery);
            turn();
            drop(ours);
            until("it is gone", || count() == 0).await;
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);

            let (mut ours, peer) = connected(delivery);
            let is_stuck = || with_ring(|ring| ring.connections.iter().any(|(_, it)| it.is_sending())).unwrap();
            // Until the kernels take no more.
            while tokio::time::timeout(Duration::from_millis(100), ours.write_all(&long)).await.is_ok() || !is_stuck() {
            }
            drop(ours);
            until("it is gone although the peer reads nothing", || count() == 0).await;
            drop(peer);
        }
    });
}

#[test]
fn only_what_was_posted_leaves_after_the_connection_was_dropped() {
    on_ring(async {
        for (delivery, leaves) in [(Delivery::Posted, &b"answer"[..]), (Delivery::Known, b"")] {
            let (mut ours, mut peer) = connected(delivery);
            turn();
            ours.write_all(b"answer").await.unwrap();
            drop(ours);
            until("it is gone", || count() == 0).await;
            let mut read = Vec::new();
            peer.read_to_end(&mut read).unwrap();
            assert_eq!(read, leaves);
        }
    });
}

#[test]
fn a_reset_reaches_the_peer() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Posted);
        turn();
        ours.write_all(b"half an ans").await.unwrap();
        ours.discard();
        SockRef::from(&ours).set_linger(Some(Duration::ZERO)).unwrap();
        drop(ours);
        until("it is gone", || count() == 0).await;
        assert_eq!(peer.read(&mut [0; 20]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_peer_that_is_gone_is_an_error_of_reading_and_of_writing() {
    on_ring(async {
        let (mut ours, peer) = connected(Delivery::Known);
        turn();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert_eq!(ours.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let written = async {
            ours.write_all(b"x").await?;
            ours.flush().await
        };
        assert!(matches!(written.await.unwrap_err().kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
        assert_eq!(ours.taken(), 0, "and it is known that nothing was taken");
    });
}

#[test]
fn a_quiet_connection_is_one_on_which_nothing_has_arrived() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Known);
        assert!(ours.is_quiet(), "before it receives");
        turn();
        assert!(ours.is_quiet());
        // Without a turn of the event loop in between.
        peer.write_all(b"x").unwrap();
        assert!(!ours.is_quiet());
        ours.read_exact(&mut [0]).await.unwrap();
        assert!(ours.is_quiet());
        drop(peer);
        assert!(!ours.is_quiet());
    });
}

#[test]
fn one_who_waits_for_an_answer_is_woken_by_the_answer_only() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Known);
        let echo = std::thread::spawn(move || {
            let mut read = [0; 3];
            peer.read_exact(&mut read).unwrap();
            peer.write_all(&read).unwrap();
            peer
        });
        let mut polls = 0;
        ours.write_all(b"ask").await.unwrap();
        std::future::poll_fn(|cx| {
            polls += 1;
            ours.poll_taken(cx)
        })
        .await
        .unwrap();
        assert_eq!((polls, ours.taken()), (2, 3));
        let mut read = [0; 3];
        ours.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ask");
        drop(echo.join().unwrap());
    });
}

#[test]
fn a_connection_can_be_dropped_on_another_thread_but_not_used_there() {
    on_ring(async {
        let (mut ours, mut peer) = connected(Delivery::Known);
        turn();
        let elsewhere = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert!(!ours.is_quiet());
            assert!(runtime.block_on(ours.write_all(b"x")).is_err());
            assert!(runtime.block_on(ours.read(&mut [0])).is_err());
        });
        elsewhere.join().unwrap();
        until("it is gone", || count() == 0).await;
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn places_in_the_tables_are_used_again() {
    on_ring(async {
        for round in 0..300_u32 {
            let (mut ours, mut peer) = connected(if round % 2 == 0 { Delivery::Posted } else { Delivery::Known });
            peer.write_all(&round.to_be_bytes()).unwrap();
            assert_eq!(ours.read_u32().await.unwrap(), round);
            ours.write_u32(round).await.unwrap();
            ours.flush().await.unwrap();
            if round % 3 == 0 {
                turn();
            }
            drop(ours);
            assert!(count() < 10, "{} connections are left", count());
            tokio::task::yield_now().await;
            turn();
        }
    });
}

#[test]
fn a_ring_that_ends_with_open_connections_gives_everything_back() {
    let peers = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = peers.clone();
    on_ring(async move {
        let long = vec![7; 64 << 20];
        for number in 0..20 {
            let (mut ours, peer) = connected(Delivery::Posted);
            if number % 2 == 0 {
                assert!(tokio::time::timeout(Duration::from_millis(20), ours.write_all(&long)).await.is_err());
            }
            turn();
            kept.lock().unwrap().push((ours, peer));
        }
    });
    // Their ring is gone, and so are they.
    for (mut ours, mut peer) in peers.lock().unwrap().drain(..) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(ours.read(&mut [0])).is_err());
        drop(ours);
        // To the end, or to a reset.
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    }
}
