// Rows about channels: there and back, one producer and one consumer, many of both.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Ping-pong: there and back over two unbuffered channels, between two goroutines.

func echo(in <-chan int64, out chan<- int64, tied bool) {
	if tied {
		runtime.LockOSThread()
	}
	for v := range in {
		out <- v + 1
	}
	close(out)
}

func thereAndBack(row string, n int64, tied bool) {
	there, back := make(chan int64), make(chan int64)
	var sum int64
	if tied {
		runtime.LockOSThread()
	}
	go echo(there, back, tied)
	start := time.Now()
	for i := int64(0); i < n; i++ {
		there <- i
		sum += <-back
	}
	total := time.Since(start)
	expect(row, sum, n*(n+1)/2)
	printEach(row, total, n)
	close(there)
}

func pingpong(row string, n int64) { thereAndBack(row, n, false) }

// Each tied to a thread of its own: one thread wakes the other, and sleeps.
func pingpongTied(row string, n int64) { thereAndBack(row, n, true) }

// One producer, one consumer: N elements.

func produce(out chan<- int64, n int64) {
	for i := int64(1); i <= n; i++ {
		out <- i
	}
	close(out)
}

func spsc(row string, n int64, capacity int) {
	ch := make(chan int64, capacity)
	var sum int64
	start := time.Now()
	go produce(ch, n)
	for v := range ch {
		sum += v
	}
	total := time.Since(start)
	expect(row, sum, n*(n+1)/2)
	printEach(row, total, n)
}

// The same with elements of 64 bytes. All of each is written and read.

type line struct {
	word [8]int64
}

func produceLines(out chan<- line, n int64) {
	for i := int64(1); i <= n; i++ {
		var l line
		for w := range l.word {
			l.word[w] = i + int64(w)
		}
		out <- l
	}
	close(out)
}

func spscLines(row string, n int64, capacity int) {
	ch := make(chan line, capacity)
	var sum int64
	start := time.Now()
	go produceLines(ch, n)
	for l := range ch {
		for _, w := range l.word {
			sum += w
		}
	}
	total := time.Since(start)
	expect(row, sum, 8*(n*(n+1)/2)+28*n)
	printEach(row, total, n)
}

// So many producers, as many consumers, one channel: N elements in all.

type manyToMany struct {
	producers, consumers sync.WaitGroup
	ch                   chan int64
	each                 int64 // elements of one producer: 1, 2, …
	sum                  atomic.Int64
}

func producer(m *manyToMany) {
	for i := int64(1); i <= m.each; i++ {
		m.ch <- i
	}
	m.producers.Done()
}

func consumer(m *manyToMany) {
	var sum int64
	for v := range m.ch {
		sum += v
	}
	m.sum.Add(sum)
	m.consumers.Done()
}

func mpmc(row string, n, sides int64, capacity int) {
	m := &manyToMany{ch: make(chan int64, capacity), each: n / sides}
	if m.each == 0 {
		fail("%s: fewer elements than producers", row)
	}
	m.producers.Add(int(sides))
	m.consumers.Add(int(sides))
	start := time.Now()
	for i := int64(0); i < sides; i++ {
		go producer(m)
		go consumer(m)
	}
	m.producers.Wait()
	close(m.ch)
	m.consumers.Wait()
	total := time.Since(start)
	expect(row, m.sum.Load(), sides*(m.each*(m.each+1)/2))
	printEach(row, total, m.each*sides)
}

// Waiters: N goroutines that wait on one channel, which then gets an element for each. For the curve of costs against
// the number: the elements go in one by one.

type waiters struct {
	ready, done sync.WaitGroup
	ch          chan int64
	sum         atomic.Int64
}

func waiter(w *waiters) {
	w.ready.Done()
	v := <-w.ch
	w.sum.Add(v)
	w.done.Done()
}

func chanWaiters(row string, n int64) {
	w := &waiters{ch: make(chan int64)}
	w.ready.Add(int(n))
	w.done.Add(int(n))
	for i := int64(0); i < n; i++ {
		go waiter(w)
	}
	w.ready.Wait()
	start := time.Now()
	for i := int64(1); i <= n; i++ {
		w.ch <- i
	}
	w.done.Wait()
	total := time.Since(start)
	expect(row, w.sum.Load(), n*(n+1)/2)
	printEach(row, total, n)
}

var channelRows = []row{
	{"pingpong", pingpong},
	{"pingpong-tied", pingpongTied},
	{"spsc-0", func(row string, n int64) { spsc(row, n, 0) }},
	{"spsc-1", func(row string, n int64) { spsc(row, n, 1) }},
	{"spsc-128", func(row string, n int64) { spsc(row, n, 128) }},
	{"spsc-1024", func(row string, n int64) { spsc(row, n, 1024) }},
	{"spsc-0-64b", func(row string, n int64) { spscLines(row, n, 0) }},
	{"spsc-128-64b", func(row string, n int64) { spscLines(row, n, 128) }},
	{"mpmc-2x2-0", func(row string, n int64) { mpmc(row, n, 2, 0) }},
	{"mpmc-4x4-0", func(row string, n int64) { mpmc(row, n, 4, 0) }},
	{"mpmc-16x16-0", func(row string, n int64) { mpmc(row, n, 16, 0) }},
	{"mpmc-2x2-128", func(row string, n int64) { mpmc(row, n, 2, 128) }},
	{"mpmc-4x4-128", func(row string, n int64) { mpmc(row, n, 4, 128) }},
	{"mpmc-16x16-128", func(row string, n int64) { mpmc(row, n, 16, 128) }},
	{"chan-waiters", chanWaiters},
}
