//! crossbeam-channel, flume and kanal: channels between threads of the system.
//!
//! Where weir's twin starts a goroutine, this starts a thread: outside the clock where weir does so outside, inside where
//! inside, which the number of elements outweighs. flume and kanal have async channels as well; those need somebody
//! else's runtime, so what is measured here is their blocking half. Capacity 0 is a rendezvous in all three, as it is in
//! weir.
//!
//! With BENCH_PROCS=1 the process is pinned to one processor, with 2 to two: P is then what it is for the others, the
//! number of cores at work. A thread that waits goes to sleep in the kernel, after it has spun for a while or not.
//!
//! Rows: pingpong, which is pingpong-tied as well, spsc-…, mpmc-…; select-… with crossbeam and flume (kanal has none), in select.rs.

use crate::report::*;
use crate::select;
use std::thread;
use std::time::Instant;

/// What the rows need of a library. Everything is resolved when compiling; nothing is added to a call.
pub trait Library: 'static {
    type Sender<T: Send + 'static>: Clone + Send;
    type Receiver<T: Send + 'static>: Clone + Send;
    fn channel<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);
    /// False if nobody will ever receive.
    fn send<T: Send + 'static>(sender: &Self::Sender<T>, v: T) -> bool;
    /// None if it is closed and empty.
    fn receive<T: Send + 'static>(receiver: &Self::Receiver<T>) -> Option<T>;
}

macro_rules! library {
    ($name:ident, $krate:ident) => {
        pub struct $name;
        impl Library for $name {
            type Sender<T: Send + 'static> = $krate::Sender<T>;
            type Receiver<T: Send + 'static> = $krate::Receiver<T>;
            fn channel<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
                $krate::bounded(capacity)
            }
            fn send<T: Send + 'static>(sender: &Self::Sender<T>, v: T) -> bool {
                sender.send(v).is_ok()
            }
            fn receive<T: Send + 'static>(receiver: &Self::Receiver<T>) -> Option<T> {
                receiver.recv().ok()
            }
        }
    };
}
library!(Crossbeam, crossbeam_channel);
library!(Flume, flume);
library!(Kanal, kanal);

/// There and back over two channels without a buffer.
fn pingpong<L: Library>(row: &str, n: i64) {
    let (there, inbox) = L::channel::<i64>(0);
    let (outbox, back) = L::channel::<i64>(0);
    thread::spawn(move || {
        while let Some(v) = L::receive(&inbox) {
            if !L::send(&outbox, v + 1) {
                fail!("the other side is gone");
            }
        }
    });
    let mut sum = 0;
    let start = Instant::now();
    for i in 0..n {
        L::send(&there, i);
        sum += L::receive(&back).unwrap();
    }
    let total = start.elapsed();
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

/// One producer, one consumer; all of an element, which is one word or eight, is written and read.
fn spsc<L: Library, const WORDS: usize>(row: &str, n: i64, capacity: usize) {
    let (tx, rx) = L::channel::<[i64; WORDS]>(capacity);
    let mut sum = 0;
    let start = Instant::now();
    thread::spawn(move || {
        for i in 1..=n {
            if !L::send(&tx, element(i)) {
                fail!("the consumer is gone");
            }
        }
    });
    while let Some(v) = L::receive(&rx) {
        sum += v.iter().sum::<i64>();
    }
    let total = start.elapsed();
    expect(row, sum, elements_sum(n, WORDS));
    print_each(row, total, n);
}

/// So many producers, as many consumers, N elements in all.
fn mpmc<L: Library>(row: &str, n: i64, sides: i64, capacity: usize) {
    let each = n / sides;
    if each == 0 {
        fail!("{row}: fewer elements than producers");
    }
    let (tx, rx) = L::channel::<i64>(capacity);
    let mut consumers = Vec::new();
    let start = Instant::now();
    for _ in 0..sides {
        let (tx, rx) = (tx.clone(), rx.clone());
        thread::spawn(move || {
            for i in 1..=each {
                if !L::send(&tx, i) {
                    fail!("the consumers are gone");
                }
            }
        });
        consumers.push(thread::spawn(move || std::iter::from_fn(|| L::receive(&rx)).sum::<i64>()));
    }
    drop(tx); // it closes with the last producer
    let sum = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
    let total = start.elapsed();
    expect(row, sum, sides * triangle(each));
    print_each(row, total, each * sides);
}

fn channel_rows<L: Library>(row: &str, n: i64) -> bool {
    match row {
        "pingpong" | "pingpong-tied" => pingpong::<L>(row, n),
        "spsc-0" => spsc::<L, 1>(row, n, 0),
        "spsc-1" => spsc::<L, 1>(row, n, 1),
        "spsc-128" => spsc::<L, 1>(row, n, 128),
        "spsc-1024" => spsc::<L, 1>(row, n, 1024),
        "spsc-0-64b" => spsc::<L, 8>(row, n, 0),
        "spsc-128-64b" => spsc::<L, 8>(row, n, 128),
        "mpmc-2x2-0" => mpmc::<L>(row, n, 2, 0),
        "mpmc-4x4-0" => mpmc::<L>(row, n, 4, 0),
        "mpmc-16x16-0" => mpmc::<L>(row, n, 16, 0),
        "mpmc-2x2-128" => mpmc::<L>(row, n, 2, 128),
        "mpmc-4x4-128" => mpmc::<L>(row, n, 4, 128),
        "mpmc-16x16-128" => mpmc::<L>(row, n, 16, 128),
        _ => return false,
    }
    true
}

/// Runs the row; false if there is no such row.
pub fn crossbeam(row: &str, n: i64) -> bool {
    pin(workers());
    channel_rows::<Crossbeam>(row, n) || select::crossbeam(row, n)
}

pub fn flume(row: &str, n: i64) -> bool {
    pin(workers());
    channel_rows::<Flume>(row, n) || select::flume(row, n)
}

pub fn kanal(row: &str, n: i64) -> bool {
    pin(workers());
    channel_rows::<Kanal>(row, n)
}
