package sessionfiber_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/sessile-go/sessile"
	sessionfiber "github.com/sessile-go/sessile/contrib/fiber"
	"github.com/sessile-go/sessile/sessionhttp"
)

var visits = sessile.NewKey[int]("visits")

func Example() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // or Dir: "data"
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}

	app := fiber.New()
	app.Use(sessionfiber.Middleware(m))
	app.Get("/hello/:name", func(c fiber.Ctx) error {
		var n int
		err := sessionfiber.From(c).Update(c.Context(), func(tx sessile.Txn) (err error) {
			n, err = sessile.Add(tx, visits, 1)
			return err
		})
		if err != nil {
			return fiber.NewError(sessionhttp.Status(err), "no session")
		}
		return c.SendString(fmt.Sprintf("hello %s, visit %d", c.Params("name"), n))
	})

	res, err := app.Test(httptest.NewRequest("GET", "/hello/ann", nil)) // app.Listen(addr)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", res.Cookies()[0].Name, body)
	// Output: __Host-id: hello ann, visit 1
}

// A stream, behind Middleware, that shows the session as it changes, in all tabs, until it ends.
func ExampleFrom_stream() {
	app := fiber.New()
	app.Get("/events", func(c fiber.Ctx) error {
		s := sessionfiber.From(c) // the writer must not touch c
		if err := s.Ensure(c.Context()); err != nil {
			return fiber.NewError(sessionhttp.Status(err), "no session")
		}
		c.Set(fiber.HeaderContentType, "text/event-stream")
		return c.SendStreamWriter(func(w *bufio.Writer) {
			for version := uint64(0); ; {
				wait, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				info, err := s.Wait(wait, version)
				cancel()
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					fmt.Fprint(w, ": still here\n\n")
				case err != nil:
					return // logged out
				default:
					version = info.Version
					n, err := sessile.Read(context.Background(), s, visits)
					if err != nil {
						return
					}
					fmt.Fprintf(w, "data: %d\n\n", n)
				}
				if w.Flush() != nil {
					return // the client has gone
				}
			}
		})
	})
}
