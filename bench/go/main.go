// Go's side of the benchmark: the twin of ../*.c, file by file. `bench-go ROW N` does the row's work N times, checks it,
// and prints `name value unit` lines. A check that fails ends the process with status 1 and prints no figure; 3 says
// that there is no such row. The same rows, the same work in the same order, the same checks: change both or neither.
//
// select_written.go is written by select_gen.go: go generate && go build.
package main

//go:generate go run select_gen.go

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type row struct {
	name string
	run  func(row string, n int64)
}

var tables = [][]row{goroutineRows, treeRows, channelRows, selectRows, contextRows, timerRows, lockRows, proofRows}

// fail ends the process, whichever goroutine finds it.
func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench-go: "+format+"\n", args...)
	os.Exit(1)
}

func expect(what string, got, want int64) {
	if got != want {
		fail("%s: %d, expected %d", what, got, want)
	}
}

// printEach prints nanoseconds for one of n.
func printEach(row string, total time.Duration, n int64) {
	fmt.Printf("%s %.2f ns\n", row, float64(total)/float64(n))
}

// printMs prints milliseconds for all.
func printMs(row string, total time.Duration) {
	fmt.Printf("%s %.3f ms\n", row, float64(total)/1e6)
}

// printPercentiles prints `row-p50` and `row-p99`, in nanoseconds. It sorts the spans.
func printPercentiles(row string, spans []time.Duration) {
	slices.Sort(spans)
	n := len(spans)
	fmt.Printf("%s-p50 %d ns\n%s-p99 %d ns\n", row, spans[n/2], row, spans[n*99/100])
}

const seed = 88172645463325252

// nextRandom gives the next of a sequence of numbers that looks random and is the same in both twins.
func nextRandom(state *uint64) uint64 {
	*state ^= *state << 13
	*state ^= *state >> 7
	*state ^= *state << 17
	return *state
}

// parkers are goroutines that wait on one channel until it is closed. The rows parked and prove-parked begin with them.
type parkers struct {
	ready, done sync.WaitGroup
	ch          chan int64
	woken       atomic.Int64
}

func main() {
	if len(os.Args) == 3 {
		if n, _ := strconv.ParseInt(os.Args[2], 10, 64); n > 0 {
			for _, rows := range tables {
				for _, r := range rows {
					if r.name == os.Args[1] {
						r.run(r.name, n)
						return
					}
				}
			}
			fmt.Fprintf(os.Stderr, "bench-go: no row is named %s\n", os.Args[1])
			os.Exit(3)
		}
	}
	fmt.Fprint(os.Stderr, "usage: bench-go ROW N\nrows:")
	for _, rows := range tables {
		for _, r := range rows {
			fmt.Fprint(os.Stderr, " ", r.name)
		}
	}
	fmt.Fprintln(os.Stderr)
	os.Exit(2)
}
