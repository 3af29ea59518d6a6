package sessionhttp

import (
	"net/http"
	"strings"
)

// findCookie looks for a name in the values of Cookie headers and returns the value of the
// last one and how many there are. A request with two is not ours: a cookie of a sister host
// or another path shadows it, perhaps on purpose. net/http's parser is not used because it allocates, and unquotes.
func findCookie(headers []string, name string) (value string, n int) {
	for _, h := range headers {
		for len(h) > 0 {
			var pair string
			pair, h, _ = strings.Cut(h, ";")
			pair = strings.Trim(pair, " \t")
			if len(pair) > len(name) && pair[len(name)] == '=' && pair[:len(name)] == name {
				value = pair[len(name)+1:]
				n++
			} else if pair == name {
				n++ // without a value
				value = ""
			}
		}
	}
	return value, n
}

// cookie returns the cookie with a token.
func (m *Manager) cookie(token string, remember bool) *http.Cookie {
	c := m.opt.template()
	c.Value = token
	if remember || !m.opt.BrowserSession {
		c.MaxAge = int(m.opt.CookieAge.Seconds())
	}
	return c
}

// expired returns the cookie that makes the browser forget it.
func (m *Manager) expired() *http.Cookie {
	c := m.opt.template()
	c.Value = ""
	c.MaxAge = -1
	return c
}
