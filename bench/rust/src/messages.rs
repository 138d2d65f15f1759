//! tokio's rows about channels and select: pingpong, spsc-…, mpmc-…, select-….
//!
//! Forced to be otherwise: tokio's own channel has one consumer and a capacity of one at least. So pingpong and
//! select-timeout-wait go over two channels of capacity 1; spsc-1 and up is its own channel; for capacity 0 and for
//! several consumers its users take another crate: flume's async half where the capacity is 0 (a rendezvous),
//! async-channel else. None of these starts a thread or a runtime of its own. select! has its random order. It has no
//! default arm: in select-…-none a second select, biased, falls back to one that is always ready. The timeout is an arm
//! with tokio::time::sleep, made anew each time; it reaches the timer wheel if it is asked before the channel, which is
//! every other time, or if the select has to wait.

use crate::report::*;
use std::future::{ready, Future};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

/// A task that sends back what it receives, and one more.
fn start_echo() -> (mpsc::Sender<i64>, mpsc::Receiver<i64>) {
    let (there, mut inbox) = mpsc::channel::<i64>(1);
    let (outbox, back) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(v) = inbox.recv().await {
            outbox.send(v + 1).await.unwrap();
        }
    });
    (there, back)
}

async fn pingpong(row: &str, n: i64) {
    let (there, mut back) = start_echo();
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        there.send(i).await.unwrap();
        sum += back.recv().await.unwrap();
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

/// One producer, one consumer; all of an element, which is one word or eight, is written and read.
async fn spsc<const WORDS: usize>(row: &str, n: i64, capacity: usize) {
    let (tx, mut rx) = mpsc::channel::<[i64; WORDS]>(capacity);
    let mut sum = 0;
    let start = Instant::now();
    tokio::spawn(async move {
        for i in 1..=n {
            tx.send(element(i)).await.unwrap();
        }
    });
    while let Some(v) = rx.recv().await {
        sum += v.iter().sum::<i64>();
    }
    let total = start.elapsed();
    expect(row, sum, elements_sum(n, WORDS));
    print_each(row, total, n);
}

async fn rendezvous<const WORDS: usize>(row: &str, n: i64) {
    let (tx, rx) = flume::bounded::<[i64; WORDS]>(0);
    let mut sum = 0;
    let start = Instant::now();
    tokio::spawn(async move {
        for i in 1..=n {
            tx.send_async(element(i)).await.unwrap();
        }
    });
    while let Ok(v) = rx.recv_async().await {
        sum += v.iter().sum::<i64>();
    }
    let total = start.elapsed();
    expect(row, sum, elements_sum(n, WORDS));
    print_each(row, total, n);
}

/// So many producers, as many consumers, N elements in all: `pair` makes one of each, for so many elements.
async fn many<P, C>(row: &str, n: i64, sides: i64, pair: impl Fn(i64) -> (P, C))
where
    P: Future<Output = ()> + Send + 'static,
    C: Future<Output = i64> + Send + 'static,
{
    let each = n / sides;
    if each == 0 {
        fail!("{row}: fewer elements than producers");
    }
    let mut consumers = Vec::new();
    let mut sum = 0;
    let start = Instant::now();
    for _ in 0..sides {
        let (produce, consume) = pair(each);
        tokio::spawn(produce);
        consumers.push(tokio::spawn(consume));
    }
    drop(pair); // and with it the last sender that is not a producer's: it closes with the last of those
    for consumer in consumers {
        sum += consumer.await.unwrap();
    }
    let total = start.elapsed();
    expect(row, sum, sides * triangle(each));
    print_each(row, total, each * sides);
}

async fn mpmc_buffered(row: &str, n: i64, sides: i64, capacity: usize) {
    let (tx, rx) = async_channel::bounded::<i64>(capacity);
    let pair = move |each| {
        let (tx, rx) = (tx.clone(), rx.clone());
        let produce = async move {
            for i in 1..=each {
                tx.send(i).await.unwrap();
            }
        };
        let consume = async move {
            let mut sum = 0;
            while let Ok(v) = rx.recv().await {
                sum += v;
            }
            sum
        };
        (produce, consume)
    };
    many(row, n, sides, pair).await;
}

async fn mpmc_rendezvous(row: &str, n: i64, sides: i64) {
    let (tx, rx) = flume::bounded::<i64>(0);
    let pair = move |each| {
        let (tx, rx) = (tx.clone(), rx.clone());
        let produce = async move {
            for i in 1..=each {
                tx.send_async(i).await.unwrap();
            }
        };
        let consume = async move {
            let mut sum = 0;
            while let Ok(v) = rx.recv_async().await {
                sum += v;
            }
            sum
        };
        (produce, consume)
    };
    many(row, n, sides, pair).await;
}

/// A select over all of an array of channels: which was it, and what came.
trait Arms: Send {
    fn take(&mut self) -> impl Future<Output = (usize, i64)> + Send;

    /// None, at once, if there is nothing. The default arm is around the select: inside, there is place for 64 arms.
    fn poll(&mut self) -> impl Future<Output = Option<(usize, i64)>> + Send {
        async {
            tokio::select! { biased; found = self.take() => Some(found), _ = ready(()) => None }
        }
    }
}

macro_rules! arms {
    ($count:literal: $($name:ident $number:literal)*) => {
        impl Arms for [mpsc::Receiver<i64>; $count] {
            async fn take(&mut self) -> (usize, i64) {
                let [$($name),*] = self;
                tokio::select! { $(v = $name.recv() => ($number, v.unwrap()),)* }
            }
        }
    };
}
arms!(2: a 0 b 1);
arms!(8: a 0 b 1 c 2 d 3 e 4 f 5 g 6 h 7);
arms!(64:
    a0 0 b0 1 c0 2 d0 3 e0 4 f0 5 g0 6 h0 7
    i0 8 j0 9 k0 10 l0 11 m0 12 n0 13 o0 14 p0 15
    a1 16 b1 17 c1 18 d1 19 e1 20 f1 21 g1 22 h1 23
    i1 24 j1 25 k1 26 l1 27 m1 28 n1 29 o1 30 p1 31
    a2 32 b2 33 c2 34 d2 35 e2 36 f2 37 g2 38 h2 39
    i2 40 j2 41 k2 42 l2 43 m2 44 n2 45 o2 46 p2 47
    a3 48 b3 49 c3 50 d3 51 e3 52 f3 53 g3 54 h3 55
    i3 56 j3 57 k3 58 l3 59 m3 60 n3 61 o3 62 p3 63
);

/// As many channels with one slot each.
fn slots<const COUNT: usize>() -> ([mpsc::Sender<i64>; COUNT], [mpsc::Receiver<i64>; COUNT]) {
    let (tx, rx): (Vec<_>, Vec<_>) = (0..COUNT).map(|_| mpsc::channel(1)).unzip();
    (tx.try_into().unwrap(), rx.try_into().unwrap())
}

/// A send makes one of the channels ready, in turn, and the select takes it out again.
async fn one_ready<const COUNT: usize>(row: &str, n: i64)
where
    [mpsc::Receiver<i64>; COUNT]: Arms,
{
    let (tx, mut rx) = slots::<COUNT>();
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        let ready = i as usize % COUNT;
        tx[ready].send(i).await.unwrap();
        let (arm, v) = rx.take().await;
        if arm != ready {
            fail!("{row}: arm {arm} at {i}");
        }
        sum += v;
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
}

/// All channels are ready; what the select takes out is put back.
async fn all_ready<const COUNT: usize>(row: &str, n: i64)
where
    [mpsc::Receiver<i64>; COUNT]: Arms,
{
    let (tx, mut rx) = slots::<COUNT>();
    for (arm, sender) in tx.iter().enumerate() {
        sender.send(arm as i64).await.unwrap();
    }
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        let (arm, v) = rx.take().await;
        if v != arm as i64 {
            fail!("{row}: arm {arm} gave {v} at {i}");
        }
        tx[arm].send(v).await.unwrap();
    }
    let total = start.elapsed();
    for receiver in &mut rx {
        sum += receiver.recv().await.unwrap();
    }
    expect(row, sum, triangle(COUNT as i64 - 1));
    print_each(row, total, n);
}

async fn none_ready<const COUNT: usize>(row: &str, n: i64)
where
    [mpsc::Receiver<i64>; COUNT]: Arms,
{
    let (_tx, mut rx) = slots::<COUNT>();
    let mut missed = 0;
    let start = Instant::now();
    for _ in 0..n {
        missed += rx.poll().await.is_none() as i64;
    }
    let total = start.elapsed();
    expect(row, missed, n);
    print_each(row, total, n);
}

/// One channel with one slot, and a timeout that never comes.
async fn timeout_ready(row: &str, n: i64) {
    let (tx, mut rx) = mpsc::channel::<i64>(1);
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        tx.send(i).await.unwrap();
        tokio::select! {
            v = rx.recv() => sum += v.unwrap(),
            _ = sleep(MINUTE) => fail!("{row}: timed out at {i}"),
        }
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
}

/// The ping-pong, but the answer is waited for with a timeout that never comes.
async fn timeout_wait(row: &str, n: i64) {
    let (there, mut back) = start_echo();
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        there.send(i).await.unwrap();
        tokio::select! {
            v = back.recv() => sum += v.unwrap(),
            _ = sleep(MINUTE) => fail!("{row}: timed out at {i}"),
        }
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

/// Runs the row; false if it is not here.
pub async fn run(row: &str, n: i64) -> bool {
    match row {
        "pingpong" => pingpong(row, n).await,
        "spsc-0" => rendezvous::<1>(row, n).await,
        "spsc-1" => spsc::<1>(row, n, 1).await,
        "spsc-128" => spsc::<1>(row, n, 128).await,
        "spsc-1024" => spsc::<1>(row, n, 1024).await,
        "spsc-0-64b" => rendezvous::<8>(row, n).await,
        "spsc-128-64b" => spsc::<8>(row, n, 128).await,
        "mpmc-2x2-0" => mpmc_rendezvous(row, n, 2).await,
        "mpmc-4x4-0" => mpmc_rendezvous(row, n, 4).await,
        "mpmc-16x16-0" => mpmc_rendezvous(row, n, 16).await,
        "mpmc-2x2-128" => mpmc_buffered(row, n, 2, 128).await,
        "mpmc-4x4-128" => mpmc_buffered(row, n, 4, 128).await,
        "mpmc-16x16-128" => mpmc_buffered(row, n, 16, 128).await,
        "select-2-one" => one_ready::<2>(row, n).await,
        "select-8-one" => one_ready::<8>(row, n).await,
        "select-64-one" => one_ready::<64>(row, n).await,
        "select-2-all" => all_ready::<2>(row, n).await,
        "select-8-all" => all_ready::<8>(row, n).await,
        "select-64-all" => all_ready::<64>(row, n).await,
        "select-2-none" => none_ready::<2>(row, n).await,
        "select-8-none" => none_ready::<8>(row, n).await,
        "select-64-none" => none_ready::<64>(row, n).await,
        "select-timeout-ready" => timeout_ready(row, n).await,
        "select-timeout-wait" => timeout_wait(row, n).await,
        _ => return false,
    }
    true
}
