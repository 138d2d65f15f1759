//! weir's peers in Rust: `bench-rust LIBRARY ROW N` does the row's work N times with that library, checks it, and prints
//! `name value unit` lines, as ../ does with weir. A check that fails, or a call that does, ends it with status 1 and no
//! figure; a row that makes no sense for the library, with status 3. BENCH_PROCS: the number of workers, or of processors
//! for the libraries that are about threads.
//!
//! The rows, their work and their checks are those of the C and Go programs. What a library forces to be otherwise is said
//! at the head of its file: runtime.rs, tasks.rs, messages.rs, deadlines.rs and locks.rs for tokio, threads.rs and
//! select.rs for the others.

mod deadlines;
mod locks;
mod messages;
mod report;
mod runtime;
mod select;
mod tasks;
mod threads;

fn main() {
    report::panics_fail();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let n = args.get(2).and_then(|text| text.parse().ok()).filter(|&n: &i64| n > 0);
    let (3, Some(n)) = (args.len(), n) else { usage() };
    let row = args[1].as_str();
    let known = match args[0].as_str() {
        "tokio" => runtime::run(row, n),
        "crossbeam" => threads::crossbeam(row, n),
        "flume" => threads::flume(row, n),
        "kanal" => threads::kanal(row, n),
        _ => usage(),
    };
    if !known {
        eprintln!("bench-rust: {}: no row {row}", args[0]);
        std::process::exit(3);
    }
}

fn usage() -> ! {
    eprintln!("usage: bench-rust tokio|crossbeam|flume|kanal ROW N");
    std::process::exit(2)
}
