package sessionecho_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/labstack/echo/v5"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

var visits = sessile.NewKey[int]("visits")

// visit is a handler: the same either way.
func visit(c *echo.Context) error {
	var n int
	r := c.Request()
	err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
		n, err = sessile.Add(tx, visits, 1)
		return err
	})
	if err != nil {
		return echo.NewHTTPError(sessionhttp.Status(err), "no session").Wrap(err)
	}
	return c.String(http.StatusOK, fmt.Sprintf("hello %s, visit %d", c.Param("name"), n))
}

// The whole server is wrapped.
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

	e := echo.New()
	e.GET("/hello/:name", visit)

	server := httptest.NewServer(m.Handler(e)) // http.ListenAndServe(addr, m.Handler(e))
	defer server.Close()
	show(server.URL + "/hello/ann")
	// Output: __Host-id: hello ann, visit 1
}

// One group of routes has sessions.
func Example_group() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // or Dir: "data"
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}

	e := echo.New()
	hello := e.Group("/hello", echo.WrapMiddleware(m.Handler))
	hello.GET("/:name", visit)

	server := httptest.NewServer(e) // e.Start(addr)
	defer server.Close()
	show(server.URL + "/hello/bob")
	// Output: __Host-id: hello bob, visit 1
}

func show(url string) {
	res, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", res.Cookies()[0].Name, body)
}
