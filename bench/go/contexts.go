// Rows about contexts: how long until the last of many has heard of a cancel and has ended; and one with a timeout,
// alone.
package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

type waiting struct {
	ready, done sync.WaitGroup
	ctx         context.Context
	never       chan int64 // gets no element
	cancelled   atomic.Int64
}

func ended(w *waiting) {
	w.cancelled.Add(1)
	w.done.Done()
}

// Start n of them, cancel once all have come as far as their wait, and time until the last has ended.
func cancelAll(row string, n int64, startOne func(w *waiting)) {
	w := &waiting{never: make(chan int64)}
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithCancel(context.Background())
	w.ready.Add(int(n))
	w.done.Add(int(n))
	for i := int64(0); i < n; i++ {
		startOne(w)
	}
	w.ready.Wait()
	start := time.Now()
	cancel()
	w.done.Wait()
	total := time.Since(start)
	expect(row, w.cancelled.Load(), n)
	printEach(row, total, n)
}

// N goroutines receive from the channel that the context closes when it ends.
func awaitEnd(w *waiting) {
	w.ready.Done()
	<-w.ctx.Done()
	ended(w)
}

// N goroutines receive from a channel, unless the context ends. In weir a receive observes it by itself.
func receiveUnder(w *waiting) {
	w.ready.Done()
	select {
	case <-w.never:
		fail("the context has not ended")
	case <-w.ctx.Done():
	}
	ended(w)
}

// N child contexts, each with a goroutine that waits for its end.
func awaitChild(w *waiting, child context.Context, cancel context.CancelFunc) {
	w.ready.Done()
	<-child.Done()
	cancel()
	ended(w)
}

// Make a context with a timeout of a minute, and end it: what guards a call that is over at once.
func contextTimeout(row string, n int64) {
	var cancelled int64
	start := time.Now()
	for i := int64(0); i < n; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cancel()
		if ctx.Err() == context.Canceled {
			cancelled++
		}
	}
	total := time.Since(start)
	expect(row, cancelled, n)
	printEach(row, total, n)
}

var contextRows = []row{
	{"cancel-waiters", func(row string, n int64) { cancelAll(row, n, func(w *waiting) { go awaitEnd(w) }) }},
	{"cancel-receivers", func(row string, n int64) { cancelAll(row, n, func(w *waiting) { go receiveUnder(w) }) }},
	{"cancel-children", func(row string, n int64) {
		cancelAll(row, n, func(w *waiting) {
			child, cancel := context.WithCancel(w.ctx)
			go awaitChild(w, child, cancel)
		})
	}},
	{"context-timeout", contextTimeout},
}
