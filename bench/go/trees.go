// Rows that are small programs: goroutines that start goroutines, and send what they found through channels. (In C they
// also count who still has a channel, to free it.)
package main

import "time"

// Sieve: the N-th prime, by a chain of filters, one for each prime before it.

func numbers(out chan<- int64) {
	for i := int64(2); ; i++ {
		out <- i
	}
}

func filter(in <-chan int64, out chan<- int64, prime int64) {
	for {
		v := <-in
		if v%prime != 0 {
			out <- v
		}
	}
}

// nthPrime finds it by division, to check by.
func nthPrime(n int64) int64 {
	var primes []int64
	var last int64
	for v := int64(2); int64(len(primes)) < n; v++ {
		isPrime := true
		for i := 0; i < len(primes) && primes[i]*primes[i] <= v && isPrime; i++ {
			isPrime = v%primes[i] != 0
		}
		if isPrime {
			primes, last = append(primes, v), v
		}
	}
	return last
}

// The chain is not taken down: it ends with the process.
func sieve(row string, n int64) {
	want, prime := nthPrime(n), int64(0)
	start := time.Now()
	ch := make(chan int64)
	go numbers(ch)
	for i := int64(0); i < n; i++ {
		prime = <-ch
		next := make(chan int64)
		go filter(ch, next, prime)
		ch = next
	}
	total := time.Since(start)
	expect(row, prime, want)
	printMs(row, total)
}

// Skynet: a tree in which each node starts ten, with N leaves that send up their numbers.

const children = 10

func node(up chan<- int64, first, leaves int64) {
	sum := first
	if leaves > 1 {
		down := make(chan int64)
		share := leaves / children
		for i := int64(0); i < children; i++ {
			go node(down, first+i*share, share)
		}
		sum = 0
		for i := 0; i < children; i++ {
			sum += <-down
		}
	}
	up <- sum
}

func skynet(row string, n int64) {
	leaves := int64(1)
	for leaves*children <= n {
		leaves *= children
	}
	if leaves != n {
		fail("%s: %d leaves are no power of %d", row, n, children)
	}
	start := time.Now()
	result := make(chan int64)
	go node(result, 0, n)
	sum := <-result
	total := time.Since(start)
	expect(row, sum, n*(n-1)/2)
	printEach(row, total, n)
}

// fib(N), where each call starts two goroutines for the two before.

func fibOf(n int64, up chan<- int64) {
	a, b := n, int64(0)
	if n >= 2 {
		down := make(chan int64)
		go fibOf(n-1, down)
		go fibOf(n-2, down)
		a = <-down
		b = <-down
	}
	up <- a + b
}

func fib(row string, n int64) {
	before, want := int64(0), int64(1)
	for i := int64(1); i < n; i++ {
		before, want = want, before+want
	}
	start := time.Now()
	out := make(chan int64)
	go fibOf(n, out)
	result := <-out
	total := time.Since(start)
	expect(row, result, want)
	printMs(row, total)
}

var treeRows = []row{
	{"sieve", sieve},
	{"skynet", skynet},
	{"fib", fib},
}
