package sessile_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The tests are tested. All mutants are built into one test binary for each package, by an overlay
// over the sources, and switched on one at a time: the sources themselves know nothing of them.
//
// Every test must be named by a mutant that it fails on: one that nothing can fail shows nothing.

// A mutant is the engine with one thing broken.
type mutant struct {
	name      string // of what is broken
	invariant int
	file      string
	tests     string // that must fail on it; those of internal/store and internal/seal after "store." and "seal."
	old, new  string
}

// mutantPackages are the packages by the prefix of their tests.
var mutantPackages = map[string]string{"": ".", "store": "internal/store", "seal": "internal/seal"}

// unbroken are tests that are no proof of their own: what runs in the processes that others
// start, and this one.
var unbroken = "TestMutants TestCrashChild store.TestChild"

func TestMutants(t *testing.T) {
	if os.Getenv("SESSILE_MUTANT") != "" {
		t.Skip("inside a mutant")
	}
	if testing.Short() || raceEnabled {
		t.Skip("builds more test binaries; not with -short, and the mutants are the same under the race detector")
	}
	dir := t.TempDir()
	overlay := writeMutants(t, dir)
	binaries := map[string]string{}
	for prefix, pkg := range mutantPackages {
		binaries[prefix] = filepath.Join(dir, filepath.Base(pkg)+"mutants.test")
		out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binaries[prefix], "./"+pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	requireAllNamed(t, binaries)
	// Without a mutant the tests pass, so what fails with one fails because of it.
	t.Run("none", func(t *testing.T) {
		for prefix := range mutantPackages {
			var tests []string
			for _, m := range mutants {
				for test := range strings.FieldsSeq(m.tests) {
					if p, name := splitTest(test); p == prefix {
						tests = append(tests, name)
					}
				}
			}
			out, err := runMutant(binaries[prefix], "none", prefix, strings.Join(tests, "|"), "-test.short", "-test.timeout=9m")
			require.NoError(t, err, "%s", out)
		}
	})
	if t.Failed() {
		return
	}
	for _, m := range mutants {
		for test := range strings.FieldsSeq(m.tests) {
			t.Run(strings.ReplaceAll(m.name, " ", "_")+"/"+test, func(t *testing.T) {
				t.Parallel()
				prefix, name := splitTest(test)
				// Some tests have to be lucky: they may be run again, and need to fail once.
				out, err := runMutant(binaries[prefix], m.name, prefix, name, "-test.count=5", "-test.failfast")
				if strings.Contains(out, "--- SKIP: "+name) {
					t.Skip(name, " cannot run here:\n", out)
				}
				require.Error(t, err, "invariant %d: %s does not notice %q", m.invariant, test, m.name)
				require.NotContains(t, out, "test timed out", "%s hangs on it, which is no verdict", test)
			})
		}
	}
}

// splitTest parts "store.TestKill".
func splitTest(test string) (prefix, name string) {
	if prefix, name, ok := strings.Cut(test, "."); ok {
		return prefix, name
	}
	return "", test
}

var (
	mutantOn  = regexp.MustCompile(`\bON\b`)
	mutantOne = regexp.MustCompile(`\bONE\b`)
)

// writeMutants writes the broken sources and returns the overlay that puts them in place.
func writeMutants(t *testing.T, dir string) string {
	root, err := os.Getwd()
	require.NoError(t, err)
	sources := map[string]string{}
	for _, m := range mutants {
		if sources[m.file] == "" {
			b, err := os.ReadFile(m.file)
			require.NoError(t, err)
			sources[m.file] = string(b)
		}
		require.Equal(t, 1, strings.Count(sources[m.file], m.old), "mutant %q does not apply to %s any more", m.name, m.file)
		broken := mutantOne.ReplaceAllLiteralString(m.new, "mutantOne(\""+m.name+"\")")
		broken = mutantOn.ReplaceAllLiteralString(broken, "mutantOn(\""+m.name+"\")")
		sources[m.file] = strings.Replace(sources[m.file], m.old, broken, 1)
	}
	for prefix, pkg := range mutantPackages {
		if prefix == "" {
			prefix = "sessile"
		}
		sources[filepath.Join(pkg, "mutant.go")] = "package " + prefix + `

import "os"

var theMutant = os.Getenv("SESSILE_MUTANT")

func mutantOn(name string) bool { return name == theMutant }

func mutantOne(name string) uint64 {
	if name == theMutant {
		return 1
	}
	return 0
}
`
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, source := range sources {
		at := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		require.NoError(t, os.WriteFile(at, []byte(source), 0o600))
		overlay.Replace[filepath.Join(root, file)] = at
	}
	b, err := json.Marshal(overlay)
	require.NoError(t, err)
	path := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

// requireAllNamed fails for each test that no mutant names.
func requireAllNamed(t *testing.T, binaries map[string]string) {
	named := map[string]bool{}
	for test := range strings.FieldsSeq(unbroken) {
		named[test] = true
	}
	for _, m := range mutants {
		for test := range strings.FieldsSeq(m.tests) {
			named[test] = true
		}
	}
	for prefix, binary := range binaries {
		out, err := exec.Command(binary, "-test.list", "^(Test|Fuzz)").Output()
		require.NoError(t, err)
		for name := range strings.FieldsSeq(string(out)) {
			if prefix != "" {
				name = prefix + "." + name
			}
			if !named[name] {
				t.Errorf("no mutant breaks what %s tests: see mutant_list_test.go", name)
			}
		}
	}
}

func runMutant(binary, mutant, prefix, tests string, args ...string) (string, error) {
	args = append([]string{"-test.run=^(" + tests + ")$", "-test.v", "-test.timeout=3m"}, args...)
	if prefix == "" {
		args = append(args, "-rapid.checks=1000", "-rapid.nofailfile", "-rapid.shrinktime=0s")
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = mutantPackages[prefix]
	cmd.Env = append(os.Environ(), "SESSILE_MUTANT="+mutant)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
