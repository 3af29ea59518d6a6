package main

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"golang.org/x/sys/unix"
)

// A Machine is what the figures are from. It names neither host nor path.
type Machine struct {
	CPU        string            `json:"cpu"`
	Cores      int               `json:"cores"`
	Memory     int64             `json:"memory_bytes"`
	Kernel     string            `json:"kernel"`
	FileSystem string            `json:"file_system"` // of the data
	Go         string            `json:"go"`
	OS         string            `json:"os"`
	Versions   map[string]string `json:"versions"` // of the peers
}

// describe looks at the machine and at the file system of dir.
func describe(dir string) Machine {
	m := Machine{
		CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0), Memory: procValue("/proc/meminfo", "MemTotal:") << 10,
		Kernel: "unknown", FileSystem: fileSystem(dir), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Versions: versions(),
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// fileSystem returns the type of dir's file system.
func fileSystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	names := map[uint64]string{
		unix.EXT4_SUPER_MAGIC: "ext4 (or ext2, ext3)", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", 0x2fc12fc1: "zfs", unix.F2FS_SUPER_MAGIC: "f2fs",
		unix.NFS_SUPER_MAGIC: "nfs",
	}
	magic := uint64(uint32(st.Type))
	if name, ok := names[magic]; ok {
		return name
	}
	return "0x" + strconv.FormatUint(magic, 16)
}

// versions are those of the modules that are measured, and of redis-server.
func versions() map[string]string {
	v := map[string]string{}
	wanted := map[string]bool{}
	for _, r := range []peers.Regime{peers.Memory, peers.WriteBehind, peers.Durable} {
		for _, k := range peers.Kinds(r) {
			wanted[k.Module] = true
		}
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if !wanted[d.Path] {
				continue
			}
			v[d.Path] = d.Version
			if d.Replace != nil {
				v[d.Path] = "this tree"
			}
		}
	}
	v["redis-server"] = peers.RedisVersion()
	if v["redis-server"] == "" {
		v["redis-server"] = "not installed"
	}
	return v
}

// installRedis installs Debian's redis-server if it is missing, this is root and there is an apt-get. It says what came of it.
func installRedis() string {
	if peers.RedisVersion() != "" {
		return ""
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return "redis-server is not installed; its rows will say so"
	}
	for _, args := range [][]string{{"update", "-qq"}, {"install", "-y", "-qq", "--no-install-recommends", "redis-server"}} {
		cmd := exec.Command(apt, args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if err := cmd.Run(); err != nil {
			return "redis-server could not be installed; its rows will say so"
		}
	}
	return "redis-server installed"
}
