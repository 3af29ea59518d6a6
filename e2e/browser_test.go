// Package e2e tries the shop in a real browser. It is a module of its own because it needs one.
package e2e

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// patience bounds each wait for the browser: on a slow machine it takes its time.
const patience = 60 * time.Second

// A shop is one that runs, with a browser that visits it.
type shop struct {
	t       *testing.T
	base    string
	browser context.Context
}

func newShop(t *testing.T) *shop {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil && chromium == "" {
			chromium = path
		}
	}
	if chromium == "" {
		t.Skip("there is no Chromium here (Debian: apt-get install chromium)")
	}
	base := startShop(t)
	all, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.WindowSize(1040, 760))
	all, cancel = chromedp.NewExecAllocator(all, options...)
	t.Cleanup(cancel)
	browser, cancel := chromedp.NewContext(all)
	t.Cleanup(cancel)
	do(t, browser, chromedp.Navigate("about:blank"))
	return &shop{t, base, browser}
}

// profile opens the shop in a browser profile of its own, with its own cookies.
func (s *shop) profile() (tab context.Context) {
	return s.open(chromedp.NewContext(s.browser, chromedp.WithNewBrowserContext()))
}

// tab opens it in another tab of the same profile.
func (s *shop) tab(beside context.Context) context.Context {
	id := chromedp.FromContext(beside).BrowserContextID
	return s.open(chromedp.NewContext(s.browser, chromedp.WithExistingBrowserContext(id)))
}

func (s *shop) open(tab context.Context, cancel context.CancelFunc) context.Context {
	s.t.Helper()
	s.t.Cleanup(cancel)
	do(s.t, tab, chromedp.Navigate(s.base), live())
	return tab
}

// cookie returns the tab's.
func (s *shop) cookie(tab context.Context) string {
	s.t.Helper()
	got, err := chromedp.Call(tab, network.GetCookies, network.GetCookiesParams{})
	require.NoError(s.t, err)
	for _, c := range got.Cookies {
		if c.Name == "shop" {
			return c.Value
		}
	}
	require.Fail(s.t, "no cookie")
	return ""
}

// status asks for the cart with a cookie, as somebody else who has it would.
func (s *shop) status(cookie string) int {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.base+"/cart", nil)
	require.NoError(s.t, err)
	req.AddCookie(&http.Cookie{Name: "shop", Value: cookie})
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	require.NoError(s.t, res.Body.Close())
	return res.StatusCode
}

// startShop builds the shop and starts it, and returns its address.
func startShop(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "shop")
	build := exec.Command("go", "build", "-o", binary, "./examples/shop")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.Command(binary, "-addr", "127.0.0.1:0", "-dir", t.TempDir())
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait(), "an orderly stop, open streams or not")
	})
	line, err := bufio.NewReader(pipe).ReadString('\n')
	require.NoError(t, err)
	_, base, ok := strings.Cut(strings.TrimSpace(line), "open: ")
	require.True(t, ok, line)
	return base
}
