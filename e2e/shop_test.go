// Package e2e tries the shop in a real browser. It is a module of its own because it needs one.
package e2e

import (
	"bufio"
	"context"
	"fmt"
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

// SESSILE_SCREENSHOT names the file that a picture of the shop is written to.
func TestShop(t *testing.T) {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
		}
	}
	if path == "" {
		t.Skip("there is no Chromium here (Debian: apt-get install chromium)")
	}
	base := startShop(t)
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1000, 760))...)
	defer cancel()
	one, cancel := chromedp.NewContext(alloc)
	defer cancel()
	one, cancel = context.WithTimeout(one, 2*time.Minute)
	defer cancel()
	do(t, one, chromedp.Navigate(base), live())
	two, cancel := chromedp.NewContext(one) // another tab of the same browser, with the same cookies
	defer cancel()
	do(t, two, chromedp.Navigate(base), live())

	// Both tabs add at once; both see all of it, live.
	const clicks = 20
	addAll := fmt.Sprintf(`(() => { for (let i = 0; i < %d; i++) document.querySelector("form.article button").click() })()`, clicks)
	do(t, one, chromedp.Evaluate[chromedp.Void](addAll))
	do(t, two, chromedp.Evaluate[chromedp.Void](addAll))
	for _, tab := range []context.Context{one, two} {
		do(t, tab, text("#total", fmt.Sprint(2*clicks)))
	}
	if name := os.Getenv("SESSILE_SCREENSHOT"); name != "" {
		defer func(name string) { picture(t, base, alloc, name) }(name)
	}

	// A login renews the cookie; the old one is dead, and so is the other tab's stream.
	anonymous := cookie(t, one)
	do(t, one, chromedp.SendKeys("input[name=user]", "ann"), chromedp.Click("#login"), chromedp.WaitVisible("#user"), text("#total", fmt.Sprint(2*clicks)), live())
	require.NotEqual(t, anonymous, cookie(t, one))
	require.Equal(t, http.StatusUnauthorized, status(t, base, anonymous))
	do(t, two, text("#live", "logged out"), chromedp.Click("#notes a"), chromedp.WaitVisible("#user"), live())

	// A logout is seen by the other tab.
	signedIn := cookie(t, one)
	require.Equal(t, http.StatusOK, status(t, base, signedIn))
	do(t, one, chromedp.Click("#logout"), chromedp.WaitVisible("#login"))
	do(t, two, text("#live", "logged out"))
	require.Equal(t, http.StatusUnauthorized, status(t, base, signedIn))

	// The race.
	do(t, one, live(), chromedp.Click("#race"), text("#sessile", "200 of 200 counted, 0 lost"))
	lost, err := chromedp.Run(one, chromedp.Text("#loadsave"))
	require.NoError(t, err)
	t.Logf("load and save: %s", lost)
	var n int
	_, err = fmt.Sscanf(lost, "%d of 200", &n)
	require.NoError(t, err)
	require.Less(t, n, 200)
}

func do(t *testing.T, tab context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	require.NoError(t, chromedp.Do(tab, actions...))
}

// text waits until an element has the text.
func text(selector, want string) chromedp.Action[chromedp.Void] {
	return chromedp.Poll[chromedp.Void](fmt.Sprintf(`(() => { const e = document.querySelector(%q); return e && (e.value ?? e.textContent) === %q })()`, selector, want),
		chromedp.WithPollingInterval(20*time.Millisecond)) // not by frames, which a tab in the background does not draw
}

func live() chromedp.Action[chromedp.Void] { return text("#live", "live") }

func cookie(t *testing.T, tab context.Context) (value string) {
	t.Helper()
	got, err := chromedp.Call(tab, network.GetCookies, network.GetCookiesParams{})
	require.NoError(t, err)
	for _, c := range got.Cookies {
		if c.Name == "shop" {
			value = c.Value
		}
	}
	require.NotEmpty(t, value)
	return value
}

// status asks for the cart with a cookie, as somebody else who has it would.
func status(t *testing.T, base, cookie string) int {
	t.Helper()
	req, err := http.NewRequest("GET", base+"/cart", nil)
	require.NoError(t, err)
	req.AddCookie(&http.Cookie{Name: "shop", Value: cookie})
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

// picture shows a shop in use.
func picture(t *testing.T, base string, alloc context.Context, name string) {
	tab, cancel := chromedp.NewContext(alloc)
	defer cancel()
	do(t, tab, chromedp.Navigate(base), live(),
		chromedp.SendKeys("input[name=user]", "ann"), chromedp.Click("#login"), chromedp.WaitVisible("#user"), live(),
		chromedp.Evaluate[chromedp.Void](`(() => { for (const [i, b] of [...document.querySelectorAll("form.article button")].entries()) for (let n = 0; n < 2 + i; n++) b.click() })()`),
		text("#total", "14"), chromedp.Click("#race"), text("#sessile", "200 of 200 counted, 0 lost"), chromedp.Sleep(time.Second))
	png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, png, 0o644))
}

// startShop builds and starts it, and returns its address.
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
