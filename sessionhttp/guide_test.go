package sessionhttp_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// guidePrelude is what the snippets of the guide may take for granted.
const guidePrelude = `package guide

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

var (
	_ = []any{context.Background, rand.Text, errors.Is, fmt.Sprint, log.Print, slog.Info, http.Error, httptest.NewRecorder, url.Parse, time.Now}

	engine        *sessile.Engine
	m             *sessionhttp.Manager
	s             *sessionhttp.Session
	mux           *http.ServeMux
	w             http.ResponseWriter
	r             *http.Request
	t             *testing.T
	ctx           context.Context
	addr, user    string
	cookieHeaders []string
	answer        http.Header

	visits = sessile.NewKey[int]("visits")
	orders = sessile.NewKey[int]("orders")
	role   = sessile.NewKey[string]("role")
	last   = sessile.NewKey[string]("last")

	provider interface {
		AuthURL(state, verifier string) string
		Exchange(ctx context.Context, code, verifier string) (user string, err error)
	}
	upgrader interface {
		Upgrade(http.ResponseWriter, *http.Request, http.Header) (socket, error)
	}
)

type socket interface {
	Read() (string, error)
	Close() error
}
`

// The guide's Go snippets compile. Those of contrib have their modules' tests.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/http.md")
	require.NoError(t, err)
	source := guidePrelude
	n := 0
	for _, block := range regexp.MustCompile("(?ms)^ *```go( contrib)?\n(.*?)^ *```$").FindAllStringSubmatch(string(guide), -1) {
		if block[1] != "" {
			continue
		}
		n++
		source += fmt.Sprintf("\nfunc snippet%d() (_ error) {\n%s", n, block[2])
		for _, name := range declared(t, block[2]) {
			source += fmt.Sprintf("\t_ = %s\n", name)
		}
		source += "\treturn\n}\n"
	}
	require.Equal(t, strings.Count(string(guide), "```go\n"), n, "snippets found")
	require.NotZero(t, n)
	compile(t, source)
}

// declared returns the variables that a snippet declares outside of its blocks: a function must use what it declares, a
// snippet need not.
func declared(t *testing.T, snippet string) (names []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() (_ error) {\n"+snippet+"\n}", 0)
	require.NoError(t, err, snippet)
	for _, statement := range file.Decls[0].(*ast.FuncDecl).Body.List {
		switch statement := statement.(type) {
		case *ast.AssignStmt:
			for _, left := range statement.Lhs {
				if name, ok := left.(*ast.Ident); ok && statement.Tok == token.DEFINE && name.Name != "_" {
					names = append(names, name.Name)
				}
			}
		case *ast.DeclStmt:
			for _, spec := range statement.Decl.(*ast.GenDecl).Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

// compile compiles a file as if it were in a package of this module.
func compile(t *testing.T, source string) {
	here, err := os.Getwd()
	require.NoError(t, err)
	dir := t.TempDir()
	file, overlay := filepath.Join(dir, "guide.go"), filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(here, "internal", "guide", "guide.go"): file}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(overlay, replace, 0o600))
	out, err := exec.Command("go", "build", "-overlay", overlay, "./internal/guide").CombinedOutput()
	require.NoError(t, err, "%s", out)
}
