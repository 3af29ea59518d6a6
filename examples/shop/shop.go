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
	"time"

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

// An article can be bought.
type article struct{ SKU, Name, Price string }

var articles = []article{
	{"barnacle", "Barnacle, glazed", "€ 12"},
	{"coral", "Coral, red", "€ 48"},
	{"oyster", "Oyster, with pearl", "€ 95"},
	{"sponge", "Sponge, natural", "€ 7"},
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
	mux.HandleFunc("POST /race/start", s.race.start)
	mux.HandleFunc("POST /race/sessile", s.race.update)
	mux.HandleFunc("POST /race/loadsave", s.race.loadAndSave)
	mux.HandleFunc("GET /race/result", s.race.result)
	mux.Handle("GET /web/", http.FileServerFS(web))
	// Forms and scripts of other sites cannot act for our customers.
	return http.NewCrossOriginProtection().Handler(s.manager.Handler(mux))
}

// fail answers an error.
func fail(w http.ResponseWriter, err error) {
	switch status := sessionhttp.Status(err); status {
	case http.StatusUnauthorized:
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
	Orders   int64            `json:"orders"`
	Items    map[string]int64 `json:"items"`
	Articles []article        `json:"-"`
	Flashes  []string         `json:"-"`
	Others   []otherSession   `json:"-"`
	version  uint64
}

// An otherSession is one of the customer's, in another browser.
type otherSession struct{ ID, Browser, Seen string }

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
		v.Others, err = s.others(r.Context(), session)
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

func (s *shop) others(ctx context.Context, session *sessionhttp.Session) (others []otherSession, err error) {
	for info, err := range session.Others(ctx) {
		if err != nil {
			return nil, err
		}
		name, err := sessile.Read(ctx, s.engine.Session(info.ID), browser)
		if errors.Is(err, sessile.ErrNotFound) {
			continue // it ended just now
		}
		if err != nil {
			return nil, err
		}
		others = append(others, otherSession{info.ID, name, info.LastSeen.Format(time.DateTime)})
	}
	return others, nil
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
				fmt.Fprintf(w, "event: ended\ndata: %d\n\n", sessionhttp.Status(err))
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

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user"))
	if user == "" || len(user) > 40 {
		http.Error(w, "a name of 1 to 40 bytes, please", http.StatusBadRequest)
		return
	}
	err := sessionhttp.From(r).Login(r.Context(), user, func(tx sessile.Txn) error {
		agent := r.UserAgent()
		return browser.Set(tx, agent[:min(len(agent), 120)])
	})
	done(w, r, err, nil)
}

// logout ends the session. That holds in memory at once, whatever the disk does.
func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	done(w, r, sessionhttp.From(r).Logout(r.Context()), nil)
}

func (s *shop) end(w http.ResponseWriter, r *http.Request) {
	err := sessionhttp.From(r).EndOther(r.Context(), r.FormValue("id"))
	if errors.Is(err, sessile.ErrNotFound) {
		err = nil // it has ended already
	}
	done(w, r, err, nil)
}

func (s *shop) endOthers(w http.ResponseWriter, r *http.Request) {
	_, err := sessionhttp.From(r).EndOthers(r.Context())
	done(w, r, err, nil)
}
