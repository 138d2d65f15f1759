// Rows about locks: mutex, rwmutex, once. What a lock guards is on no stack: in both twins it is memory that others could
// reach.
package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var locks struct {
	ready, done sync.WaitGroup
	gate        chan int64
	each        int64
	mutex       sync.Mutex
	rwmutex     sync.RWMutex
	locked      int64         // guarded by mutex, or by rwmutex
	seen        atomic.Int64  // by readers
	longest     time.Duration // of all waits; guarded by mutex
}

// N turns in all, shared by so many goroutines, which wait for the gate when the clock starts.
func contend(row string, n, goroutines int64, turns func()) time.Duration {
	locks.each = n / goroutines
	locks.gate = make(chan int64)
	if locks.each == 0 {
		fail("%s: fewer turns than goroutines", row)
	}
	locks.ready.Add(int(goroutines))
	locks.done.Add(int(goroutines))
	for i := int64(0); i < goroutines; i++ {
		go turns()
	}
	locks.ready.Wait()
	start := time.Now()
	close(locks.gate)
	locks.done.Wait()
	return time.Since(start)
}

func begin() {
	locks.ready.Done()
	if _, ok := <-locks.gate; ok {
		fail("the gate did not close")
	}
}

// Mutex.

func lockTurns(n int64) {
	for i := int64(0); i < n; i++ {
		locks.mutex.Lock()
		locks.locked++
		locks.mutex.Unlock()
	}
}

func mutexAlone(row string, n int64) {
	start := time.Now()
	lockTurns(n)
	total := time.Since(start)
	expect(row, locks.locked, n)
	printEach(row, total, n)
}

func mutexTurns() {
	begin()
	lockTurns(locks.each)
	locks.done.Done()
}

func mutexAmong(row string, n, goroutines int64) {
	total := contend(row, n, goroutines, mutexTurns)
	expect(row, locks.locked, locks.each*goroutines)
	printEach(row, total, locks.locked)
}

// The same, but each turn looks at the clock before and after its wait: a row of its own, as that slows the turns.
func timedTurns() {
	var longest time.Duration
	begin()
	for i := int64(0); i < locks.each; i++ {
		start := time.Now()
		locks.mutex.Lock()
		waited := time.Since(start)
		locks.locked++
		locks.mutex.Unlock()
		longest = max(longest, waited)
	}
	locks.mutex.Lock()
	locks.longest = max(locks.longest, longest)
	locks.mutex.Unlock()
	locks.done.Done()
}

func mutexLongest(row string, n int64) {
	contend(row, n, 16, timedTurns)
	expect(row, locks.locked, locks.each*16)
	fmt.Printf("%s %.1f us\n", row, float64(locks.longest)/1e3)
}

// Rwmutex: one turn in ten writes.

func rwTurns(n int64) {
	var seen int64
	for i := int64(0); i < n; i++ {
		if i%10 == 9 {
			locks.rwmutex.Lock()
			locks.locked++
			locks.rwmutex.Unlock()
		} else {
			locks.rwmutex.RLock()
			if locks.locked >= 0 {
				seen++
			}
			locks.rwmutex.RUnlock()
		}
	}
	locks.seen.Add(seen)
}

func rwmutexTurns() {
	begin()
	rwTurns(locks.each)
	locks.done.Done()
}

func rwmutexAlone(row string, n int64) {
	start := time.Now()
	rwTurns(n)
	total := time.Since(start)
	expect(row, locks.locked, n/10)
	expect(row, locks.seen.Load(), n-n/10)
	printEach(row, total, n)
}

func rwmutex16(row string, n int64) {
	total := contend(row, n, 16, rwmutexTurns)
	expect(row, locks.locked, 16*(locks.each/10))
	expect(row, locks.seen.Load(), 16*(locks.each-locks.each/10))
	printEach(row, total, 16*locks.each)
}

// Once: N times, of which the first does it.

var only sync.Once

func count() { locks.locked++ }

func once(row string, n int64) {
	start := time.Now()
	for i := int64(0); i < n; i++ {
		only.Do(count)
	}
	total := time.Since(start)
	expect(row, locks.locked, 1)
	printEach(row, total, n)
}

var lockRows = []row{
	{"mutex-alone", mutexAlone},
	{"mutex-2", func(row string, n int64) { mutexAmong(row, n, 2) }},
	{"mutex-16", func(row string, n int64) { mutexAmong(row, n, 16) }},
	{"mutex-1000", func(row string, n int64) { mutexAmong(row, n, 1000) }},
	{"mutex-16-longest", mutexLongest},
	{"rwmutex-alone", rwmutexAlone},
	{"rwmutex-16", rwmutex16},
	{"once", once},
}
