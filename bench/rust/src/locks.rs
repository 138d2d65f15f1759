//! tokio's rows about locks: mutex-…, rwmutex-…, once.
//!
//! These are tokio's locks, whose waiters are tasks, as weir's waiters are goroutines; they hand over in order of
//! arrival. For a section as short as this one tokio's documentation recommends std::sync::Mutex, which blocks the whole
//! worker: another lock, and not what the row is about. once is a OnceCell whose first get_or_init does it.

use crate::report::*;
use crate::runtime::{Gate, WaitGroup};
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OnceCell, RwLock};

/// Turns at something, shared by so many tasks, which wait for the gate when the clock starts; how long all took.
async fn contend<T>(tasks: i64, turns: impl Fn() -> T) -> Duration
where
    T: Future<Output = ()> + Send + 'static,
{
    let groups = Arc::new((WaitGroup::new(tasks), WaitGroup::new(tasks)));
    let (open, gate) = Gate::new();
    for _ in 0..tasks {
        let (groups, gate, turns) = (groups.clone(), gate.another(), turns());
        tokio::spawn(async move {
            groups.0.done();
            gate.pass().await;
            turns.await;
            groups.1.done();
        });
    }
    groups.0.wait().await;
    let start = Instant::now();
    drop(open);
    groups.1.wait().await;
    start.elapsed()
}

/// How many turns each task has.
fn share(row: &str, n: i64, tasks: i64) -> i64 {
    match n / tasks {
        0 => fail!("{row}: fewer turns than tasks"),
        each => each,
    }
}

async fn lock_turns(mutex: Arc<Mutex<i64>>, n: i64) {
    for _ in 0..n {
        *mutex.lock().await += 1;
    }
}

async fn mutex_alone(row: &str, n: i64) {
    let mutex = Arc::new(Mutex::new(0));
    let start = Instant::now();
    lock_turns(mutex.clone(), n).await;
    let total = start.elapsed();
    expect(row, *mutex.lock().await, n);
    print_each(row, total, n);
}

async fn mutex_among(row: &str, n: i64, tasks: i64) {
    let each = share(row, n, tasks);
    let mutex = Arc::new(Mutex::new(0));
    let total = contend(tasks, || lock_turns(mutex.clone(), each)).await;
    expect(row, *mutex.lock().await, each * tasks);
    print_each(row, total, each * tasks);
}

/// As mutex-16, but each turn looks at the clock before and after its wait.
async fn mutex_longest(row: &str, n: i64) {
    let each = share(row, n, 16);
    let mutex = Arc::new(Mutex::new((0, Duration::ZERO)));
    let turns = || {
        let mutex = mutex.clone();
        async move {
            let mut longest = Duration::ZERO;
            for _ in 0..each {
                let start = Instant::now();
                let mut locked = mutex.lock().await;
                let waited = start.elapsed();
                locked.0 += 1;
                drop(locked);
                longest = longest.max(waited);
            }
            let mut locked = mutex.lock().await;
            locked.1 = locked.1.max(longest);
        }
    };
    contend(16, turns).await;
    let (locked, longest) = *mutex.lock().await;
    expect(row, locked, each * 16);
    println!("{row} {:.1} us", longest.as_nanos() as f64 / 1e3);
}

/// One turn in ten writes.
async fn rw_turns(lock: Arc<(RwLock<i64>, AtomicI64)>, n: i64) {
    let mut seen = 0;
    for i in 0..n {
        if i % 10 == 9 {
            *lock.0.write().await += 1;
        } else {
            seen += (*lock.0.read().await >= 0) as i64;
        }
    }
    lock.1.fetch_add(seen, Relaxed);
}

async fn rwmutex_alone(row: &str, n: i64) {
    let lock = Arc::new((RwLock::new(0), AtomicI64::new(0)));
    let start = Instant::now();
    rw_turns(lock.clone(), n).await;
    let total = start.elapsed();
    expect(row, *lock.0.read().await, n / 10);
    expect(row, lock.1.load(Relaxed), n - n / 10);
    print_each(row, total, n);
}

async fn rwmutex_16(row: &str, n: i64) {
    let each = share(row, n, 16);
    let lock = Arc::new((RwLock::new(0), AtomicI64::new(0)));
    let total = contend(16, || rw_turns(lock.clone(), each)).await;
    expect(row, *lock.0.read().await, 16 * (each / 10));
    expect(row, lock.1.load(Relaxed), 16 * (each - each / 10));
    print_each(row, total, 16 * each);
}

/// N times, of which the first does it.
async fn once(row: &str, n: i64) {
    static ONLY: OnceCell<()> = OnceCell::const_new();
    static LOCKED: AtomicI64 = AtomicI64::new(0);
    let start = Instant::now();
    for _ in 0..n {
        let count = || async {
            LOCKED.fetch_add(1, Relaxed);
        };
        ONLY.get_or_init(count).await;
    }
    let total = start.elapsed();
    expect(row, LOCKED.load(Relaxed), 1);
    print_each(row, total, n);
}

/// Runs the row; false if it is not here.
pub async fn run(row: &str, n: i64) -> bool {
    match row {
        "mutex-alone" => mutex_alone(row, n).await,
        "mutex-2" => mutex_among(row, n, 2).await,
        "mutex-16" => mutex_among(row, n, 16).await,
        "mutex-1000" => mutex_among(row, n, 1000).await,
        "mutex-16-longest" => mutex_longest(row, n).await,
        "rwmutex-alone" => rwmutex_alone(row, n).await,
        "rwmutex-16" => rwmutex_16(row, n).await,
        "once" => once(row, n).await,
        _ => return false,
    }
    true
}
