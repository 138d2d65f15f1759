// The basic operations in Go: the twin of ../basics.c. `basics ROW N` does the row's work N times, checks it, and
// prints `name value unit`. The same rows, the same work in the same order, the same checks: change both or neither.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	batchSize = 100
	capacity  = 128
	nap       = 50 * time.Microsecond
)

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "basics: "+format+"\n", args...)
	os.Exit(1)
}

func expect(what string, got, want int64) {
	if got != want {
		fail("%s: %d, expected %d", what, got, want)
	}
}

func printEach(row string, total time.Duration, n int64) {
	fmt.Printf("%s %.2f ns\n", row, float64(total)/float64(n))
}

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

func spawned(wg *sync.WaitGroup, sum *atomic.Int64) {
	sum.Add(1)
	wg.Done()
}

func spawnIn(row string, n, batch int64) {
	var wg sync.WaitGroup
	var sum atomic.Int64
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

// Channels.

func echo(in <-chan int64, out chan<- int64) {
	for v := range in {
		out <- v + 1
	}
	close(out)
}

// There and back over two unbuffered channels.
func pingpong(row string, n int64) {
	there, back := make(chan int64), make(chan int64)
	var sum int64
	go echo(there, back)
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

func produce(out chan<- int64, n int64) {
	for i := int64(1); i <= n; i++ {
		out <- i
	}
	close(out)
}

func buffered(row string, n int64) {
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

// Select.

// Two channels with one slot each; a send makes one of them ready, in turn, and the select takes it out again.
func selectTwo(row string, n int64) {
	ch := [2]chan int64{make(chan int64, 1), make(chan int64, 1)}
	var sum int64
	start := time.Now()
	for i := int64(0); i < n; i++ {
		ch[i&1] <- i
		var v, arm int64
		select {
		case v = <-ch[0]:
			arm = 0
		case v = <-ch[1]:
			arm = 1
		}
		if arm != i&1 {
			fail("%s: arm %d at %d", row, arm, i)
		}
		sum += v
	}
	total := time.Since(start)
	expect(row, sum, n*(n-1)/2)
	printEach(row, total, n)
}

// The same with one channel and a timeout that never comes.
func selectTimeoutReady(row string, n int64) {
	ch := make(chan int64, 1)
	var sum int64
	start := time.Now()
	for i := int64(0); i < n; i++ {
		ch <- i
		select {
		case v := <-ch:
			sum += v
		case <-time.After(time.Minute):
			fail("%s: timed out at %d", row, i)
		}
	}
	total := time.Since(start)
	expect(row, sum, n*(n-1)/2)
	printEach(row, total, n)
}

// The ping-pong, but the answer is waited for with a timeout that never comes: the timer is armed and taken back.
func selectTimeoutWait(row string, n int64) {
	there, back := make(chan int64), make(chan int64)
	var sum int64
	go echo(there, back)
	start := time.Now()
	for i := int64(0); i < n; i++ {
		there <- i
		select {
		case v := <-back:
			sum += v
		case <-time.After(time.Minute):
			fail("%s: timed out at %d", row, i)
		}
	}
	total := time.Since(start)
	expect(row, sum, n*(n+1)/2)
	printEach(row, total, n)
	close(there)
}

// Mutex, sleep.

var (
	mutex  sync.Mutex
	locked int64 // guarded by mutex
)

func mutexAlone(row string, n int64) {
	start := time.Now()
	for i := int64(0); i < n; i++ {
		mutex.Lock()
		locked++
		mutex.Unlock()
	}
	total := time.Since(start)
	expect(row, locked, n)
	printEach(row, total, n)
}

// How much later than asked a sleep returns: the median of N.
func sleepLate(row string, n int64) {
	late := make([]time.Duration, n)
	for i := range late {
		start := time.Now()
		time.Sleep(nap)
		late[i] = time.Since(start) - nap
		if late[i] < 0 {
			fail("%s: woke %d ns early", row, -late[i])
		}
	}
	slices.Sort(late)
	fmt.Printf("%s %d ns\n", row, late[n/2])
}

// Parked: N goroutines that wait on one channel.

type parkers struct {
	ready, done sync.WaitGroup
	ch          chan int64
	woken       atomic.Int64
}

func parker(p *parkers) {
	p.ready.Done()
	if _, ok := <-p.ch; ok {
		fail("the channel did not close")
	}
	p.woken.Add(1)
	p.done.Done()
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
	p.ready.Add(int(n))
	p.done.Add(int(n))
	start := time.Now()
	for i := int64(0); i < n; i++ {
		go parker(p)
	}
	p.ready.Wait()
	created := time.Since(start)
	after := memory()
	start = time.Now()
	close(p.ch)
	p.done.Wait()
	woken := time.Since(start)
	expect(row, p.woken.Load(), n)
	printEach("parked-create", created, n)
	fmt.Printf("parked-bytes %.0f bytes\n", float64(after-before)/float64(n))
	printEach("parked-wake", woken, n)
}

func leakOne() {
	<-make(chan int64)
}

// prove takes Go's goroutineleak profile of a process in which one goroutine has leaked. A thread of
// its own looks at the clock: the largest gap is how long the process stood still.
func prove(row string) {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		fmt.Fprintln(os.Stderr, "this Go has no goroutineleak profile (GOEXPERIMENT=goroutineleakprofile)")
		os.Exit(1)
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
	p.ready.Add(int(n))
	p.done.Add(int(n))
	for i := int64(0); i < n; i++ {
		go parker(p)
	}
	p.ready.Wait()
	prove(row)
	close(p.ch)
	p.done.Wait()
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
	random := uint64(88172645463325252)
	all := make([]*block, n<<14)
	for i := range all {
		all[i] = &block{}
	}
	for _, b := range all {
		random ^= random << 13
		random ^= random >> 7
		random ^= random << 17
		b.next, b.before = all[random%uint64(n<<14)], all[(random>>20)%uint64(n<<14)]
	}
	blocksAnyhow = all
	prove(row)
	blocksAnyhow = nil
}

var rows = []struct {
	name string
	run  func(row string, n int64)
}{
	{"yield-1", func(row string, n int64) { yieldAmong(row, n, 1) }},
	{"yield-100", func(row string, n int64) { yieldAmong(row, n, 100) }},
	{"yield-10k", func(row string, n int64) { yieldAmong(row, n, 10000) }},
	{"spawn-batch", func(row string, n int64) { spawnIn(row, n, batchSize) }},
	{"spawn-one", func(row string, n int64) { spawnIn(row, n, 1) }},
	{"pingpong", pingpong},
	{"buffered-128", buffered},
	{"select-2", selectTwo},
	{"select-timeout-ready", selectTimeoutReady},
	{"select-timeout-wait", selectTimeoutWait},
	{"mutex-alone", mutexAlone},
	{"sleep-50us", sleepLate},
	{"parked", parked},
	{"prove-parked", proveParked},
	{"prove-heap", proveHeap},
	{"prove-heap-anyhow", proveAnyhow},
	{"prove-parked-1m", proveParked},
	{"prove-heap-4g", proveHeap},
}

func main() {
	if len(os.Args) == 3 {
		n, _ := strconv.ParseInt(os.Args[2], 10, 64)
		for _, r := range rows {
			if n > 0 && r.name == os.Args[1] {
				r.run(r.name, n)
				return
			}
		}
	}
	fmt.Fprint(os.Stderr, "usage: basics ROW N\nrows:")
	for _, r := range rows {
		fmt.Fprint(os.Stderr, " ", r.name)
	}
	fmt.Fprintln(os.Stderr)
	os.Exit(2)
}
