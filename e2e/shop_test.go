package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Both tabs add at once; both show all of it, as it comes.
func TestTwoTabsAddAtOnce(t *testing.T) {
	s := newShop(t)
	one := s.profile()
	two := s.tab(one)
	const clicks = 20
	for _, tab := range []context.Context{one, two} {
		do(t, tab, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(
			`(() => { for (let i = 0; i < %d; i++) document.querySelector("form.article button").click() })()`, clicks)))
	}
	for _, tab := range []context.Context{one, two} {
		do(t, tab, text("#total", fmt.Sprint(2*clicks)), text("[data-sku=barnacle] output", fmt.Sprint(2*clicks)), text("#sum", "€ 480.00"))
	}
	do(t, two, chromedp.Click("form[action='/checkout'] button"), text(".flash", "Order number 1 is on its way."))
	do(t, one, text("#total", "0"), text("#orders", "1"))
}

// A login renews the cookie. The old one is dead, and the other tab goes on with the new one.
func TestLoginRenewsTheCookie(t *testing.T) {
	s := newShop(t)
	one := s.profile()
	two := s.tab(one)
	do(t, one, chromedp.Click("form.article button"), text("#total", "1"))
	anonymous := s.cookie(one)
	require.Equal(t, http.StatusOK, s.status(anonymous))
	login(t, one, "ann")
	require.NotEqual(t, anonymous, s.cookie(one))
	require.Equal(t, http.StatusUnauthorized, s.status(anonymous))
	require.Equal(t, http.StatusOK, s.status(s.cookie(one)))
	do(t, one, text("#total", "1"))
	do(t, two, text("#user", "ann"), live(), text("#total", "1"))
}

// The other tab sees a logout, and the cookie of before is good for nothing.
func TestLogoutIsSeenByTheOtherTab(t *testing.T) {
	s := newShop(t)
	one := s.profile()
	two := s.tab(one)
	login(t, one, "ann")
	do(t, two, text("#user", "ann"), live())
	signedIn := s.cookie(one)
	require.Equal(t, http.StatusOK, s.status(signedIn))
	do(t, one, chromedp.Click("#logout"), chromedp.WaitVisible("#login"))
	do(t, two, text("#live", "logged out"))
	require.Equal(t, http.StatusUnauthorized, s.status(signedIn))
	do(t, two, chromedp.Click("#notes a"), chromedp.WaitVisible("#login"), live())
}

// One's own sessions are listed, and each can be ended from the other; or all at once.
func TestOwnSessions(t *testing.T) {
	s := newShop(t)
	desk := s.profile()
	login(t, desk, "ann")
	do(t, desk, count("#sessions .session", 1), text("#sessions .here", "this browser"))
	phone, laptop, stranger := s.profile(), s.profile(), s.profile()
	login(t, phone, "ann")
	login(t, laptop, "ann")
	login(t, stranger, "eve")
	do(t, stranger, count("#sessions .session", 1))
	do(t, phone, chromedp.Navigate(s.base), live(), count("#sessions .session", 3))

	// The one last used is the first of the others: the laptop.
	do(t, phone, chromedp.Click("#sessions .session button"), count("#sessions .session", 2))
	do(t, laptop, text("#live", "logged out"))
	do(t, desk, live())

	// Again from the desk, the phone; and then everywhere.
	do(t, desk, chromedp.Navigate(s.base), live(), chromedp.Click("#endothers"), count("#sessions .session", 1))
	do(t, phone, text("#live", "logged out"), chromedp.Click("#notes a"), chromedp.WaitVisible("#login"), live())
	login(t, phone, "ann")
	signedIn := []string{s.cookie(desk), s.cookie(phone)}
	do(t, phone, chromedp.Click("#endall"), chromedp.WaitVisible("#login"))
	do(t, desk, text("#live", "logged out"))
	for _, cookie := range signedIn {
		require.Equal(t, http.StatusUnauthorized, s.status(cookie))
	}
	require.Equal(t, http.StatusOK, s.status(s.cookie(stranger)))
}

// The race: of the same 200 requests Sessile counts all, load-and-save does not.
func TestRace(t *testing.T) {
	s := newShop(t)
	tab := s.profile()
	do(t, tab, chromedp.Click("#race"), text("#sessile", "200 of 200 counted, 0 lost"), count("#dots-sessile .counted", 200))
	said, err := chromedp.Run(tab, chromedp.Text("#loadsave"))
	require.NoError(t, err)
	t.Logf("load and save: %s", said)
	var counted, lost int
	_, err = fmt.Sscanf(said, "%d of 200 counted, %d lost", &counted, &lost)
	require.NoError(t, err)
	require.Equal(t, 200, counted+lost)
	require.Positive(t, lost)
	do(t, tab, count("#dots-loadsave .lost", lost))
}

// TestPicture writes a picture of the shop in use to the file that SESSILE_SCREENSHOT names.
func TestPicture(t *testing.T) {
	name := os.Getenv("SESSILE_SCREENSHOT")
	if name == "" {
		t.Skip("SESSILE_SCREENSHOT names no file for the picture")
	}
	s := newShop(t)
	other := s.profile()
	login(t, other, "ann")
	tab := s.profile()
	login(t, tab, "ann")
	do(t, tab,
		chromedp.Evaluate[chromedp.Void](`(() => { for (const [i, b] of [...document.querySelectorAll("form.article button")].entries()) for (let n = 0; n <= i; n++) b.click() })()`),
		text("#total", "10"), chromedp.Click("#race"), text("#sessile", "200 of 200 counted, 0 lost"),
		chromedp.Evaluate[chromedp.Void](`document.activeElement.blur()`),
		settled())
	png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, png, 0o644))
}

func do(t *testing.T, tab context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	require.NoError(t, chromedp.Do(tab, actions...))
}

// until waits for an expression to hold, whichever page the tab shows by then. It asks from outside: a page that is left
// answers no more, and a tab in the background draws no frames to go by.
func until(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		ticks := time.NewTicker(20 * time.Millisecond)
		defer ticks.Stop()
		for deadline := time.Now().Add(patience); ; <-ticks.C {
			holds, err := chromedp.Evaluate[bool]("!!("+expression+")")(ctx, target)
			switch {
			case err == nil && holds:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case time.Now().After(deadline):
				return fmt.Errorf("waited %v for %s (last: %w)", patience, expression, err)
			}
		}
	})
}

// text waits until an element has the text.
func text(selector, want string) chromedp.Action[chromedp.Void] {
	return until(fmt.Sprintf(`(() => { const e = document.querySelector(%q); return e && (e.value ?? e.textContent).trim() === %q })()`, selector, want))
}

// count waits until there are n such elements.
func count(selector string, n int) chromedp.Action[chromedp.Void] {
	return until(fmt.Sprintf(`document.querySelectorAll(%q).length === %d`, selector, n))
}

// live waits until the page shows the cart as it changes.
func live() chromedp.Action[chromedp.Void] { return text("#live", "live") }

// settled waits until nothing moves any more.
func settled() chromedp.Action[chromedp.Void] { return until(`document.getAnimations().length === 0`) }

func login(t *testing.T, tab context.Context, user string) {
	t.Helper()
	do(t, tab, chromedp.SendKeys("input[name=user]", user), chromedp.Click("#login"), text("#user", user), live())
}
