package sessionhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// The combinations of Flusher, Hijacker, ReaderFrom, CloseNotifier and Pusher; see wrap.
type (
	writerF     struct{ *writer }
	writerH     struct{ *writer }
	writerFH    struct{ writerF }
	writerR     struct{ *writer }
	writerFR    struct{ writerF }
	writerHR    struct{ writerH }
	writerFHR   struct{ writerFH }
	writerC     struct{ *writer }
	writerFC    struct{ writerF }
	writerHC    struct{ writerH }
	writerFHC   struct{ writerFH }
	writerRC    struct{ writerR }
	writerFRC   struct{ writerFR }
	writerHRC   struct{ writerHR }
	writerFHRC  struct{ writerFHR }
	writerP     struct{ *writer }
	writerFP    struct{ writerF }
	writerHP    struct{ writerH }
	writerFHP   struct{ writerFH }
	writerRP    struct{ writerR }
	writerFRP   struct{ writerFR }
	writerHRP   struct{ writerHR }
	writerFHRP  struct{ writerFHR }
	writerCP    struct{ writerC }
	writerFCP   struct{ writerFC }
	writerHCP   struct{ writerHC }
	writerFHCP  struct{ writerFHC }
	writerRCP   struct{ writerRC }
	writerFRCP  struct{ writerFRC }
	writerHRCP  struct{ writerHRC }
	writerFHRCP struct{ writerFHRC }
)

func (w writerF) Flush()                                              { _ = w.flush() }
func (w writerF) FlushError() error                                   { return w.flush() }
func (w writerH) Hijack() (net.Conn, *bufio.ReadWriter, error)        { return w.hijack() }
func (w writerFH) Hijack() (net.Conn, *bufio.ReadWriter, error)       { return w.hijack() }
func (w writerR) ReadFrom(r io.Reader) (int64, error)                 { return w.readFrom(r) }
func (w writerFR) ReadFrom(r io.Reader) (int64, error)                { return w.readFrom(r) }
func (w writerHR) ReadFrom(r io.Reader) (int64, error)                { return w.readFrom(r) }
func (w writerFHR) ReadFrom(r io.Reader) (int64, error)               { return w.readFrom(r) }
func (w writerC) CloseNotify() <-chan bool                            { return w.closeNotify() }
func (w writerFC) CloseNotify() <-chan bool                           { return w.closeNotify() }
func (w writerHC) CloseNotify() <-chan bool                           { return w.closeNotify() }
func (w writerFHC) CloseNotify() <-chan bool                          { return w.closeNotify() }
func (w writerRC) CloseNotify() <-chan bool                           { return w.closeNotify() }
func (w writerFRC) CloseNotify() <-chan bool                          { return w.closeNotify() }
func (w writerHRC) CloseNotify() <-chan bool                          { return w.closeNotify() }
func (w writerFHRC) CloseNotify() <-chan bool                         { return w.closeNotify() }
func (w writerP) Push(target string, opt *http.PushOptions) error     { return w.push(target, opt) }
func (w writerFP) Push(target string, opt *http.PushOptions) error    { return w.push(target, opt) }
func (w writerHP) Push(target string, opt *http.PushOptions) error    { return w.push(target, opt) }
func (w writerFHP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerRP) Push(target string, opt *http.PushOptions) error    { return w.push(target, opt) }
func (w writerFRP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerHRP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerFHRP) Push(target string, opt *http.PushOptions) error  { return w.push(target, opt) }
func (w writerCP) Push(target string, opt *http.PushOptions) error    { return w.push(target, opt) }
func (w writerFCP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerHCP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerFHCP) Push(target string, opt *http.PushOptions) error  { return w.push(target, opt) }
func (w writerRCP) Push(target string, opt *http.PushOptions) error   { return w.push(target, opt) }
func (w writerFRCP) Push(target string, opt *http.PushOptions) error  { return w.push(target, opt) }
func (w writerHRCP) Push(target string, opt *http.PushOptions) error  { return w.push(target, opt) }
func (w writerFHRCP) Push(target string, opt *http.PushOptions) error { return w.push(target, opt) }

var combinations = [32]func(w *writer) http.ResponseWriter{
	func(w *writer) http.ResponseWriter { return w },
	func(w *writer) http.ResponseWriter { return writerF{w} },
	func(w *writer) http.ResponseWriter { return writerH{w} },
	func(w *writer) http.ResponseWriter { return writerFH{writerF{w}} },
	func(w *writer) http.ResponseWriter { return writerR{w} },
	func(w *writer) http.ResponseWriter { return writerFR{writerF{w}} },
	func(w *writer) http.ResponseWriter { return writerHR{writerH{w}} },
	func(w *writer) http.ResponseWriter { return writerFHR{writerFH{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerC{w} },
	func(w *writer) http.ResponseWriter { return writerFC{writerF{w}} },
	func(w *writer) http.ResponseWriter { return writerHC{writerH{w}} },
	func(w *writer) http.ResponseWriter { return writerFHC{writerFH{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerRC{writerR{w}} },
	func(w *writer) http.ResponseWriter { return writerFRC{writerFR{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerHRC{writerHR{writerH{w}}} },
	func(w *writer) http.ResponseWriter { return writerFHRC{writerFHR{writerFH{writerF{w}}}} },
	func(w *writer) http.ResponseWriter { return writerP{w} },
	func(w *writer) http.ResponseWriter { return writerFP{writerF{w}} },
	func(w *writer) http.ResponseWriter { return writerHP{writerH{w}} },
	func(w *writer) http.ResponseWriter { return writerFHP{writerFH{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerRP{writerR{w}} },
	func(w *writer) http.ResponseWriter { return writerFRP{writerFR{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerHRP{writerHR{writerH{w}}} },
	func(w *writer) http.ResponseWriter { return writerFHRP{writerFHR{writerFH{writerF{w}}}} },
	func(w *writer) http.ResponseWriter { return writerCP{writerC{w}} },
	func(w *writer) http.ResponseWriter { return writerFCP{writerFC{writerF{w}}} },
	func(w *writer) http.ResponseWriter { return writerHCP{writerHC{writerH{w}}} },
	func(w *writer) http.ResponseWriter { return writerFHCP{writerFHC{writerFH{writerF{w}}}} },
	func(w *writer) http.ResponseWriter { return writerRCP{writerRC{writerR{w}}} },
	func(w *writer) http.ResponseWriter { return writerFRCP{writerFRC{writerFR{writerF{w}}}} },
	func(w *writer) http.ResponseWriter { return writerHRCP{writerHRC{writerHR{writerH{w}}}} },
	func(w *writer) http.ResponseWriter { return writerFHRCP{writerFHRC{writerFHR{writerFH{writerF{w}}}}} },
}
