// Rows about select: of 2, 8, 64 and more channels, of which one, all or none are ready; and with a timeout.
//
// All selects are written out, those of 8 and more by select_gen.go: reflect.Select, for a number of arms that is known
// only at run time, is slower. (In C, those of 64 and more are arrays of arms, made once.)
package main

import "time"

// By the number of channels: receive from one of c; which, and what. n when none is ready and there is a default.
type chooser func(c []chan int64) (arm int, v int64)

var choosers, pollers = map[int]chooser{2: choose2, 8: choose8, 64: choose64, 256: choose256, 1024: choose1024},
	map[int]chooser{2: poll2, 8: poll8, 64: poll64}

func choose2(c []chan int64) (arm int, v int64) {
	_ = c[1]
	select {
	case v = <-c[0]:
		arm = 0
	case v = <-c[1]:
		arm = 1
	}
	return
}

func poll2(c []chan int64) (arm int, v int64) {
	_ = c[1]
	select {
	case v = <-c[0]:
		arm = 0
	case v = <-c[1]:
		arm = 1
	default:
		arm = 2
	}
	return
}

func channels(n int) []chan int64 {
	c := make([]chan int64, n)
	for i := range c {
		c[i] = make(chan int64, 1)
	}
	return c
}

// A send makes one of them ready, in turn, and the select takes it out again.
func oneReady(row string, n int64, arms int) {
	c, choose := channels(arms), choosers[arms]
	var sum int64
	start := time.Now()
	for i := int64(0); i < n; i++ {
		ready := int(i) & (arms - 1)
		c[ready] <- i
		arm, v := choose(c)
		if arm != ready {
			fail("%s: arm %d at %d", row, arm, i)
		}
		sum += v
	}
	total := time.Since(start)
	expect(row, sum, n*(n-1)/2)
	printEach(row, total, n)
}

// All are ready; what the select takes out is put back.
func allReady(row string, n int64, arms int) {
	c, choose := channels(arms), choosers[arms]
	var sum, want int64
	for i := range c {
		c[i] <- int64(i)
	}
	start := time.Now()
	for i := int64(0); i < n; i++ {
		arm, v := choose(c)
		if v != int64(arm) {
			fail("%s: arm %d gave %d at %d", row, arm, v, i)
		}
		c[arm] <- v
	}
	total := time.Since(start)
	for i := range c {
		sum += <-c[i]
		want += int64(i)
	}
	expect(row, sum, want)
	printEach(row, total, n)
}

func noneReady(row string, n int64, arms int) {
	c, poll := channels(arms), pollers[arms]
	start := time.Now()
	for i := int64(0); i < n; i++ {
		arm, _ := poll(c)
		if arm != arms {
			fail("%s: arm %d at %d", row, arm, i)
		}
	}
	total := time.Since(start)
	printEach(row, total, n)
}

// One channel that is ready, and a timeout that never comes.
func timeoutReady(row string, n int64) {
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

// A ping-pong whose answer is waited for with a timeout that never comes: the timer is armed and taken back.
func timeoutWait(row string, n int64) {
	there, back := make(chan int64), make(chan int64)
	var sum int64
	go echo(there, back, false)
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

var selectRows = []row{
	{"select-2-one", func(row string, n int64) { oneReady(row, n, 2) }},
	{"select-8-one", func(row string, n int64) { oneReady(row, n, 8) }},
	{"select-64-one", func(row string, n int64) { oneReady(row, n, 64) }},
	{"select-256-one", func(row string, n int64) { oneReady(row, n, 256) }},
	{"select-1024-one", func(row string, n int64) { oneReady(row, n, 1024) }},
	{"select-2-all", func(row string, n int64) { allReady(row, n, 2) }},
	{"select-8-all", func(row string, n int64) { allReady(row, n, 8) }},
	{"select-64-all", func(row string, n int64) { allReady(row, n, 64) }},
	{"select-2-none", func(row string, n int64) { noneReady(row, n, 2) }},
	{"select-8-none", func(row string, n int64) { noneReady(row, n, 8) }},
	{"select-64-none", func(row string, n int64) { noneReady(row, n, 64) }},
	{"select-timeout-ready", timeoutReady},
	{"select-timeout-wait", timeoutWait},
}
