// Rows about the leak proof: a process in which one goroutine has leaked, and one proof; here, Go's goroutineleak profile,
// in a Go built with GOEXPERIMENT=goroutineleakprofile.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"
)

func leakOne() {
	<-make(chan int64)
}

// prove takes Go's goroutineleak profile of a process in which one goroutine has leaked. A thread of
// its own looks at the clock: the largest gap is how long the process stood still.
func prove(row string) {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		fmt.Fprintln(os.Stderr, "bench-go: this Go has no goroutineleak profile (GOEXPERIMENT=goroutineleakprofile)")
		os.Exit(3)
	}
	go leakOne()
	time.Sleep(50 * time.Millisecond)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1) // the watcher's: in weir's twin it is a plain thread
	var watching atomic.Bool
	var gap time.Duration
	done := make(chan bool)
	watching.Store(true)
	go func() {
		runtime.LockOSThread()
		last := time.Now()
		for watching.Load() {
			now := time.Now()
			if now.Sub(last) > gap {
				gap = now.Sub(last)
			}
			last = now
		}
		done <- true
	}()
	start := time.Now()
	var text strings.Builder
	profile.WriteTo(&text, 1)
	total := time.Since(start)
	watching.Store(false)
	<-done
	if !strings.Contains(text.String(), "total 1\n") {
		fmt.Fprintln(os.Stderr, text.String())
		os.Exit(1)
	}
	fmt.Printf("%s-pause %.3f ms\n%s-total %.3f ms\n", row, float64(gap)/1e6, row, float64(total)/1e6)
}

var theParkers *parkers

func proveParked(row string, n int64) {
	p := &parkers{ch: make(chan int64)}
	theParkers = p
	parkAll(p, n)
	prove(row)
	wakeAll(p)
}

type block struct {
	next, before *block
	filler       [6]int64
}

var allBlocks *block

func proveHeap(row string, n int64) {
	for i := int64(0); i < n<<14; i++ {
		b := &block{next: allBlocks}
		if allBlocks != nil {
			b.before = allBlocks.next
		}
		allBlocks = b
	}
	prove(row)
	allBlocks = nil
}

var blocksAnyhow []*block

func proveAnyhow(row string, n int64) {
	random := uint64(seed)
	all := make([]*block, n<<14)
	for i := range all {
		all[i] = &block{}
	}
	for _, b := range all {
		nextRandom(&random)
		b.next, b.before = all[random%uint64(n<<14)], all[(random>>20)%uint64(n<<14)]
	}
	blocksAnyhow = all
	prove(row)
	blocksAnyhow = nil
}

var proofRows = []row{
	{"prove-parked", proveParked},
	{"prove-heap", proveHeap},
	{"prove-heap-anyhow", proveAnyhow},
	{"prove-parked-1m", proveParked},
	{"prove-heap-4g", proveHeap},
}
