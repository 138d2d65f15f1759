//! tokio's rows about ends and times: cancel-…, timers-…, sleep-….
//!
//! Forced to be otherwise: the context is tokio-util's CancellationToken. tokio has no timer that runs a function: where
//! weir sets such a timer, timers-set, -reset, -stop and -one make a Sleep and poll it once, which is what puts it into
//! the timer wheel, and drop it to stop it; timers-due starts a task for each, which sleeps until then. context-timeout is
//! `timeout` around the end of a token, polled once, so that its timer is in the wheel when the token is cancelled. The
//! wheel counts milliseconds and never wakes early, so a sleep of 50 µs takes more than one millisecond.

use crate::report::*;
use crate::runtime::WaitGroup;
use std::future::{poll_fn, Future};
use std::pin::{pin, Pin};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::unconstrained;
use tokio::time::{sleep, sleep_until, timeout, Instant, Sleep};
use tokio_util::sync::CancellationToken;

struct Waiting {
    ready: WaitGroup,
    done: WaitGroup,
    count: AtomicI64, // of those who have heard
}

/// Starts n tasks that wait as `wait` does, cancels once all have come as far as that, and times until the last has ended.
async fn cancel<W>(row: &str, n: i64, token: CancellationToken, mut wait: impl FnMut() -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    let all = Arc::new(Waiting { ready: WaitGroup::new(n), done: WaitGroup::new(n), count: AtomicI64::new(0) });
    for _ in 0..n {
        let (all, wait) = (all.clone(), wait());
        tokio::spawn(async move {
            all.ready.done();
            wait.await;
            all.count.fetch_add(1, Relaxed);
            all.done.done();
        });
    }
    all.ready.wait().await;
    let start = Instant::now();
    token.cancel();
    all.done.wait().await;
    let total = start.elapsed();
    expect(row, all.count.load(Relaxed), n);
    print_each(row, total, n);
}

async fn cancel_waiters(row: &str, n: i64) {
    let token = CancellationToken::new();
    cancel(row, n, token.clone(), || token.clone().cancelled_owned()).await;
}

/// Each receives from one channel, which gets no element, and waits for the end as well.
async fn cancel_receivers(row: &str, n: i64) {
    let token = CancellationToken::new();
    let (_never, receiver) = broadcast::channel::<i64>(1);
    let wait = || {
        let (token, mut receiver) = (token.clone(), receiver.resubscribe());
        async move {
            tokio::select! {
                _ = token.cancelled() => {}
                _ = receiver.recv() => fail!("an element from nowhere"),
            }
        }
    };
    cancel(row, n, token.clone(), wait).await;
}

/// Each waits for the end of a child of the token, which is its own.
async fn cancel_children(row: &str, n: i64) {
    let token = CancellationToken::new();
    cancel(row, n, token.clone(), || token.child_token().cancelled_owned()).await;
}

/// The next of the sequence of numbers that all twins use.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

const HOUR: Duration = Duration::from_secs(3600);
const SEED: u64 = 88172645463325252;

/// An hour and up to a second, so that a new one belongs anywhere among those there are.
fn some_time(random: &mut u64) -> Duration {
    HOUR + Duration::from_nanos(next_random(random) % 1_000_000_000)
}

/// Polls something with a timer once, which puts the timer into the wheel.
async fn set(mut timer: Pin<&mut impl Future>) {
    poll_fn(|context| {
        if timer.as_mut().poll(context).is_ready() {
            fail!("a timer of a minute or an hour has run");
        }
        Poll::Ready(())
    })
    .await;
}

type Timers = Vec<Pin<Box<Sleep>>>;

async fn set_all(n: i64, random: &mut u64) -> Timers {
    let mut timers = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let mut timer = Box::pin(sleep(some_time(random)));
        set(timer.as_mut()).await;
        timers.push(timer);
    }
    timers
}

fn pending(timers: &Timers) -> i64 {
    timers.iter().filter(|timer| !timer.is_elapsed()).count() as i64
}

async fn timers_set(row: &str, n: i64) {
    let mut random = SEED;
    let start = Instant::now();
    let timers = set_all(n, &mut random).await;
    let total = start.elapsed();
    expect(row, pending(&timers), n);
    print_each(row, total, n);
}

async fn timers_reset(row: &str, n: i64) {
    let mut random = SEED;
    let mut timers = set_all(n, &mut random).await;
    let start = Instant::now();
    for timer in &mut timers {
        timer.as_mut().reset(Instant::now() + some_time(&mut random));
    }
    let total = start.elapsed();
    expect(row, pending(&timers), n);
    print_each(row, total, n);
}

async fn timers_stop(row: &str, n: i64) {
    let mut random = SEED;
    let timers = set_all(n, &mut random).await;
    expect(row, pending(&timers), n);
    let start = Instant::now();
    drop(timers);
    print_each(row, start.elapsed(), n);
}

/// Sets one and stops it, while no other is pending.
async fn timers_one(row: &str, n: i64) {
    let mut stopped = 0;
    let start = Instant::now();
    for _ in 0..n {
        let mut timer = pin!(sleep(HOUR));
        set(timer.as_mut()).await;
        stopped += !timer.is_elapsed() as i64;
    }
    let total = start.elapsed();
    expect(row, stopped, n);
    print_each(row, total, n);
}

/// Makes a token that is waited for with a timeout of a minute, and cancels it.
async fn context_timeout(row: &str, n: i64) {
    let mut cancelled = 0;
    let start = Instant::now();
    for _ in 0..n {
        let token = CancellationToken::new();
        let mut end = pin!(timeout(Duration::from_secs(60), token.cancelled()));
        set(end.as_mut()).await;
        token.cancel();
        cancelled += end.await.is_ok() as i64;
    }
    let total = start.elapsed();
    expect(row, cancelled, n);
    print_each(row, total, n);
}

/// From the moment at which N tasks are to wake until the last has.
async fn timers_due(row: &str, n: i64) {
    let all = Arc::new(Waiting { ready: WaitGroup::new(n), done: WaitGroup::new(n), count: AtomicI64::new(0) });
    // So much time that all are set before the first is due, or the row would time the setting.
    let when = Instant::now() + Duration::from_millis(500) + Duration::from_micros(5 * n as u64);
    for _ in 0..n {
        let all = all.clone();
        tokio::spawn(async move {
            all.ready.done();
            sleep_until(when).await;
            all.count.fetch_add(1, Relaxed);
            all.done.done();
        });
    }
    all.ready.wait().await;
    if Instant::now() >= when {
        fail!("{row}: setting {n} timers took until they were due");
    }
    all.done.wait().await;
    let total = when.elapsed();
    expect(row, all.count.load(Relaxed), n);
    print_each(row, total, n);
}

/// How much later than asked a sleep returns.
async fn sleep_late(row: &str, n: i64, nap: Duration) {
    let mut late = Vec::with_capacity(n as usize);
    for _ in 0..n {
        let start = Instant::now();
        sleep(nap).await;
        match start.elapsed().checked_sub(nap) {
            Some(more) => late.push(more.as_nanos() as i64),
            None => fail!("{row}: woke early"),
        }
    }
    print_percentiles(row, &mut late);
}

/// Runs the row; false if it is not here.
pub async fn run(row: &str, n: i64) -> bool {
    match row {
        "cancel-waiters" => cancel_waiters(row, n).await,
        "cancel-receivers" => cancel_receivers(row, n).await,
        "cancel-children" => cancel_children(row, n).await,
        // Not constrained by the budget: to poll a timer that is not due counts as work there.
        "timers-set" => unconstrained(timers_set(row, n)).await,
        "timers-reset" => unconstrained(timers_reset(row, n)).await,
        "timers-stop" => unconstrained(timers_stop(row, n)).await,
        "timers-one" => unconstrained(timers_one(row, n)).await,
        "context-timeout" => unconstrained(context_timeout(row, n)).await,
        "timers-due" => timers_due(row, n).await,
        "sleep-50us" => sleep_late(row, n, Duration::from_micros(50)).await,
        "sleep-1ms" => sleep_late(row, n, Duration::from_millis(1)).await,
        _ => return false,
    }
    true
}
