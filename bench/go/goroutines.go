// Rows about goroutines themselves: to give way, to start and join, to be parked by the million.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Yield: N in all, shared by so many goroutines, which are started and waiting when the clock starts.

type yielders struct {
	ready, done sync.WaitGroup
	gate        chan int64
	each        int64
	sum         atomic.Int64
}

func yielder(y *yielders) {
	y.ready.Done()
	if _, ok := <-y.gate; ok {
		fail("the gate did not close")
	}
	for i := int64(0); i < y.each; i++ {
		runtime.Gosched()
	}
	y.sum.Add(y.each)
	y.done.Done()
}

func yieldAmong(row string, n, goroutines int64) {
	y := &yielders{gate: make(chan int64), each: n / goroutines}
	if y.each == 0 {
		fail("%s: fewer yields than goroutines", row)
	}
	y.ready.Add(int(goroutines))
	y.done.Add(int(goroutines))
	for i := int64(0); i < goroutines; i++ {
		go yielder(y)
	}
	y.ready.Wait()
	start := time.Now()
	close(y.gate)
	y.done.Wait()
	total := time.Since(start)
	expect(row, y.sum.Load(), y.each*goroutines)
	printEach(row, total, y.each*goroutines)
}

// Start goroutines that do nothing much, and wait for them: a batch at a time.

const batchSize = 100

func spawned(wg *sync.WaitGroup, sum *atomic.Int64) {
	sum.Add(1)
	wg.Done()
}

func spawnIn(row string, n, batch int64) {
	var wg sync.WaitGroup
	var sum atomic.Int64
	n -= n % batch
	start := time.Now()
	for started := int64(0); started < n; started += batch {
		wg.Add(int(batch))
		for i := int64(0); i < batch; i++ {
			go spawned(&wg, &sum)
		}
		wg.Wait()
	}
	total := time.Since(start)
	expect(row, sum.Load(), n)
	printEach(row, total, n)
}

// Parked: N goroutines that wait on one channel.

func parker(p *parkers) {
	p.ready.Done()
	if _, ok := <-p.ch; ok {
		fail("the channel did not close")
	}
	p.woken.Add(1)
	p.done.Done()
}

func parkAll(p *parkers, n int64) {
	p.ready.Add(int(n))
	p.done.Add(int(n))
	for i := int64(0); i < n; i++ {
		go parker(p)
	}
	p.ready.Wait()
}

func wakeAll(p *parkers) {
	close(p.ch)
	p.done.Wait()
}

// What this process occupies: resident memory, and the page tables that map it.
func memory() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		fail("%v", err)
	}
	defer f.Close()
	rss, tables := int64(-1), int64(-1)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 {
			switch words[0] {
			case "VmRSS:":
				rss, _ = strconv.ParseInt(words[1], 10, 64)
			case "VmPTE:":
				tables, _ = strconv.ParseInt(words[1], 10, 64)
			}
		}
	}
	if rss < 0 || tables < 0 {
		fail("/proc/self/status tells no memory")
	}
	return (rss + tables) * 1024
}

func parked(row string, n int64) {
	p := &parkers{ch: make(chan int64)}
	before := memory()
	start := time.Now()
	parkAll(p, n)
	created := time.Since(start)
	after := memory()
	start = time.Now()
	wakeAll(p)
	woken := time.Since(start)
	expect(row, p.woken.Load(), n)
	printEach("parked-create", created, n)
	fmt.Printf("parked-bytes %.0f bytes\n", float64(after-before)/float64(n))
	printEach("parked-wake", woken, n)
}

var goroutineRows = []row{
	{"yield-1", func(row string, n int64) { yieldAmong(row, n, 1) }},
	{"yield-2", func(row string, n int64) { yieldAmong(row, n, 2) }},
	{"yield-10", func(row string, n int64) { yieldAmong(row, n, 10) }},
	{"yield-100", func(row string, n int64) { yieldAmong(row, n, 100) }},
	{"yield-1k", func(row string, n int64) { yieldAmong(row, n, 1000) }},
	{"yield-10k", func(row string, n int64) { yieldAmong(row, n, 10000) }},
	{"yield-100k", func(row string, n int64) { yieldAmong(row, n, 100000) }},
	{"yield-1m", func(row string, n int64) { yieldAmong(row, n, 1000000) }},
	{"spawn-batch", func(row string, n int64) { spawnIn(row, n, batchSize) }},
	{"spawn-one", func(row string, n int64) { spawnIn(row, n, 1) }},
	{"parked", parked},
}
