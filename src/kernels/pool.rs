//! Threads that share the work of one kernel.
//!
//! A kernel cuts its work into parts that write to different places, and `run` has them done by
//! the caller and by helpers that wait for nothing else. Which thread does a part changes no bit of it.
//! Calls come every few microseconds, so helpers spin for a while before they sleep, and the caller
//! waits only for helpers that have begun.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::Mutex;
use std::thread::{self, Thread};
use std::vec::Vec;

/// Most threads that [`set_threads`] takes.
pub const MOST: usize = 256;

/// Rounds that a helper spins before it sleeps, and a caller before it lets others run.
const SPINS: u32 = 10_000;

/// A job is open to helpers.
const OPEN: u64 = 1 << 31;
/// One helper more is inside the job; as many as fit below [`OPEN`].
const INSIDE: u64 = 1;
/// One job more.
const JOB: u64 = 1 << 32;

/// What is to be done: parts of work, behind a pointer whose lifetime was forgotten.
#[derive(Clone, Copy)]
struct Job {
    part: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

/// The one pool of the process.
struct Pool {
    /// Threads that may compute at a time, the caller among them.
    threads: AtomicUsize,
    /// A caller has the pool.
    taken: AtomicBool,
    /// Number of the job, whether it is open, and the helpers inside.
    state: AtomicU64,
    /// The job that is open. Written while none is open and no helper is inside.
    job: UnsafeCell<Option<Job>>,
    /// The next part that nobody does yet.
    next: AtomicUsize,
    /// Helpers that sleep, or are about to.
    asleep: AtomicUsize,
    helpers: Mutex<Vec<Thread>>,
}

// SAFETY: `job` is written by the one caller that has the pool, while no helper is inside and none can
// enter; helpers read it only inside.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool {
    threads: AtomicUsize::new(1),
    taken: AtomicBool::new(false),
    state: AtomicU64::new(0),
    job: UnsafeCell::new(None),
    next: AtomicUsize::new(0),
    asleep: AtomicUsize::new(0),
    helpers: Mutex::new(Vec::new()),
};

/// Lets kernels use so many threads (1 … [`MOST`]), the calling one among them; 1 to begin with. Gives
/// how many there are: fewer if the system does not give more.
///
/// The number holds for the process. Sessions that compute at the same time do not share helpers: the
/// first one has them until its kernel is done, the others go on alone.
pub fn set_threads(threads: usize) -> usize {
    let wanted = threads.clamp(1, MOST);
    let Ok(mut helpers) = POOL.helpers.lock() else {
        return POOL.threads.load(SeqCst);
    };
    while helpers.len() < wanted - 1 {
        let index = helpers.len();
        let helper = thread::Builder::new().name("palmtop".into());
        match helper.spawn(move || POOL.help(index)) {
            Ok(handle) => helpers.push(handle.thread().clone()),
            Err(_) => break,
        }
    }
    let threads = wanted.min(helpers.len() + 1);
    POOL.threads.store(threads, SeqCst);
    threads
}

/// Threads that kernels may use.
#[inline]
pub fn threads() -> usize {
    POOL.threads.load(core::sync::atomic::Ordering::Relaxed)
}

/// Calls `part` with each of 0 … `parts` − 1, in any order, several at a time, and returns when all are
/// done.
pub(crate) fn run(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    if parts <= 1 || threads() <= 1 || POOL.taken.swap(true, SeqCst) {
        (0..parts).for_each(part);
        return;
    }
    // SAFETY: only the lifetime changes. `Closing` waits, even if a part panics, until no helper can
    // call it any more.
    let part = unsafe {
        core::mem::transmute::<
            *const (dyn Fn(usize) + Sync + '_),
            *const (dyn Fn(usize) + Sync + 'static),
        >(part)
    };
    let job = Job { part, parts };
    // SAFETY: this caller has the pool, and the last one waited until nobody was inside.
    unsafe { *POOL.job.get() = Some(job) };
    POOL.next.store(0, SeqCst);
    let closing = Closing;
    POOL.state.fetch_add(JOB | OPEN, SeqCst);
    if POOL.asleep.load(SeqCst) > 0
        && let Ok(helpers) = POOL.helpers.lock()
    {
        helpers.iter().for_each(Thread::unpark);
    }
    POOL.work(job);
    drop(closing);
}

/// Calls `set` with each whole row of `width` values, and its index, several at a time where a row that
/// costs as much as `cost` multiplications is worth it.
pub(crate) fn each_row(
    rows: &mut [f32],
    width: usize,
    cost: usize,
    set: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let width = width.max(1);
    let whole = rows.len() / width * width;
    let rows = rows.get_mut(..whole).unwrap_or_default();
    each_part(rows, width, cost, &|first, rows| {
        for (row, index) in rows.chunks_exact_mut(width).zip(first / width..) {
            set(index, row);
        }
    });
}

/// Calls `set` with parts of the values, and the index of each part's first, several at a time: units
/// of `unit` values, the last of which may be smaller, where one that costs as much as `cost`
/// multiplications is worth it.
pub(crate) fn each_part(
    values: &mut [f32],
    unit: usize,
    cost: usize,
    set: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    /// Memory of which threads write different parts.
    struct Values(*mut f32);
    // SAFETY: parts have different values.
    unsafe impl Sync for Values {}
    impl Values {
        fn at(&self, value: usize) -> *mut f32 {
            self.0.wrapping_add(value)
        }
    }
    let (unit, count) = (unit.max(1), values.len());
    let values = Values(values.as_mut_ptr());
    let (parts, size) = cut(count.div_ceil(unit), cost);
    run(parts, &|part| {
        let first = part * size * unit;
        let len = (size * unit).min(count - first);
        // SAFETY: these values are within the borrowed memory, and this part's alone.
        set(first, unsafe {
            core::slice::from_raw_parts_mut(values.at(first), len)
        });
    });
}

/// Ends a job when it is dropped.
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        let mut state = POOL.state.fetch_and(!OPEN, SeqCst) & !OPEN;
        let mut spins = 0;
        while !state.is_multiple_of(OPEN) {
            wait(&mut spins);
            state = POOL.state.load(SeqCst);
        }
        POOL.taken.store(false, SeqCst);
    }
}

impl Pool {
    /// Does parts until there are no more.
    fn work(&self, job: Job) {
        loop {
            let index = self.next.fetch_add(1, SeqCst);
            if index >= job.parts {
                return;
            }
            // SAFETY: the caller waits in `Closing` before the function goes.
            unsafe { (*job.part)(index) };
        }
    }

    /// What helper `index` does all its life.
    fn help(&self, index: usize) {
        let mut done = 0;
        let mut spins = 0;
        loop {
            let state = self.state.load(SeqCst);
            let job = state / JOB;
            if state & OPEN > 0 && job != done && index + 1 < self.threads.load(SeqCst) {
                let entered =
                    self.state
                        .compare_exchange(state, state.wrapping_add(INSIDE), SeqCst, SeqCst);
                if entered.is_err() {
                    continue;
                }
                done = job;
                spins = 0;
                let inside = Inside;
                // SAFETY: the job is open or at least not over while this helper is inside.
                if let Some(job) = unsafe { *self.job.get() } {
                    self.work(job);
                }
                drop(inside);
                continue;
            }
            if spins < SPINS {
                spins += 1;
                spin_loop();
                continue;
            }
            // A job that is opened after this is announced wakes the helper; one that was opened
            // before is seen here.
            self.asleep.fetch_add(1, SeqCst);
            if self.state.load(SeqCst) == state {
                thread::park();
            }
            self.asleep.fetch_sub(1, SeqCst);
            spins = 0;
        }
    }
}

/// A helper is inside a job until this is dropped.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        if thread::panicking() {
            // Kernels do not panic. If one did all the same, its part would be missing.
            std::process::abort();
        }
        POOL.state.fetch_sub(INSIDE, SeqCst);
    }
}

/// Spins, or lets another thread run after a while: the one that is waited for may have no processor.
fn wait(spins: &mut u32) {
    if *spins < SPINS {
        *spins += 1;
        spin_loop();
    } else {
        thread::yield_now();
    }
}

/// Multiplications of a part that is worth its while: some microseconds.
static LEAST: AtomicUsize = AtomicUsize::new(1 << 17);

/// For tests: cuts work into parts however small it is.
#[doc(hidden)]
pub fn cut_finely() {
    LEAST.store(1, SeqCst);
}

/// Parts into which `units` units of work, of `cost` multiplications each, are worth cutting, and units
/// of each: not so small that handing them out costs more than it gains.
pub(crate) fn cut(units: usize, cost: usize) -> (usize, usize) {
    /// Parts for each thread, so that one that is held up does fewer, and that a few units are shared
    /// out evenly.
    const PARTS: usize = 4;
    let worth = units.saturating_mul(cost) / LEAST.load(core::sync::atomic::Ordering::Relaxed);
    let threads = threads();
    let wanted = if threads > 1 { threads * PARTS } else { 1 };
    let size = units.div_ceil(wanted.min(worth).max(1)).max(1);
    (units.div_ceil(size), size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One after another: the pool is the process's.
    static ALONE: Mutex<()> = Mutex::new(());

    fn sums(parts: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        run(parts, &|index| {
            counts[index].fetch_add(index + 1, SeqCst);
        });
        counts.iter().map(|count| count.load(SeqCst)).collect()
    }

    #[test]
    fn every_part_is_done_once() {
        let _alone = ALONE.lock();
        for threads in [1, 2, 3, 8, 1, 5] {
            assert_eq!(set_threads(threads), threads);
            for round in 0..3000 {
                let parts = round % 37;
                assert!(sums(parts).into_iter().eq(1..=parts));
            }
            // Long enough for helpers to fall asleep.
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(sums(64).into_iter().eq(1..=64));
        }
        set_threads(1);
    }

    #[test]
    fn others_do_not_wait_for_helpers_that_are_busy() {
        let _alone = ALONE.lock();
        set_threads(3);
        let done = AtomicUsize::new(0);
        run(8, &|_| {
            // A part that has parts, and a second caller.
            run(5, &|_| {
                done.fetch_add(1, SeqCst);
            });
        });
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        assert!(sums(11).into_iter().eq(1..=11));
                    }
                });
            }
        });
        assert_eq!(done.load(SeqCst), 40);
        set_threads(1);
    }

    #[test]
    fn a_panic_leaves_the_pool_usable() {
        let _alone = ALONE.lock();
        set_threads(2);
        let caller = thread::current().id();
        let result = std::panic::catch_unwind(|| {
            run(1000, &|_| {
                assert!(thread::current().id() != caller, "on purpose");
            });
        });
        // Helpers may have done all parts before the caller took one.
        let _ = result;
        for _ in 0..100 {
            assert!(sums(20).into_iter().eq(1..=20));
        }
        set_threads(1);
    }

    #[test]
    fn each_row_is_set_once() {
        let _alone = ALONE.lock();
        for threads in [1, 3] {
            set_threads(threads);
            for (count, width, cost) in [(0, 5, 1 << 20), (7, 5, 1 << 20), (400, 1, 1 << 10)] {
                // A value is left over.
                let mut values = std::vec![1.0; count * width + usize::from(width > 1)];
                each_row(&mut values, width, cost, &|index, row| {
                    row.iter_mut().for_each(|value| *value += index as f32);
                });
                for (at, value) in values.iter().enumerate() {
                    let index = if at < count * width { at / width } else { 0 };
                    assert_eq!(*value, 1.0 + index as f32);
                }
            }
        }
        set_threads(1);
    }

    #[test]
    fn each_value_is_in_one_part() {
        let _alone = ALONE.lock();
        for threads in [1, 3] {
            set_threads(threads);
            for (count, unit) in [(0, 5), (4, 5), (23, 5), (400, 7), (96, 16), (1000, 1)] {
                let mut values = std::vec![0.0; count];
                each_part(&mut values, unit, 1 << 18, &|first, part| {
                    assert!(first.is_multiple_of(unit));
                    for (value, index) in part.iter_mut().zip(first..) {
                        *value += 1.0 + index as f32;
                    }
                });
                let wanted = (0..count).map(|index| 1.0 + index as f32);
                assert!(values.into_iter().eq(wanted));
            }
        }
        set_threads(1);
    }

    #[test]
    fn work_is_cut_where_it_pays() {
        let _alone = ALONE.lock();
        set_threads(1);
        assert_eq!(cut(100, 1 << 20), (1, 100));
        set_threads(2);
        assert_eq!(cut(100, 1 << 20), (8, 13));
        assert_eq!(cut(100, 1), (1, 100));
        assert_eq!(cut(1, 1 << 30), (1, 1));
        assert_eq!(cut(0, 1 << 20).0, 0);
        assert_eq!(cut(5, 1 << 20), (5, 1));
        set_threads(1);
    }
}
