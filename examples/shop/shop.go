package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/sessile-go/sessile"
)

//go:embed web
var web embed.FS

var page = template.Must(template.ParseFS(web, "web/shop.html"))

// What a session holds. Each article in the cart is a key of its own; that two
// requests change the cart at once is no reason for care.
var (
	total  = sessile.NewKey[int64]("total")
	orders = sessile.NewKey[int64]("orders")
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
	for _, a := range articles {
		if a.SKU == sku {
			return true
		}
	}
	return false
}

type shop struct{ engine *sessile.Engine }

func newShop(e *sessile.Engine) *shop { return &shop{e} }

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /cart", s.cart)
	mux.HandleFunc("POST /add", s.add)
	mux.HandleFunc("POST /checkout", s.checkout)
	mux.HandleFunc("POST /login", s.login)
	mux.HandleFunc("POST /logout", s.logout)
	mux.Handle("GET /web/", http.FileServerFS(web))
	// Forms and scripts of other sites cannot act for our customers.
	return http.NewCrossOriginProtection().Handler(mux)
}

// cookieName has no __Host- prefix because the example is served without TLS; a
// shop on the internet has one, and sets Secure.
const cookieName = "shop"

func setToken(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: cookieName, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if token == "" {
		c.MaxAge = -1
	}
	w.Header().Set("Cache-Control", "no-store")
	http.SetCookie(w, c)
}

// grant returns what the request's token proves. Without a cookie, or with one
// that means nothing any more, ok is false and err nil: the customer is new.
// A token replaced or ended a moment ago is an error: a newer cookie may be on
// its way to the same browser, and must not be overwritten.
func (s *shop) grant(r *http.Request) (g sessile.Grant, ok bool, err error) {
	cookies := r.CookiesNamed(cookieName)
	if len(cookies) != 1 {
		return g, false, nil
	}
	g, err = s.engine.Resolve(r.Context(), cookies[0].Value)
	if errors.Is(err, sessile.ErrNoToken) {
		return g, false, nil
	}
	return g, err == nil, err
}

// within runs fn if the session is still in the auth epoch that the grant proves.
func within(g sessile.Grant, fn func(sessile.Txn) error) func(sessile.Txn) error {
	return func(tx sessile.Txn) error {
		if tx.Epoch() != g.Epoch {
			return sessile.ErrRenewed
		}
		return fn(tx)
	}
}

// ensure returns the customer's session, making an anonymous one if there is none.
func (s *shop) ensure(w http.ResponseWriter, r *http.Request) (g sessile.Grant, err error) {
	g, ok, err := s.grant(r)
	if ok || err != nil {
		return g, err
	}
	var token string
	g.ID, err = s.engine.Create(r.Context(), func(tx sessile.Txn) (err error) {
		token, err = tx.NewToken(sessile.TokenLogin)
		g.Epoch = tx.Epoch()
		return err
	})
	if err != nil {
		return g, err
	}
	setToken(w, token)
	return g, nil
}

// fail answers an error.
func fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, sessile.ErrRenewed), errors.Is(err, sessile.ErrEnded), errors.Is(err, sessile.ErrNotFound):
		http.Error(w, "This session has ended. Load the page again.", http.StatusUnauthorized)
	case errors.Is(err, sessile.ErrBusy), errors.Is(err, sessile.ErrDiskFull), errors.Is(err, sessile.ErrClosed):
		http.Error(w, "The shop is busy. Try again.", http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// A cartView is what the page and GET /cart show.
type cartView struct {
	User     string           `json:"user"`
	Total    int64            `json:"total"`
	Orders   int64            `json:"orders"`
	Items    map[string]int64 `json:"items"`
	Articles []article        `json:"-"`
}

func (s *shop) look(ctx context.Context, g sessile.Grant) (v cartView, err error) {
	v.Items = map[string]int64{}
	v.Articles = articles
	err = s.engine.View(ctx, g.ID, within(g, func(tx sessile.Txn) (err error) {
		v.User = tx.Info().User
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
	}))
	return v, err
}

func (s *shop) home(w http.ResponseWriter, r *http.Request) {
	// The session begins with the page, before its parallel requests.
	g, err := s.ensure(w, r)
	if errors.Is(err, sessile.ErrEnded) || errors.Is(err, sessile.ErrRenewed) {
		w.Header().Set("Refresh", "2") // by then the browser has the newer cookie, or the old one means nothing
	}
	if err != nil {
		fail(w, err)
		return
	}
	_ = s.engine.Touch(r.Context(), g.ID) // only that it was here; the page does not depend on it
	v, err := s.look(r.Context(), g)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := page.Execute(w, v); err != nil {
		return // the customer has gone
	}
}

func (s *shop) cart(w http.ResponseWriter, r *http.Request) {
	g, ok, err := s.grant(r)
	v := cartView{Items: map[string]int64{}}
	if err == nil && ok {
		v, err = s.look(r.Context(), g)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, v)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the customer has gone
}

// add puts one article into the cart: two counters, one transaction.
func (s *shop) add(w http.ResponseWriter, r *http.Request) {
	sku := r.FormValue("sku")
	if !known(sku) {
		http.Error(w, "no such article", http.StatusBadRequest)
		return
	}
	g, err := s.ensure(w, r)
	var n int64
	if err == nil {
		err = s.engine.Update(r.Context(), g.ID, within(g, func(tx sessile.Txn) (err error) {
			if _, err = sessile.Add(tx, quantity(sku), 1); err != nil {
				return err
			}
			n, err = sessile.Add(tx, total, 1)
			return err
		}))
	}
	if err != nil {
		fail(w, err)
		return
	}
	if r.Header.Get("Accept") == "application/json" {
		answer(w, map[string]int64{"total": n})
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// checkout empties the cart into an order. Money is involved, so it answers when it is on disk.
func (s *shop) checkout(w http.ResponseWriter, r *http.Request) {
	g, err := s.ensure(w, r)
	var n int64
	if err == nil {
		err = s.engine.Update(r.Context(), g.ID, within(g, func(tx sessile.Txn) (err error) {
			for k := range tx.All() {
				if strings.HasPrefix(k, "cart/") || k == total.Name() {
					if err := tx.Delete(k); err != nil {
						return err
					}
				}
			}
			n, err = sessile.Add(tx, orders, 1)
			tx.Durable()
			return err
		}))
	}
	if err != nil {
		fail(w, err)
		return
	}
	if r.Header.Get("Accept") == "application/json" {
		answer(w, map[string]int64{"orders": n})
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// login binds the session to a user and replaces its token, so that whoever
// knew the anonymous one is out.
func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user"))
	if user == "" || len(user) > 40 {
		http.Error(w, "a name of 1 to 40 bytes, please", http.StatusBadRequest)
		return
	}
	g, err := s.ensure(w, r)
	var token string
	if err == nil {
		// The browser may give up; a login that has begun is finished.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
		defer cancel()
		err = s.engine.Update(ctx, g.ID, within(g, func(tx sessile.Txn) (err error) {
			if err = tx.SetUser(user); err != nil {
				return err
			}
			tx.Durable()
			token, err = tx.NewToken(sessile.TokenLogin)
			return err
		}))
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Del("Set-Cookie") // that of a session made a moment ago
	setToken(w, token)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout ends the session. That holds in memory at once, whatever the disk does.
func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	g, ok, err := s.grant(r)
	if err == nil && ok {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), 10*time.Second)
		defer cancel()
		err = s.engine.Delete(ctx, g.ID)
	}
	if err != nil && !errors.Is(err, sessile.ErrEnded) {
		fail(w, err)
		return
	}
	setToken(w, "")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}
