package sessionfiber

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// cookieHeaders returns copies of the values of the request's Cookie headers, as they came: fasthttp's parsed ones have lost their
// quotes, and its memory is used again. Where nothing was parsed, as in a request that a test has put together, the
// cookies that were set are returned.
func cookieHeaders(h *fasthttp.RequestHeader) (values []string) {
	raw := h.RawHeaders()
	if len(raw) == 0 {
		for _, value := range h.PeekAll(fasthttp.HeaderCookie) {
			values = append(values, string(value))
		}
		return values
	}
	for line := range bytes.Lines(raw) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && len(name) == len(fasthttp.HeaderCookie) && bytes.EqualFold(name, []byte(fasthttp.HeaderCookie)) {
			values = append(values, string(bytes.TrimSpace(value)))
		}
	}
	return values
}
