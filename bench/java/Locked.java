import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Lock;
import java.util.concurrent.locks.ReentrantLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;

/** What the rows about locks take turns at: a number, and a ReentrantLock and a ReentrantReadWriteLock as they come, that is, not fair. */
final class Locked {
    final Lock lock = new ReentrantLock();
    final ReentrantReadWriteLock both = new ReentrantReadWriteLock();
    final AtomicLong seen = new AtomicLong();
    long count;   // guarded by lock, or by both
    long longest; // of all waits; guarded by lock

    void turns(long n) {
        for (long i = 0; i < n; i++) {
            lock.lock();
            try {
                count++;
            } finally {
                lock.unlock();
            }
        }
    }

    /** The same, but each turn looks at the clock before and after its wait. */
    void timedTurns(long n) {
        long worst = 0;
        for (long i = 0; i < n; i++) {
            long start = System.nanoTime();
            lock.lock();
            long waited = System.nanoTime() - start;
            try {
                count++;
            } finally {
                lock.unlock();
            }
            worst = Math.max(worst, waited);
        }
        lock.lock();
        longest = Math.max(longest, worst);
        lock.unlock();
    }

    /** One in ten writes. */
    void readAndWrite(long n) {
        long sum = 0;
        for (long i = 0; i < n; i++)
            if (i % 10 == 9) {
                both.writeLock().lock();
                try {
                    count++;
                } finally {
                    both.writeLock().unlock();
                }
            } else {
                both.readLock().lock();
                try {
                    if (count >= 0) sum++;
                } finally {
                    both.readLock().unlock();
                }
            }
        seen.addAndGet(sum);
    }
}
