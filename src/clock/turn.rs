//! What the clocks showed earlier in this turn of a worker's event loop.
//!
//! Most of what a request asks the clock for needs no exact time: timeouts of seconds, a date with whole seconds, how long a
//! part of it took. All of a turn share one reading for that. What decides whether something is valid reads the clock itself.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

/// After how many uses a reading is repeated, because a turn with much to do is long: some twenty requests.
const USES: u8 = 64;

thread_local! {
    /// The number of this thread's turn; 0 if nobody says when its turns begin. Then every reading is a new one.
    static TURN: Cell<u64> = const { Cell::new(0) };
    static WALL: KeptReading<SystemTime> = const { KeptReading::new() };
    static ELAPSED: KeptReading<Duration> = const { KeptReading::new() };
}

/// Begins a turn of this thread. The hook of a worker's runtime after it has slept.
pub(crate) fn begin() {
    TURN.set(TURN.get() + 1);
}

/// A reading of a clock, in which turn it was made, and how often it may still be used.
pub(crate) struct KeptReading<T>(Cell<Option<(T, u64, u8)>>);

impl<T: Copy> KeptReading<T> {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// The reading of this turn; makes it if there is none.
    pub(crate) fn get(&self, read: impl FnOnce() -> T) -> T {
        let turn = TURN.get();
        if let Some((value, of, left @ 1..)) = self.0.get()
            && of == turn
        {
            self.0.set(Some((value, of, left - 1)));
            return value;
        }
        let value = read();
        self.0.set((turn != 0).then_some((value, turn, USES)));
        value
    }
}

pub(super) fn wall(read: impl FnOnce() -> SystemTime) -> SystemTime {
    WALL.with(|wall| wall.get(read))
}

pub(super) fn elapsed(read: impl FnOnce() -> Duration) -> Duration {
    ELAPSED.with(|elapsed| elapsed.get(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a thread of its own, because a thread that has begun a turn has turns from then on.
    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn a_reading_lasts_for_a_turn_but_not_for_a_long_one() {
        in_a_thread(|| {
            let shows = Cell::new(Duration::ZERO);
            let read = || {
                shows.set(shows.get() + Duration::from_secs(1));
                shows.get()
            };
            let seconds = || elapsed(read).as_secs();
            assert_eq!([seconds(), seconds()], [1, 2], "nobody tells when a turn begins");
            begin();
            assert_eq!([seconds(), seconds(), seconds()], [3, 3, 3]);
            begin();
            assert_eq!([seconds(), seconds()], [4, 4], "another turn");
            let uses = (0..1000).map_while(|_| (seconds() == 4).then_some(())).count();
            assert!(uses < 100, "{uses}: a turn without an end would stop the clock");
        });
    }
}
