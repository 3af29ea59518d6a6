package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// The guide's arrangement for an identity provider that answers with a cross-site POST: the flow has a SameSite=None cookie of its
// own, its route a bypass, and the login happens in a GET of one's own, where the Lax cookie comes along.
func TestFormPost(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	flows, err := sessionhttp.New(e, sessionhttp.Options{CookieName: "__Host-flow", SameSite: http.SameSiteNoneMode, AnonymousIdle: 10 * time.Minute})
	require.NoError(t, err)
	who := sessile.NewKey[string]("who")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		reply(w, m.From(r).Update(r.Context(), increment), "ok")
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		var state string
		err := flows.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			state, err = sessionhttp.BeginFlow(tx, "oauth", time.Minute, []byte("verifier"))
			return err
		})
		reply(w, err, "%s", state)
	})
	mux.HandleFunc("POST /callback", func(w http.ResponseWriter, r *http.Request) {
		err := flows.From(r).Update(r.Context(), func(tx sessile.Txn) error {
			verifier, known, err := sessionhttp.TakeFlow(tx, "oauth", r.FormValue("state"))
			if err != nil || !known || string(verifier) != "verifier" {
				return sessile.ErrNoToken
			}
			return who.Set(tx, "ann") // after the exchange of the code
		})
		reply(w, err, "ok")
	})
	mux.HandleFunc("GET /finish", func(w http.ResponseWriter, r *http.Request) {
		var user string
		err := flows.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			user, _, err = who.Pop(tx)
			return err
		})
		if err == nil {
			err = m.From(r).Login(r.Context(), user, nil)
		}
		n, _ := sessile.Read(r.Context(), m.From(r), counter)
		reply(w, err, "%s has %d", user, n)
	})
	protection := http.NewCrossOriginProtection()
	protection.AddInsecureBypassPattern("POST /callback")
	handler := protection.Handler(m.Handler(flows.Handler(mux)))

	jar := map[string]*http.Cookie{}
	send := func(method, path, body, site string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", site)
		for _, c := range jar { // as a browser does
			if site == "same-origin" || c.SameSite == http.SameSiteNoneMode {
				r.AddCookie(c)
			}
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		for _, c := range w.Result().Cookies() {
			jar[c.Name] = c
		}
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	code, _ := send("POST", "/add", "", "same-origin")
	require.Equal(t, http.StatusOK, code)
	code, _ = send("POST", "/add", "", "cross-site")
	require.Equal(t, http.StatusForbidden, code, "other sites' forms")
	code, state := send("GET", "/login", "", "same-origin")
	require.Equal(t, http.StatusOK, code)
	before := jar["__Host-id"].Value
	code, _ = send("POST", "/callback", "state=made-up", "cross-site")
	require.Equal(t, http.StatusUnauthorized, code)
	code, _ = send("POST", "/callback", "state="+state, "cross-site")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, before, jar["__Host-id"].Value, "nothing is done to the user's session meanwhile")
	code, said := send("GET", "/finish", "", "same-origin")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ann has 1", said, "the cart comes along")
	require.NotEqual(t, before, jar["__Host-id"].Value)
	code, _ = send("POST", "/callback", "state="+state, "cross-site")
	require.Equal(t, http.StatusUnauthorized, code, "once")
}
