// Rows about time: what it costs to set, reset and stop a timer among N that are pending, to run N that are due at once,
// and how late a sleep returns. The timers run a function: one that ticks need not be in Go's heap while nobody waits
// for it.
package main

import (
	"sync"
	"sync/atomic"
	"time"
)

func never() { fail("a timer of an hour has run") }

// An hour and up to a second, so that a new one belongs anywhere among those there are.
func someTime(random *uint64) time.Duration {
	return time.Hour + time.Duration(nextRandom(random)%uint64(time.Second))
}

func setAll(n int64, random *uint64) []*time.Timer {
	timers := make([]*time.Timer, n)
	for i := range timers {
		timers[i] = time.AfterFunc(someTime(random), never)
	}
	return timers
}

func stopAll(row string, timers []*time.Timer) {
	var stopped int64
	for _, t := range timers {
		if t.Stop() {
			stopped++
		}
	}
	expect(row, stopped, int64(len(timers)))
}

func timersSet(row string, n int64) {
	random := uint64(seed)
	start := time.Now()
	timers := setAll(n, &random)
	total := time.Since(start)
	stopAll(row, timers)
	printEach(row, total, n)
}

func timersReset(row string, n int64) {
	random := uint64(seed)
	var pending int64
	timers := setAll(n, &random)
	start := time.Now()
	for _, t := range timers {
		if t.Reset(someTime(&random)) {
			pending++
		}
	}
	total := time.Since(start)
	expect(row, pending, n)
	stopAll(row, timers)
	printEach(row, total, n)
}

func timersStop(row string, n int64) {
	random := uint64(seed)
	timers := setAll(n, &random)
	start := time.Now()
	stopAll(row, timers)
	total := time.Since(start)
	printEach(row, total, n)
}

// Set one and stop it, while no other is pending.
func timersOne(row string, n int64) {
	var stopped int64
	start := time.Now()
	for i := int64(0); i < n; i++ {
		if time.AfterFunc(time.Hour, never).Stop() {
			stopped++
		}
	}
	total := time.Since(start)
	expect(row, stopped, n)
	printEach(row, total, n)
}

// Due at once: from that moment until the last of N has run.

var due struct {
	done sync.WaitGroup
	ran  atomic.Int64
}

func ran() {
	due.ran.Add(1)
	due.done.Done()
}

func timersDue(row string, n int64) {
	timers := make([]*time.Timer, n)
	due.done.Add(int(n))
	// So much time that all are set before the first is due, or the row would time the setting.
	when := time.Now().Add(200*time.Millisecond + time.Duration(n)*time.Microsecond)
	for i := range timers {
		timers[i] = time.AfterFunc(time.Until(when), ran)
	}
	if !time.Now().Before(when) {
		fail("%s: setting %d timers took until they were due", row, n)
	}
	due.done.Wait()
	total := time.Since(when)
	expect(row, due.ran.Load(), n)
	printEach(row, total, n)
}

// How much later than asked a sleep returns: of N, one after the other.

func sleepLate(row string, n int64, nap time.Duration) {
	late := make([]time.Duration, n)
	for i := range late {
		start := time.Now()
		time.Sleep(nap)
		late[i] = time.Since(start) - nap
		if late[i] < 0 {
			fail("%s: woke %d ns early", row, -late[i])
		}
	}
	printPercentiles(row, late)
}

var timerRows = []row{
	{"timers-set", timersSet},
	{"timers-reset", timersReset},
	{"timers-stop", timersStop},
	{"timers-one", timersOne},
	{"timers-due", timersDue},
	{"sleep-50us", func(row string, n int64) { sleepLate(row, n, 50*time.Microsecond) }},
	{"sleep-1ms", func(row string, n int64) { sleepLate(row, n, time.Millisecond) }},
}
