package sessiongin_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/gin-gonic/gin"
	"github.com/sessile-go/sessile"
	sessiongin "github.com/sessile-go/sessile/contrib/gin"
	"github.com/sessile-go/sessile/sessionhttp"
)

var visits = sessile.NewKey[int]("visits")

// visit is a handler: the same either way.
func visit(c *gin.Context) {
	var n int
	err := sessiongin.From(c).Update(c.Request.Context(), func(tx sessile.Txn) (err error) {
		n, err = sessile.Add(tx, visits, 1)
		return err
	})
	if err != nil {
		c.String(sessionhttp.Status(err), "no session")
		return
	}
	c.String(http.StatusOK, "hello %s, visit %d", c.Param("name"), n)
}

// The whole server is wrapped: nothing of gin's is in the way.
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

	router := gin.New()
	router.GET("/hello/:name", visit)

	server := httptest.NewServer(m.Handler(router)) // http.ListenAndServe(addr, m.Handler(router))
	defer server.Close()
	show(server.URL + "/hello/ann")
	// Output: __Host-id: hello ann, visit 1
}

// One group of routes has sessions.
func ExampleMiddleware() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // or Dir: "data"
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}

	router := gin.New()
	hello := router.Group("/hello", sessiongin.Middleware(m))
	hello.GET("/:name", visit)

	server := httptest.NewServer(router) // router.Run(addr)
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
