//! What all rows share: failing, checking, printing, and what the system says about this process.

use std::io::Read;
use std::process::exit;
use std::time::Duration;

/// Ends the process with a message: no figure is printed.
macro_rules! fail {
    ($($text:tt)*) => {{
        eprintln!("bench-rust: {}", format_args!($($text)*));
        std::process::exit(1)
    }};
}
pub(crate) use fail;

/// A panic (an `unwrap` or an index that is wrong) ends the process as a failed check does.
pub fn panics_fail() {
    std::panic::set_hook(Box::new(|what| {
        eprintln!("bench-rust: {what}");
        exit(1);
    }));
}

pub fn expect(what: &str, got: i64, want: i64) {
    if got != want {
        fail!("{what}: {got}, expected {want}");
    }
}

pub fn print_each(row: &str, total: Duration, n: i64) {
    println!("{row} {:.2} ns", total.as_nanos() as f64 / n as f64);
}

pub fn print_total(row: &str, total: Duration) {
    println!("{row} {:.3} ms", total.as_nanos() as f64 / 1e6);
}

/// `row-p50` and `row-p99`. Sorts the spans.
pub fn print_percentiles(row: &str, spans: &mut [i64]) {
    spans.sort_unstable();
    let at = |percent| spans[spans.len() * percent / 100];
    println!("{row}-p50 {} ns\n{row}-p99 {} ns", at(50), at(99));
}

/// What the spsc rows send: so many words, from i on.
pub fn element<const WORDS: usize>(i: i64) -> [i64; WORDS] {
    std::array::from_fn(|word| i + word as i64)
}

/// The sum of all words of the elements 1 to n.
pub fn elements_sum(n: i64, words: usize) -> i64 {
    let words = words as i64;
    words * triangle(n) + triangle(words - 1) * n
}

/// 1 + 2 + … + n
pub fn triangle(n: i64) -> i64 {
    n * (n + 1) / 2
}

/// The number of workers that is asked for; without, one for each processor.
pub fn workers() -> usize {
    match std::env::var("BENCH_PROCS") {
        Ok(text) => match text.parse() {
            Ok(procs) if procs > 0 => procs,
            _ => fail!("BENCH_PROCS={text}: a number of workers?"),
        },
        Err(_) => std::thread::available_parallelism().map_or(1, |n| n.get()),
    }
}

/// Confines the process, and every thread that it starts from here on, to the first `count` processors that it may use.
pub fn pin(count: usize) {
    // SAFETY: a cpu_set_t is an array of bits, and all zeroes is the empty set; both calls get one of the right size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let mut chosen: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) != 0 {
            fail!("sched_getaffinity: {}", std::io::Error::last_os_error());
        }
        let cpus = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &allowed));
        cpus.take(count).for_each(|cpu| libc::CPU_SET(cpu, &mut chosen));
        if libc::sched_setaffinity(0, size_of_val(&chosen), &chosen) != 0 {
            fail!("sched_setaffinity: {}", std::io::Error::last_os_error());
        }
    }
}

/// What this process occupies, in bytes: resident memory, and the page tables that map it.
pub fn memory() -> i64 {
    let mut text = String::new();
    std::fs::File::open("/proc/self/status").unwrap().read_to_string(&mut text).unwrap();
    let kib = |name: &str| -> i64 {
        let line = text.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|word| word.parse().ok());
        number.unwrap_or_else(|| fail!("/proc/self/status tells no {name}"))
    };
    (kib("VmRSS:") + kib("VmPTE:")) * 1024
}
