//! When to measure: a warm-up, then the window; and the measurements.

use std::time::{Duration, Instant};

/// Counts answers and times them.
pub struct Tally {
    begin: Instant,
    warmup: Duration,
    length: Duration,
    /// The length of the window as a number of answers, in place of a time.
    requests: Option<u64>,
    pids: Vec<u32>,
    opened: Option<Opened>,
    closed: Option<Closed>,
    /// Nanoseconds.
    latencies: Vec<u64>,
    /// Connections that the peer closed between two requests, and that were opened again.
    pub reopened: u64,
}

struct Opened {
    at: Instant,
    peer: f64,
    own: f64,
}

struct Closed {
    seconds: f64,
    peer: f64,
    own: f64,
    /// How many answers had arrived by then.
    answers: usize,
}

impl Tally {
    pub fn new(warmup: f64, seconds: f64, requests: Option<u64>, pids: Vec<u32>) -> Self {
        Self {
            begin: Instant::now(),
            warmup: Duration::from_secs_f64(warmup),
            length: if requests.is_some() { Duration::from_secs(600) } else { Duration::from_secs_f64(seconds) },
            requests,
            pids,
            opened: None,
            closed: None,
            latencies: Vec::with_capacity(1 << 20),
            reopened: 0,
        }
    }

    /// Starts the warm-up.
    pub fn begin(&mut self) {
        self.begin = Instant::now();
    }

    /// Opens or closes the window if it is time; returns whether it is closed.
    pub fn turn(&mut self, now: Instant) -> Result<bool, String> {
        match &self.opened {
            None if now >= self.begin + self.warmup => {
                self.opened = Some(Opened { at: Instant::now(), peer: self.peer()?, own: cpu(std::process::id())? });
            }
            Some(opened) if self.closed.is_none() && (now >= opened.at + self.length || self.is_enough()) => {
                self.closed = Some(Closed {
                    seconds: opened.at.elapsed().as_secs_f64(),
                    peer: self.peer()? - opened.peer,
                    own: cpu(std::process::id())? - opened.own,
                    answers: self.latencies.len(),
                });
            }
            _ => {}
        }
        Ok(self.closed.is_some())
    }

    /// When the window opens or closes.
    pub fn next_turn(&self) -> Instant {
        self.opened.as_ref().map_or(self.begin + self.warmup, |opened| opened.at + self.length)
    }

    /// Whether a request that is due at `due` is measured.
    pub fn takes(&self, due: Instant) -> bool {
        self.opened.as_ref().is_some_and(|opened| opened.at <= due && due < opened.at + self.length)
    }

    /// Counts a correct answer to the request that was due then.
    pub fn answered(&mut self, due: Instant, now: Instant) {
        if self.opened.is_some() {
            self.latencies.push(u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Whether the wanted number of answers has arrived.
    pub fn is_enough(&self) -> bool {
        self.requests.is_some_and(|requests| self.latencies.len() as u64 >= requests)
    }

    /// The measurement.
    pub fn line(mut self) -> Result<String, String> {
        let closed = self.closed.ok_or("the window never closed")?;
        if closed.answers == 0 {
            return Err("not one request was answered within the window".to_owned());
        }
        let (answers, seconds) = (closed.answers as f64, closed.seconds);
        self.latencies.sort_unstable();
        let at = |part: f64| {
            let place = (self.latencies.len() as f64 * part).ceil() as usize;
            self.latencies[place.clamp(1, self.latencies.len()) - 1] as f64 / 1e3
        };
        Ok(format!(
            r#"{{"answers":{answers},"seconds":{seconds:.4},"rate":{:.1},"cpu_us":{:.4},"cpu_share":{:.4},"load_cpu_us":{:.4},"p50_us":{:.1},"p99_us":{:.1},"p999_us":{:.1},"timed":{},"reopened":{}}}"#,
            answers / seconds,
            closed.peer * 1e6 / answers,
            closed.peer / seconds,
            closed.own * 1e6 / answers,
            at(0.5),
            at(0.99),
            at(0.999),
            self.latencies.len(),
            self.reopened,
        ))
    }

    fn peer(&self) -> Result<f64, String> {
        self.pids.iter().map(|&pid| cpu(pid)).sum()
    }
}

/// Seconds that a process has run, in all threads that it has now.
fn cpu(pid: u32) -> Result<f64, String> {
    let gone = |error| format!("process {pid} cannot be measured: {error}");
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)? {
        // A thread may end before it is read.
        let Ok(told) = std::fs::read_to_string(thread.map_err(gone)?.path().join("schedstat")) else { continue };
        nanoseconds += told.split_whitespace().next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e9)
}
