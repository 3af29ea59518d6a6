// Command shop is a small shop that shows what Sessile is for: carts to which
// overlapping requests add, logins and logouts, a live view of the cart, and nothing lost.
//
//	go run ./examples/shop          serves it on 127.0.0.1:8080
//	go run ./examples/shop -check   tries it out, crash included, without a person
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/sessile-go/sessile"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to serve on")
	dir := flag.String("dir", "", "folder of the sessions (default: data, beside the example)")
	checking := flag.Bool("check", false, "run the whole job against a server of its own, and exit 1 if anything is lost")
	flag.Parse()
	if *checking {
		if err := check(os.Stdout); err != nil {
			fmt.Println("FAIL:", err)
			os.Exit(1)
		}
		return
	}
	if *dir == "" {
		*dir = defaultDir()
	}
	if err := serve(*addr, *dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// defaultDir is the folder data beside this source file, or in the working
// directory where that is not there.
func defaultDir() string {
	if _, file, _, ok := runtime.Caller(0); ok {
		if _, err := os.Stat(file); err == nil {
			return filepath.Join(filepath.Dir(file), "data")
		}
	}
	return "data"
}

// flushInterval is the loss window of carts: what is older survives a crash.
const flushInterval = 100 * time.Millisecond

func serve(addr, dir string) error {
	engine, err := sessile.Open(sessile.Options{
		Dir:           dir,
		FlushInterval: flushInterval,
		IdleTimeout:   12 * time.Hour,
		Logger:        slog.Default(),
	})
	if err != nil {
		return err
	}
	shop, err := newShop(engine)
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	server := &http.Server{Handler: shop.handler(), ReadHeaderTimeout: 5 * time.Second}
	server.RegisterOnShutdown(shop.endStreams) // they would go on for as long as their sessions do
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		<-stop.Done()
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		// First the requests, then the sessions that they use.
		done <- errors.Join(server.Shutdown(grace), engine.Shutdown(grace))
	}()
	fmt.Printf("the shop is open: http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, engine.Close())
	}
	return <-done
}
