//! tokio's rows about tasks themselves: yield, spawn, parked, sieve, skynet, fib.
//!
//! Forced to be otherwise: tokio has no channel without a buffer. In sieve it is one of capacity 1, the smallest; in
//! skynet one that holds all ten children's numbers, in fib a oneshot for each child, which is what their users take. The
//! channel on which many wait (yield, parked) is a watch channel, the one on which all receivers hear of the close.
//! yield_now puts a task behind all others, timers included, as documented. A spawned task that starts more of its own
//! kind cannot be an `async fn` that spawns itself: start_… stands between.

use crate::report::*;
use crate::runtime::{Gate, WaitGroup};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

struct Yielders {
    ready: WaitGroup,
    done: WaitGroup,
    sum: AtomicI64,
}

/// N yields in all, shared by so many tasks, which are started and waiting when the clock starts.
async fn yield_among(row: &str, n: i64, tasks: i64) {
    let each = n / tasks;
    if each == 0 {
        fail!("{row}: fewer yields than tasks");
    }
    let all = Arc::new(Yielders { ready: WaitGroup::new(tasks), done: WaitGroup::new(tasks), sum: AtomicI64::new(0) });
    let (open, gate) = Gate::new();
    for _ in 0..tasks {
        let (all, gate) = (all.clone(), gate.another());
        tokio::spawn(async move {
            all.ready.done();
            gate.pass().await;
            for _ in 0..each {
                tokio::task::yield_now().await;
            }
            all.sum.fetch_add(each, Relaxed);
            all.done.done();
        });
    }
    all.ready.wait().await;
    let start = Instant::now();
    drop(open);
    all.done.wait().await;
    let total = start.elapsed();
    expect(row, all.sum.load(Relaxed), each * tasks);
    print_each(row, total, each * tasks);
}

/// Tasks that do nothing much, a batch at a time: they are waited for through their handles.
async fn spawn_in(row: &str, n: i64, batch: i64) {
    let n = n - n % batch;
    let sum = Arc::new(AtomicI64::new(0));
    let mut handles = Vec::with_capacity(batch as usize);
    let start = Instant::now();
    for _ in 0..n / batch {
        for _ in 0..batch {
            let sum = sum.clone();
            handles.push(tokio::spawn(async move { sum.fetch_add(1, Relaxed) }));
        }
        for handle in handles.drain(..) {
            handle.await.unwrap();
        }
    }
    let total = start.elapsed();
    expect(row, sum.load(Relaxed), n);
    print_each(row, total, n);
}

struct Parkers {
    ready: WaitGroup,
    done: WaitGroup,
    woken: AtomicI64,
}

async fn parked(row: &str, n: i64) {
    let all = Arc::new(Parkers { ready: WaitGroup::new(n), done: WaitGroup::new(n), woken: AtomicI64::new(0) });
    let (open, gate) = Gate::new();
    let before = memory();
    let start = Instant::now();
    for _ in 0..n {
        let (all, gate) = (all.clone(), gate.another());
        tokio::spawn(async move {
            all.ready.done();
            gate.pass().await;
            all.woken.fetch_add(1, Relaxed);
            all.done.done();
        });
    }
    all.ready.wait().await;
    let created = start.elapsed();
    let after = memory();
    let start = Instant::now();
    drop(open);
    all.done.wait().await;
    let woken = start.elapsed();
    expect(row, all.woken.load(Relaxed), n);
    print_each("parked-create", created, n);
    println!("parked-bytes {:.0} bytes", (after - before) as f64 / n as f64);
    print_each("parked-wake", woken, n);
}

async fn filter(mut input: mpsc::Receiver<i64>, output: mpsc::Sender<i64>, prime: i64) {
    while let Some(v) = input.recv().await {
        if v % prime != 0 && output.send(v).await.is_err() {
            return; // the row is over
        }
    }
}

/// The N-th prime by division, to check by.
fn nth_prime(n: i64) -> i64 {
    let mut primes: Vec<i64> = Vec::new();
    for v in 2.. {
        if primes.iter().take_while(|&&prime| prime * prime <= v).all(|prime| v % prime != 0) {
            primes.push(v);
            if primes.len() as i64 == n {
                break;
            }
        }
    }
    primes[n as usize - 1]
}

/// The N-th prime by a chain of filters. The chain is not taken down: it ends with the runtime.
async fn sieve(row: &str, n: i64) {
    let (want, mut prime) = (nth_prime(n), 0);
    let start = Instant::now();
    let (numbers, mut input) = mpsc::channel(1);
    tokio::spawn(async move {
        for i in 2.. {
            if numbers.send(i).await.is_err() {
                return;
            }
        }
    });
    for _ in 0..n {
        prime = input.recv().await.unwrap();
        let (output, next) = mpsc::channel(1);
        tokio::spawn(filter(input, output, prime));
        input = next;
    }
    let total = start.elapsed();
    expect(row, prime, want);
    print_total(row, total);
}

const CHILDREN: i64 = 10;

fn start_node(up: mpsc::Sender<i64>, first: i64, leaves: i64) {
    tokio::spawn(node(up, first, leaves));
}

async fn node(up: mpsc::Sender<i64>, first: i64, leaves: i64) {
    let mut sum = first;
    if leaves > 1 {
        let (sender, mut down) = mpsc::channel(CHILDREN as usize);
        let share = leaves / CHILDREN;
        (0..CHILDREN).for_each(|i| start_node(sender.clone(), first + i * share, share));
        sum = 0;
        for _ in 0..CHILDREN {
            sum += down.recv().await.unwrap();
        }
    }
    up.send(sum).await.unwrap();
}

/// A tree in which each node starts ten, with N leaves that send up their numbers.
async fn skynet(row: &str, n: i64) {
    if !(0..18).any(|power| CHILDREN.pow(power) == n) {
        fail!("{row}: {n} leaves are no power of {CHILDREN}");
    }
    let start = Instant::now();
    let (up, mut result) = mpsc::channel(1);
    start_node(up, 0, n);
    let sum = result.recv().await.unwrap();
    let total = start.elapsed();
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
}

fn start_fib(n: i64) -> oneshot::Receiver<i64> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(fib_of(n, sender));
    receiver
}

async fn fib_of(n: i64, out: oneshot::Sender<i64>) {
    let mut sum = n;
    if n >= 2 {
        let (a, b) = (start_fib(n - 1), start_fib(n - 2));
        sum = a.await.unwrap() + b.await.unwrap();
    }
    out.send(sum).unwrap();
}

/// fib(N), where each call starts two tasks for the two before.
async fn fib(row: &str, n: i64) {
    let (_, want) = (1..n).fold((0, 1), |(before, last), _| (last, before + last));
    let start = Instant::now();
    let result = start_fib(n).await.unwrap();
    let total = start.elapsed();
    expect(row, result, want);
    print_total(row, total);
}

/// Runs the row; false if it is not here.
pub async fn run(row: &str, n: i64) -> bool {
    match row {
        "yield-1" => yield_among(row, n, 1).await,
        "yield-2" => yield_among(row, n, 2).await,
        "yield-100" => yield_among(row, n, 100).await,
        "yield-10k" => yield_among(row, n, 10_000).await,
        "yield-100k" => yield_among(row, n, 100_000).await,
        "spawn-batch" => spawn_in(row, n, 100).await,
        "spawn-one" => spawn_in(row, n, 1).await,
        "parked" => parked(row, n).await,
        "sieve" => sieve(row, n).await,
        "skynet" => skynet(row, n).await,
        "fib" => fib(row, n).await,
        _ => return false,
    }
    true
}
