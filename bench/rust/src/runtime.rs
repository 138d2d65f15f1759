//! tokio: the runtime that its rows run on, and what they share. The rows are in tasks.rs, messages.rs, deadlines.rs and
//! locks.rs.
//!
//! The scheduler is the multi_thread one with BENCH_PROCS workers, for one worker as well: it is the code that nearly all
//! users run, and its current_thread sibling, which needs no atomics, would be another program. Workers are not pinned.
//! Only the timer is on: with the I/O driver, of which no row needs anything, every round of an idle worker would ask
//! epoll. Each row is a task of its own, as it is a goroutine in weir: the thread in `block_on` only waits.
//!
//! tokio's budget stands: a task that has received 128 times in a row gives way once. Tasks have no stack; what is
//! compared in bytes is a state machine with what is alive across an await.

use crate::report::*;
use crate::{deadlines, locks, messages, tasks};
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{watch, Notify};

/// Runs the row; false if there is no such row.
pub fn run(row: &str, n: i64) -> bool {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(workers()).enable_time().build().unwrap();
    let row = row.to_string();
    let known = runtime.block_on(runtime.spawn(async move {
        let row = row.as_str();
        tasks::run(row, n).await || messages::run(row, n).await || deadlines::run(row, n).await || locks::run(row, n).await
    }));
    known.unwrap()
}

/// Counts tasks down. tokio has nothing quite like it; this is what its users write.
pub struct WaitGroup {
    left: AtomicI64,
    zero: Notify,
}

impl WaitGroup {
    pub fn new(count: i64) -> WaitGroup {
        WaitGroup { left: AtomicI64::new(count), zero: Notify::new() }
    }

    pub fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.zero.notify_one();
        }
    }

    /// One task may wait.
    pub async fn wait(&self) {
        self.zero.notified().await;
    }
}

/// Where tasks wait until it is opened: a watch channel, which closes when its sender is gone.
pub struct Gate(watch::Receiver<()>);

impl Gate {
    pub fn new() -> (watch::Sender<()>, Gate) {
        let (open, closed) = watch::channel(());
        (open, Gate(closed))
    }

    pub fn another(&self) -> Gate {
        Gate(self.0.clone())
    }

    pub async fn pass(mut self) {
        if self.0.changed().await.is_ok() {
            fail!("the gate did not close");
        }
    }
}
