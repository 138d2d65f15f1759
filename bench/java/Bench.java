import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Java's side of the benchmark, on virtual threads (JDK 21 and up), one row a run: `java -Xms4g -Xmx4g -cp DIRECTORY Bench ROW N` does
 * the row's work N times, checks it, and prints `name value unit` lines, as ../ does with weir. A check that fails, or an exception, ends
 * the process with status 1 and prints no figure; 3 says that there is no such row.
 *
 * Each row is done many times, with its checks, but with less work, for a second and a half before it is done once for the figure: what it
 * needs is compiled by then. Every row is itself a virtual thread, as it is a goroutine in weir. BENCH_PROCS is the number of carrier
 * threads, the least and the most; compiler and garbage collector have threads besides.
 *
 * Forced to be otherwise:
 * - A channel is a SynchronousQueue or an ArrayBlockingQueue. Elements are objects: a number is boxed, eight numbers are an array, one
 *   allocated for each. They cannot be closed: a last element says that it is the last, and those that wait together (yield, parked, mutex)
 *   wait on a CountDownLatch.
 * - A virtual thread that is started goes to the end of its carrier's queue: in skynet and fib all children are there before the first has
 *   run. The queues of these two hold what all children send.
 * - parked-bytes is what the whole process grows by, garbage of the million threads included. The heap has a fixed size, of which pages
 *   become resident when they are first used; a collection goes before.
 * - There is no select, no context, and no timer that is not a thread pool's: those rows are missing, and so is once.
 */
public final class Bench {
    /** The work of a row, n times; the lines to print. */
    interface Work {
        String run(String row, long n) throws Exception;
    }

    /** How much of it is done at a time to warm up. */
    record Row(String name, long warmUp, Work work) {}

    interface Body {
        void run() throws Exception;
    }

    static final Duration WARM_UP = Duration.ofMillis(1500);
    static final long END = -1;

    // ---- Failing, checking, printing

    static RuntimeException fail(String format, Object... args) {
        System.err.println("bench-java: " + String.format(Locale.ROOT, format, args));
        Runtime.getRuntime().halt(1);
        throw new AssertionError();
    }

    static void expect(String what, long got, long want) {
        if (got != want) fail("%s: %d, expected %d", what, got, want);
    }

    static String each(String row, long total, long n) {
        return String.format(Locale.ROOT, "%s %.2f ns%n", row, (double) total / n);
    }

    static String total(String row, long total) {
        return String.format(Locale.ROOT, "%s %.3f ms%n", row, total / 1e6);
    }

    static Thread start(Body body) {
        return Thread.startVirtualThread(() -> {
            try {
                body.run();
            } catch (InterruptedException stopped) {
                // By the end of sieve.
            } catch (Exception e) {
                fail("%s", e);
            }
        });
    }

    static long share(String row, long n, int threads) {
        if (n < threads) fail("%s: less work than threads", row);
        return n / threads;
    }

    static long triangle(long n) {
        return n * (n + 1) / 2;
    }

    // ---- Threads that do the same, start together, and are waited for; how long they took

    static final class Crowd {
        final CountDownLatch ready, gate = new CountDownLatch(1), done;

        Crowd(int threads, Body body) throws InterruptedException {
            ready = new CountDownLatch(threads);
            done = new CountDownLatch(threads);
            for (int i = 0; i < threads; i++)
                start(() -> {
                    ready.countDown();
                    gate.await();
                    body.run();
                    done.countDown();
                });
            ready.await();
        }

        long run() throws InterruptedException {
            long start = System.nanoTime();
            gate.countDown();
            done.await();
            return System.nanoTime() - start;
        }
    }

    // ---- yield, spawn, parked, sleep

    static String yieldAmong(String row, long n, int threads) throws Exception {
        var sum = new AtomicLong();
        long share = share(row, n, threads);
        long time = new Crowd(threads, () -> {
            for (long i = 0; i < share; i++) Thread.yield();
            sum.addAndGet(share);
        }).run();
        expect(row, sum.get(), share * threads);
        return each(row, time, share * threads);
    }

    static String spawnIn(String row, long n, int batch) throws Exception {
        var sum = new AtomicLong();
        var threads = new Thread[batch];
        n -= n % batch;
        long start = System.nanoTime();
        for (long started = 0; started < n; started += batch) {
            for (int i = 0; i < batch; i++) threads[i] = Thread.startVirtualThread(sum::incrementAndGet);
            for (Thread thread : threads) thread.join();
        }
        long time = System.nanoTime() - start;
        expect(row, sum.get(), n);
        return each(row, time, n);
    }

    /** What this process occupies, in bytes: resident memory, and the page tables that map it. */
    static long memory() throws IOException {
        long kib = 0;
        for (String line : Files.readAllLines(Path.of("/proc/self/status")))
            if (line.startsWith("VmRSS:") || line.startsWith("VmPTE:")) kib += Long.parseLong(line.split("\\s+")[1]);
        return kib * 1024;
    }

    static String parked(String row, long n) throws Exception {
        var woken = new AtomicLong();
        System.gc(); // so that all rounds of warming up use the same few pages, and the threads that count are not in old ones
        long before = memory();
        long start = System.nanoTime();
        var crowd = new Crowd((int) n, woken::incrementAndGet);
        long created = System.nanoTime() - start;
        long bytes = memory() - before;
        long time = crowd.run();
        expect(row, woken.get(), n);
        return each("parked-create", created, n) + String.format(Locale.ROOT, "parked-bytes %.0f bytes%n", (double) bytes / n)
            + each("parked-wake", time, n);
    }

    static String sleepLate(String row, long n, Duration nap) throws Exception {
        var late = new long[(int) n];
        for (int i = 0; i < n; i++) {
            long start = System.nanoTime();
            Thread.sleep(nap);
            late[i] = System.nanoTime() - start - nap.toNanos();
            if (late[i] < 0) fail("%s: woke %d ns early", row, -late[i]);
        }
        Arrays.sort(late);
        return String.format(Locale.ROOT, "%s-p50 %d ns%n%s-p99 %d ns%n", row, late[(int) (n / 2)], row, late[(int) (n * 99 / 100)]);
    }

    // ---- Channels

    static <T> BlockingQueue<T> queue(int capacity) {
        return capacity == 0 ? new SynchronousQueue<>() : new ArrayBlockingQueue<>(capacity);
    }

    static String pingpong(String row, long n) throws Exception {
        BlockingQueue<Long> there = queue(0), back = queue(0);
        long sum = 0;
        start(() -> {
            for (long v; (v = there.take()) != END;) back.put(v + 1);
        });
        long start = System.nanoTime();
        for (long i = 0; i < n; i++) {
            there.put(i);
            sum += back.take();
        }
        long time = System.nanoTime() - start;
        there.put(END);
        expect(row, sum, triangle(n));
        return each(row, time, n);
    }

    static String spsc(String row, long n, int capacity) throws Exception {
        BlockingQueue<Long> queue = queue(capacity);
        long sum = 0;
        long start = System.nanoTime();
        start(() -> {
            for (long i = 1; i <= n; i++) queue.put(i);
            queue.put(END);
        });
        for (long v; (v = queue.take()) != END;) sum += v;
        long time = System.nanoTime() - start;
        expect(row, sum, triangle(n));
        return each(row, time, n);
    }

    /** Elements of 64 bytes, of which all words are written and read. */
    static String spscLines(String row, long n, int capacity) throws Exception {
        BlockingQueue<long[]> queue = queue(capacity);
        long sum = 0;
        long start = System.nanoTime();
        start(() -> {
            for (long i = 1; i <= n; i++) {
                var line = new long[8];
                for (int w = 0; w < 8; w++) line[w] = i + w;
                queue.put(line);
            }
            queue.put(new long[0]);
        });
        for (long[] line; (line = queue.take()).length > 0;)
            for (long word : line) sum += word;
        long time = System.nanoTime() - start;
        expect(row, sum, 8 * triangle(n) + 28 * n);
        return each(row, time, n);
    }

    static String mpmc(String row, long n, int sides, int capacity) throws Exception {
        BlockingQueue<Long> queue = queue(capacity);
        CountDownLatch producers = new CountDownLatch(sides), consumers = new CountDownLatch(sides);
        var all = new AtomicLong();
        long share = share(row, n, sides);
        long start = System.nanoTime();
        for (int i = 0; i < sides; i++) {
            start(() -> {
                for (long v = 1; v <= share; v++) queue.put(v);
                producers.countDown();
            });
            start(() -> {
                long sum = 0;
                for (long v; (v = queue.take()) != END;) sum += v;
                all.addAndGet(sum);
                consumers.countDown();
            });
        }
        producers.await();
        for (int i = 0; i < sides; i++) queue.put(END);
        consumers.await();
        long time = System.nanoTime() - start;
        expect(row, all.get(), sides * triangle(share));
        return each(row, time, share * sides);
    }

    // ---- Small programs

    /** The N-th prime by division, to check by. */
    static long nthPrime(long n) {
        var primes = new long[(int) n];
        int found = 0;
        for (long v = 2; found < n; v++) {
            boolean prime = true;
            for (int i = 0; i < found && primes[i] * primes[i] <= v && prime; i++) prime = v % primes[i] != 0;
            if (prime) primes[found++] = v;
        }
        return primes[found - 1];
    }

    static String sieve(String row, long n) throws Exception {
        long want = nthPrime(n), last = 0;
        List<Thread> chain = new ArrayList<>();
        long start = System.nanoTime();
        BlockingQueue<Long> numbers = queue(0);
        chain.add(start(() -> {
            for (long i = 2;; i++) numbers.put(i);
        }));
        BlockingQueue<Long> from = numbers;
        for (long i = 0; i < n; i++) {
            BlockingQueue<Long> in = from, out = queue(0);
            long prime = last = in.take();
            chain.add(start(() -> {
                for (;;) {
                    long v = in.take();
                    if (v % prime != 0) out.put(v);
                }
            }));
            from = out;
        }
        long time = System.nanoTime() - start;
        expect(row, last, want);
        for (Thread filter : chain) filter.interrupt();
        for (Thread filter : chain) filter.join();
        return total(row, time);
    }

    static final int CHILDREN = 10;

    static void node(BlockingQueue<Long> up, long first, long leaves) throws InterruptedException {
        long sum = first;
        if (leaves > 1) {
            BlockingQueue<Long> down = queue(CHILDREN);
            long share = leaves / CHILDREN;
            for (int i = 0; i < CHILDREN; i++) {
                long from = first + i * share;
                start(() -> node(down, from, share));
            }
            sum = 0;
            for (int i = 0; i < CHILDREN; i++) sum += down.take();
        }
        up.put(sum);
    }

    static String skynet(String row, long n) throws Exception {
        long leaves = 1;
        while (leaves * CHILDREN <= n) leaves *= CHILDREN;
        if (leaves != n) fail("%s: %d leaves are no power of %d", row, n, CHILDREN);
        long start = System.nanoTime();
        BlockingQueue<Long> result = queue(1);
        start(() -> node(result, 0, n));
        long sum = result.take();
        long time = System.nanoTime() - start;
        expect(row, sum, triangle(n - 1));
        return each(row, time, n);
    }

    static void fibOf(long n, BlockingQueue<Long> out) throws InterruptedException {
        long sum = n;
        if (n >= 2) {
            BlockingQueue<Long> parts = queue(2);
            start(() -> fibOf(n - 1, parts));
            start(() -> fibOf(n - 2, parts));
            sum = parts.take() + parts.take();
        }
        out.put(sum);
    }

    static String fib(String row, long n) throws Exception {
        long before = 0, want = 1;
        for (long i = 1; i < n; i++) {
            long next = before + want;
            before = want;
            want = next;
        }
        long start = System.nanoTime();
        BlockingQueue<Long> out = queue(1);
        start(() -> fibOf(n, out));
        long result = out.take();
        long time = System.nanoTime() - start;
        expect(row, result, want);
        return total(row, time);
    }

    // ---- Locks

    static String mutexAlone(String row, long n) {
        var locked = new Locked();
        long start = System.nanoTime();
        locked.turns(n);
        long time = System.nanoTime() - start;
        expect(row, locked.count, n);
        return each(row, time, n);
    }

    static String mutexAmong(String row, long n, int threads) throws Exception {
        var locked = new Locked();
        long share = share(row, n, threads);
        long time = new Crowd(threads, () -> locked.turns(share)).run();
        expect(row, locked.count, share * threads);
        return each(row, time, share * threads);
    }

    static String mutexLongest(String row, long n) throws Exception {
        var locked = new Locked();
        long share = share(row, n, 16);
        new Crowd(16, () -> locked.timedTurns(share)).run();
        expect(row, locked.count, share * 16);
        return String.format(Locale.ROOT, "%s %.1f us%n", row, locked.longest / 1e3);
    }

    static String rwmutexAlone(String row, long n) {
        var locked = new Locked();
        long start = System.nanoTime();
        locked.readAndWrite(n);
        long time = System.nanoTime() - start;
        expect(row, locked.count, n / 10);
        expect(row, locked.seen.get(), n - n / 10);
        return each(row, time, n);
    }

    static String rwmutex16(String row, long n) throws Exception {
        var locked = new Locked();
        long share = share(row, n, 16);
        long time = new Crowd(16, () -> locked.readAndWrite(share)).run();
        expect(row, locked.count, 16 * (share / 10));
        expect(row, locked.seen.get(), 16 * (share - share / 10));
        return each(row, time, 16 * share);
    }

    static final List<Row> ROWS = List.of(
        new Row("yield-1", 100_000, (row, n) -> yieldAmong(row, n, 1)),
        new Row("yield-2", 100_000, (row, n) -> yieldAmong(row, n, 2)),
        new Row("yield-100", 100_000, (row, n) -> yieldAmong(row, n, 100)),
        new Row("yield-10k", 100_000, (row, n) -> yieldAmong(row, n, 10_000)),
        new Row("yield-100k", 100_000, (row, n) -> yieldAmong(row, n, 100_000)),
        new Row("spawn-batch", 10_000, (row, n) -> spawnIn(row, n, 100)),
        new Row("spawn-one", 10_000, (row, n) -> spawnIn(row, n, 1)),
        new Row("parked", 1_000, Bench::parked),
        new Row("sleep-50us", 100, (row, n) -> sleepLate(row, n, Duration.ofNanos(50_000))),
        new Row("sleep-1ms", 100, (row, n) -> sleepLate(row, n, Duration.ofMillis(1))),
        new Row("pingpong", 10_000, Bench::pingpong),
        new Row("spsc-0", 10_000, (row, n) -> spsc(row, n, 0)),
        new Row("spsc-1", 10_000, (row, n) -> spsc(row, n, 1)),
        new Row("spsc-128", 100_000, (row, n) -> spsc(row, n, 128)),
        new Row("spsc-1024", 100_000, (row, n) -> spsc(row, n, 1024)),
        new Row("spsc-0-64b", 10_000, (row, n) -> spscLines(row, n, 0)),
        new Row("spsc-128-64b", 100_000, (row, n) -> spscLines(row, n, 128)),
        new Row("mpmc-2x2-0", 10_000, (row, n) -> mpmc(row, n, 2, 0)),
        new Row("mpmc-4x4-0", 10_000, (row, n) -> mpmc(row, n, 4, 0)),
        new Row("mpmc-16x16-0", 10_000, (row, n) -> mpmc(row, n, 16, 0)),
        new Row("mpmc-2x2-128", 100_000, (row, n) -> mpmc(row, n, 2, 128)),
        new Row("mpmc-4x4-128", 100_000, (row, n) -> mpmc(row, n, 4, 128)),
        new Row("mpmc-16x16-128", 100_000, (row, n) -> mpmc(row, n, 16, 128)),
        new Row("sieve", 300, Bench::sieve),
        new Row("skynet", 10_000, Bench::skynet),
        new Row("fib", 18, Bench::fib),
        new Row("mutex-alone", 1_000_000, Bench::mutexAlone),
        new Row("mutex-2", 100_000, (row, n) -> mutexAmong(row, n, 2)),
        new Row("mutex-16", 100_000, (row, n) -> mutexAmong(row, n, 16)),
        new Row("mutex-1000", 100_000, (row, n) -> mutexAmong(row, n, 1000)),
        new Row("mutex-16-longest", 100_000, Bench::mutexLongest),
        new Row("rwmutex-alone", 1_000_000, Bench::rwmutexAlone),
        new Row("rwmutex-16", 100_000, Bench::rwmutex16));

    static void run(Row row, long n) throws Exception {
        long start = System.nanoTime();
        while (System.nanoTime() - start < WARM_UP.toNanos()) row.work().run(row.name(), Math.min(n, row.warmUp()));
        System.out.print(row.work().run(row.name(), n));
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        long n = args.length == 2 && args[1].matches("[0-9]{1,9}") ? Long.parseLong(args[1]) : 0;
        if (n == 0) {
            System.err.println("usage: Bench ROW N");
            System.exit(2);
        }
        var found = ROWS.stream().filter(row -> row.name().equals(args[0])).findFirst();
        if (found.isEmpty()) {
            System.err.println("bench-java: no row is named " + args[0]);
            System.exit(3);
        }
        String workers = System.getenv().getOrDefault("BENCH_PROCS", "" + Runtime.getRuntime().availableProcessors());
        // Before the first virtual thread, which is when they are read.
        System.setProperty("jdk.virtualThreadScheduler.parallelism", workers);
        System.setProperty("jdk.virtualThreadScheduler.maxPoolSize", workers);
        Thread.setDefaultUncaughtExceptionHandler((thread, e) -> fail("%s", e));
        start(() -> run(found.get(), n)).join();
        Runtime.getRuntime().halt(0);
    }
}
