//! One gateway: its clocks, its processes one after the other, and the way of a request through it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::fleet;
use super::Leaves;
use crate::clock::Clock;
use crate::credential::SaltId;
use crate::process::Fleet;
use crate::replay::simulated::{RedisWorld, Stopped, wall};
use crate::replay::{ClaimRefused, Mark, OutOfWindow, SpentSalts, Unavailable, Window};
use crate::safeguard::{Freeze, NoPermit};

/// `safeguard.lease`.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// A header: what a client signed once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) salt: SaltId,
    pub(super) date: SystemTime,
    pub(super) key: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    /// The salt was spent by this request, and the deletion was sent.
    Sent,
    /// The salt was spent, and nothing was sent: it was frozen meanwhile, or the lease had ended.
    SpentInVain,
    Reused,
    Window,
    BelowFloor,
    /// No claim was possible; nothing was spent.
    Unavailable,
    /// The claim had no answer.
    Unknown,
    FreezeUnknown,
    /// The gateway was not running.
    Down,
}

/// See the module.
pub(super) struct Gateway {
    pub(super) number: usize,
    world: Arc<RedisWorld>,
    pub(super) clock: Clock,
    /// How far its wall clock is ahead, in milliseconds.
    ahead: Arc<AtomicI64>,
    pub(super) stopped: Stopped,
    process: Mutex<Option<Arc<Running>>>,
    /// What its file says is frozen.
    kept: Mutex<(u64, String)>,
    is_fleet: bool,
}

/// A process. Its tasks end with it.
pub(super) struct Running {
    salts: Arc<dyn SpentSalts>,
    pub(super) freeze: Arc<Freeze>,
    pub(super) fleet: Option<Fleet>,
    tasks: Mutex<JoinSet<()>>,
}

impl Gateway {
    /// Its clocks run too fast by `drift` parts in a million, less 1000.
    pub(super) fn new(number: usize, world: &Arc<RedisWorld>, is_fleet: bool, drift: u32) -> Arc<Self> {
        let ahead = Arc::new(AtomicI64::new(0));
        let (began, offset) = (Instant::now(), ahead.clone());
        let clock = Clock::simulated(move || {
            let passed = began.elapsed();
            let passed = passed + passed * drift / 1_000_000 - passed / 1000;
            // The machine was booted some time ago.
            let elapsed = Duration::from_secs(7200) + passed;
            (wall(passed, offset.load(Ordering::Relaxed)), elapsed)
        });
        let gateway = Arc::new(Self {
            number,
            world: world.clone(),
            clock,
            ahead,
            stopped: Stopped::default(),
            process: Mutex::default(),
            kept: Mutex::default(),
            is_fleet,
        });
        gateway.start();
        gateway
    }

    pub(super) fn start(&self) {
        let (store, watching) = self.world.store(self.number, self.clock.clone(), &self.stopped);
        let salts: Arc<dyn SpentSalts> = Arc::new(store);
        let mut tasks = JoinSet::new();
        tasks.spawn(watching);
        let fleet = self.is_fleet.then(|| Fleet { store: salts.fleet().unwrap(), lease: LEASE });
        let mut freeze = Freeze::none();
        if let Some(Fleet { lease, store }) = &fleet {
            freeze = freeze.for_fleet(self.clock.clone(), *lease).unwrap();
            let (version, state) = self.kept.lock().unwrap().clone();
            if version > 0 {
                freeze.hear(version, &state, Duration::ZERO).unwrap();
            }
            let reading = Fleet { store: store.clone(), lease: *lease };
            let freeze = Arc::new(freeze);
            let (mine, clock) = (freeze.clone(), self.clock.clone());
            tasks.spawn(async move { fleet::read_again_and_again(&mine, &clock, &reading).await });
            let running = Running { salts, freeze, fleet, tasks: Mutex::new(tasks) };
            *self.process.lock().unwrap() = Some(Arc::new(running));
            return;
        }
        let running = Running { salts, freeze: Arc::new(freeze), fleet, tasks: Mutex::new(tasks) };
        *self.process.lock().unwrap() = Some(Arc::new(running));
    }

    /// Ends the process in the middle of everything.
    pub(super) fn crash(&self) {
        let Some(running) = self.process.lock().unwrap().take() else { return };
        let (version, state, _) = running.freeze.told();
        *self.kept.lock().unwrap() = (version, state);
        running.tasks.lock().unwrap().abort_all();
    }

    pub(super) fn running(&self) -> Option<Arc<Running>> {
        self.process.lock().unwrap().clone()
    }

    pub(super) fn set_clock(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Lets a request arrive. It goes its way even if whoever sent it does not wait.
    pub(super) fn arrives(self: &Arc<Self>, header: Header, window: Window, leaves: &Arc<Leaves>) {
        let Some(running) = self.running() else { return leaves.counts(Ended::Down) };
        let (gateway, process, leaves) = (self.clone(), Arc::downgrade(&running), leaves.clone());
        let mut tasks = running.tasks.lock().unwrap();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let Some(process) = process.upgrade() else { return };
            let ended = gateway.request(&process, header, window, &leaves).await;
            leaves.counts(ended);
        });
    }

    async fn request(&self, process: &Running, header: Header, window: Window, leaves: &Leaves) -> Ended {
        self.stopped.goes_on().await;
        let Running { salts, freeze, .. } = process;
        match window.judge(header.date, self.clock.now(), salts.floor_of(header.salt)) {
            Ok(()) => {}
            Err(OutOfWindow::BelowFloor) => return Ended::BelowFloor,
            Err(_) => return Ended::Window,
        }
        let (account, key) = names(header.key);
        if !freeze.is_known() {
            return Ended::FreezeUnknown;
        }
        let reservation = match salts.reserve(&key) {
            Ok(reservation) => reservation,
            Err(Unavailable::Full | Unavailable::KeyShare | Unavailable::OutOfReach) => return Ended::Unavailable,
        };
        if salts.reach(header.salt).known().await.is_err() {
            return Ended::Unavailable;
        }
        let mark = Mark::new([0; 16], u128::from(leaves.next_mark()).to_be_bytes());
        match salts.claim(reservation, header.salt, header.date, window, mark).answer().await {
            Ok(()) => leaves.passes(header, self.number),
            Err(ClaimRefused::Reused | ClaimRefused::ReusedBy(_)) => return Ended::Reused,
            Err(ClaimRefused::OutOfWindow(OutOfWindow::BelowFloor)) => return Ended::BelowFloor,
            Err(ClaimRefused::OutOfWindow(_)) => return Ended::Window,
            Err(ClaimRefused::KeyShare) => return Ended::Unavailable,
            Err(ClaimRefused::Unknown) => return Ended::Unknown,
        }
        // The owner is looked up, and the intent recorded.
        sleep(leaves.some_time()).await;
        self.stopped.goes_on().await;
        let permit = match freeze.permit(&account, &key) {
            Ok(permit) => permit,
            Err(NoPermit::Frozen | NoPermit::Unknown) => return Ended::SpentInVain,
        };
        // The connection to the service is made.
        sleep(leaves.some_time()).await;
        self.stopped.goes_on().await;
        if permit.lease().is_none_or(|lease| lease.holds()) || leaves.ignores_leases {
            leaves.sends(header, self.number);
            return Ended::Sent;
        }
        Ended::SpentInVain
    }
}

/// The account and the apiKey with this number.
pub(super) fn names(key: usize) -> (String, String) {
    (format!("account-{}", key % 3), format!("KEY-{key}"))
}
