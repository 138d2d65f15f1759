// The twin of examples/echo and examples/hello: net echo|hello PORT
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func echo(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 4096)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				if _, err = conn.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func hello(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = []string{"text/plain"}
		io.WriteString(w, "Hello, world!\n")
	}))
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: net echo|hello PORT")
		os.Exit(2)
	}
	serve := echo
	if os.Args[1] == "hello" {
		serve = hello
	}
	fmt.Fprintln(os.Stderr, serve("127.0.0.1:"+os.Args[2]))
	os.Exit(1)
}
