package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

//go:embed web
var web embed.FS

var page = template.Must(template.ParseFS(web, "web/shop.html"))

// What a session holds. Each article in the cart is a key of its own; that two
// requests change the cart at once is no reason for care.
var (
	total   = sessile.NewKey[int64]("total")
	orders  = sessile.NewKey[int64]("orders")
	browser = sessile.NewKey[string]("browser")
)

func quantity(sku string) sessile.Key[int64] { return sessile.NewKey[int64]("cart/" + sku) }

// An article can be bought. Its picture is web/SKU.svg.
type article struct {
	SKU, Name, Text string
	Price           cents
}

type cents int64

func (c cents) String() string { return fmt.Sprintf("€ %d.%02d", c/100, c%100) }

var articles = []article{
	{"barnacle", "Barnacle", "Glazed by hand. Sits where you put it, for good.", 1200},
	{"coral", "Coral", "Red, grown slowly, one branch at a time.", 4800},
	{"oyster", "Oyster", "With pearl. Opens for those who wait.", 9500},
	{"sponge", "Sponge", "Natural. Takes up whatever comes, loses nothing.", 700},
}

func known(sku string) bool {
	return slices.ContainsFunc(articles, func(a article) bool { return a.SKU == sku })
}

type shop struct {
	engine  *sessile.Engine
	manager *sessionhttp.Manager
	race    *race

	streams    context.Context // ends with the server
	endStreams context.CancelFunc
}

// cookieName has no __Host- prefix because the example is served without TLS; a
// shop on the internet leaves both options alone.
const cookieName = "shop"

func newShop(e *sessile.Engine) (*shop, error) {
	m, err := sessionhttp.New(e, sessionhttp.Options{CookieName: cookieName, Insecure: true, MaxPerUser: 20})
	if err != nil {
		return nil, err
	}
	s := &shop{engine: e, manager: m, race: newRace()}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	return s, nil
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /cart", s.cart)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("POST /add", s.add)
	mux.HandleFunc("POST /checkout", s.checkout)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.HandleFunc("POST /end", s.end)
	mux.HandleFunc("POST /endothers", s.endOthers)
	mux.HandleFunc("POST /endall", s.endAll)
	mux.HandleFunc("POST /race/start", s.race.start)
	mux.HandleFunc("POST /race/sessile", s.race.update)
	mux.HandleFunc("POST /race/loadsave", s.race.loadAndSave)
	mux.HandleFunc("GET /race/result", s.race.result)
	mux.Handle("GET /web/", http.FileServerFS(web))
	// Forms and scripts of other sites cannot act for our customers.
	return http.NewCrossOriginProtection().Handler(ownContentOnly(s.manager.Handler(mux)))
}

// ownContentOnly keeps scripts and frames of others out of the pages.
func ownContentOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// fail answers an error.
func fail(w http.ResponseWriter, err error) {
	switch status := sessionhttp.Status(err); status {
	case http.StatusUnauthorized:
		if errors.Is(err, sessile.ErrRenewed) {
			http.Error(w, "You are logging in. One moment.", status)
			return
		}
		http.Error(w, "This session has ended. Load the page again.", status)
	case http.StatusServiceUnavailable:
		http.Error(w, "The shop is busy. Try again.", status)
	default:
		http.Error(w, err.Error(), status)
	}
}

// A cartView is what the page, GET /cart and the events show.
type cartView struct {
	User     string           `json:"user"`
	Total    int64            `json:"total"`
	Sum      string           `json:"sum"`
	Orders   int64            `json:"orders"`
	Items    map[string]int64 `json:"items"`
	Articles []article        `json:"-"`
	Flashes  []string         `json:"-"`
	Sessions []ownSession     `json:"-"`
	version  uint64
}

func look(ctx context.Context, s *sessionhttp.Session) (v cartView, err error) {
	err = s.View(ctx, func(tx sessile.Txn) (err error) {
		v = cartView{User: tx.Info().User, Items: map[string]int64{}, Articles: articles, version: tx.Info().Version}
		for k := range tx.All() {
			if sku, ok := strings.CutPrefix(k, "cart/"); ok {
				if v.Items[sku], err = quantity(sku).Get(tx); err != nil {
					return err
				}
			}
		}
		var sum cents
		for _, a := range articles {
			sum += a.Price * cents(v.Items[a.SKU])
		}
		v.Sum = sum.String()
		if v.Total, err = total.Get(tx); err != nil {
			return err
		}
		v.Orders, err = orders.Get(tx)
		return err
	})
	return v, err
}

func (s *shop) home(w http.ResponseWriter, r *http.Request) {
	session := sessionhttp.From(r)
	// The session begins with the page, before its parallel requests.
	err := session.Restart(r.Context())
	if errors.Is(err, sessile.ErrRenewed) {
		w.Header().Set("Refresh", "1") // by then the browser has the newer cookie
	}
	var v cartView
	if err == nil {
		v, err = look(r.Context(), session)
	}
	if err == nil {
		v.Flashes, err = flashes(r.Context(), session)
	}
	if err == nil && v.User != "" {
		v.Sessions, err = s.sessions(r.Context(), session)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := page.Execute(w, v); err != nil {
		return // the customer has gone
	}
}

// flashes pops the messages: whichever page is first shows them.
func flashes(ctx context.Context, s *sessionhttp.Session) (texts []string, err error) {
	err = s.Update(ctx, func(tx sessile.Txn) error {
		all, err := sessionhttp.PopFlashes(tx)
		for _, f := range all {
			texts = append(texts, f.Text)
		}
		return err
	})
	return texts, err
}

func (s *shop) cart(w http.ResponseWriter, r *http.Request) {
	v, err := look(r.Context(), sessionhttp.From(r))
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, v)
}

// events shows the cart as it changes, in all of the customer's tabs, until the session ends.
func (s *shop) events(w http.ResponseWriter, r *http.Request) {
	session := sessionhttp.From(r)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()
	version := uint64(0)
	for {
		_, err := session.Wait(ctx, version)
		var v cartView
		if err == nil {
			v, err = look(ctx, session)
		}
		if err != nil {
			if ctx.Err() == nil {
				event := "ended"
				if errors.Is(err, sessile.ErrRenewed) {
					event = "renewed" // a login in another tab; the browser has, or is about to get, the new cookie
				}
				fmt.Fprintf(w, "event: %s\ndata:\n\n", event)
			}
			return
		}
		version = v.version
		b, err := json.Marshal(v)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "data: %s\n\n", b)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the customer has gone
}

// done answers a form, or a script that wants JSON.
func done(w http.ResponseWriter, r *http.Request, err error, v any) {
	switch {
	case err != nil:
		fail(w, err)
	case r.Header.Get("Accept") == "application/json" && v != nil:
		answer(w, v)
	default:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// add puts one article into the cart: two counters, one transaction.
func (s *shop) add(w http.ResponseWriter, r *http.Request) {
	sku := r.FormValue("sku")
	if !known(sku) {
		http.Error(w, "no such article", http.StatusBadRequest)
		return
	}
	var n int64
	err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
		if _, err = sessile.Add(tx, quantity(sku), 1); err != nil {
			return err
		}
		n, err = sessile.Add(tx, total, 1)
		return err
	})
	done(w, r, err, map[string]int64{"total": n})
}

// checkout empties the cart into an order. Money is involved, so it answers when it is on disk.
func (s *shop) checkout(w http.ResponseWriter, r *http.Request) {
	var n int64
	err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
		for k := range tx.All() {
			if strings.HasPrefix(k, "cart/") || k == total.Name() {
				if err := tx.Delete(k); err != nil {
					return err
				}
			}
		}
		tx.Durable()
		if n, err = sessile.Add(tx, orders, 1); err != nil {
			return err
		}
		return sessionhttp.AddFlash(tx, sessionhttp.Flash{Kind: "info", Text: fmt.Sprintf("Order number %d is on its way.", n)})
	})
	done(w, r, err, map[string]int64{"orders": n})
}
