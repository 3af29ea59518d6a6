//go:build !linux

package sessionhttp_test

import "testing"

func mount(t *testing.T, _ string, _ int) { t.Skip("small disks are mounted on Linux only") }
