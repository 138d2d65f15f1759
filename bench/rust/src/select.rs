//! select with crossbeam-channel and with flume, on one thread (select-timeout-wait: two).
//!
//! crossbeam: a `Select` is built once outside the loop, as its documentation recommends where the arms are a list; the
//! macro `select!` builds the same list anew each time. flume: a `Selector` is used up by its wait, and so it is built
//! (and allocated) anew each time; nothing else is offered. It has no default arm: "none" waits for no time at all.
//! Both have no timer as an arm here: the timeout is the wait's own, which is how their users write it.

use crate::report::*;
use crate::threads::{Crossbeam, Flume, Library};
use std::thread;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// "select-COUNT-KIND"
fn arms(row: &str) -> Option<(usize, &str)> {
    let (count, kind) = row.strip_prefix("select-")?.split_once('-')?;
    Some((count.parse().ok().filter(|&count: &usize| count > 0)?, kind))
}

/// A send makes one of the channels ready, in turn, and the select takes it out again.
fn one_ready(row: &str, n: i64, count: usize, mut send: impl FnMut(usize, i64), mut select: impl FnMut() -> (usize, i64)) {
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        let ready = i as usize & (count - 1); // a remainder would be a division here, as count is no constant
        send(ready, i);
        let (arm, v) = select();
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
fn all_ready(row: &str, n: i64, count: usize, mut send: impl FnMut(usize, i64), mut select: impl FnMut() -> (usize, i64)) {
    (0..count).for_each(|arm| send(arm, arm as i64));
    let start = Instant::now();
    for i in 0..n {
        let (arm, v) = select();
        if v != arm as i64 {
            fail!("{row}: arm {arm} gave {v} at {i}");
        }
        send(arm, v);
    }
    let total = start.elapsed();
    expect(row, (0..count).map(|_| select().1).sum(), triangle(count as i64 - 1));
    print_each(row, total, n);
}

fn none_ready(row: &str, n: i64, mut select: impl FnMut() -> bool) {
    let start = Instant::now();
    let missed = (0..n).filter(|_| !select()).count();
    let total = start.elapsed();
    expect(row, missed as i64, n);
    print_each(row, total, n);
}

/// One channel with one slot, and a timeout that never comes.
fn timeout_ready(row: &str, n: i64, mut send: impl FnMut(i64), mut select: impl FnMut() -> i64) {
    one_ready(row, n, 1, |_, v| send(v), || (0, select()))
}

/// The ping-pong, but the answer is waited for with a timeout that never comes.
fn timeout_wait(row: &str, n: i64, mut send: impl FnMut(i64), mut select: impl FnMut() -> i64) {
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        send(i);
        sum += select();
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

/// The rows with a timeout; false if it is none of them. `wait` waits for an element for a minute.
fn timeouts<L: Library>(row: &str, n: i64, wait: impl Fn(&L::Receiver<i64>) -> i64) -> bool {
    let send = |tx: &L::Sender<i64>, v| {
        if !L::send(tx, v) {
            fail!("{row}: the other side is gone");
        }
    };
    match row {
        "select-timeout-ready" => {
            let (tx, rx) = L::channel::<i64>(1);
            timeout_ready(row, n, |v| send(&tx, v), || wait(&rx));
        }
        "select-timeout-wait" => {
            let (there, inbox) = L::channel::<i64>(0);
            let (outbox, back) = L::channel::<i64>(0);
            thread::spawn(move || {
                while let Some(v) = L::receive(&inbox) {
                    if !L::send(&outbox, v + 1) {
                        fail!("the other side is gone");
                    }
                }
            });
            timeout_wait(row, n, |v| send(&there, v), || wait(&back));
        }
        _ => return false,
    }
    true
}

pub fn crossbeam(row: &str, n: i64) -> bool {
    use crossbeam_channel::{bounded, select, Receiver, Select};
    let wait = |rx: &Receiver<i64>| select! { recv(rx) -> v => v.unwrap(), default(MINUTE) => fail!("{row}: timed out") };
    if timeouts::<Crossbeam>(row, n, wait) {
        return true;
    }
    let Some((count, kind)) = arms(row) else { return false };
    let (tx, rx): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded::<i64>(1)).unzip();
    let mut list = Select::new();
    for receiver in &rx {
        list.recv(receiver);
    }
    let send = |arm: usize, v| tx[arm].send(v).unwrap();
    let take = |list: &mut Select| {
        let operation = list.select();
        let arm = operation.index();
        (arm, operation.recv(&rx[arm]).unwrap())
    };
    match kind {
        "one" => one_ready(row, n, count, send, || take(&mut list)),
        "all" => all_ready(row, n, count, send, || take(&mut list)),
        "none" => none_ready(row, n, || match list.try_select() {
            Ok(_) => fail!("{row}: an arm was ready"),
            Err(_) => false,
        }),
        _ => return false,
    }
    true
}

pub fn flume(row: &str, n: i64) -> bool {
    use flume::{bounded, Receiver, Selector};
    let wait = |rx: &Receiver<i64>| Selector::new().recv(rx, |v| v.unwrap()).wait_timeout(MINUTE).unwrap();
    if timeouts::<Flume>(row, n, wait) {
        return true;
    }
    let Some((count, kind)) = arms(row) else { return false };
    let (tx, rx): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded::<i64>(1)).unzip();
    let send = |arm: usize, v| tx[arm].send(v).unwrap();
    let list = || {
        let arms = rx.iter().enumerate();
        arms.fold(Selector::new(), |list, (arm, receiver)| list.recv(receiver, move |v| (arm, v.unwrap())))
    };
    match kind {
        "one" => one_ready(row, n, count, send, || list().wait()),
        "all" => all_ready(row, n, count, send, || list().wait()),
        "none" => none_ready(row, n, || match list().wait_timeout(Duration::ZERO) {
            Ok(_) => fail!("{row}: an arm was ready"),
            Err(_) => false,
        }),
        _ => return false,
    }
    true
}
