package broker

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// aedesFiles are the program that runs Aedes and the lock file of what it needs.
//
//go:embed aedes/server.mjs aedes/package-lock.json
var aedesFiles embed.FS

// StartAedes starts an Aedes with node, with listeners for every transport. It
// speaks 3.1 and 3.1.1, keeps no sessions over a restart, and refuses topics and
// filters below denied/: a publish without an answer, a subscription by 0x80.
//
// The script aedes/install of this package installs it. Without node or that
// installation the test is skipped, or fails where RequireEnv lists "aedes".
func StartAedes(tb TB) *Broker {
	tb.Helper()
	a, err := findAedes()
	if err != nil {
		missing(tb, "aedes", err)
	}
	a.dir = tempDir(tb)
	certs, err := NewCertificates(a.dir)
	if err != nil {
		tb.Fatalf("aedes: %v", err)
	}
	if a.ports, err = freePorts(5); err != nil {
		tb.Fatalf("aedes: %v", err)
	}
	if err := a.prepare(certs); err != nil {
		tb.Fatalf("aedes: %v", err)
	}
	b := &Broker{name: "aedes", versions: []Version{V31, V311}, urls: fiveURLs(a.ports, a.dir), certs: certs, process: a}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// aedes is one Aedes, started any number of times.
type aedes struct {
	node, modules string // the program, and where it finds packages
	dir           string
	ports         []int // tcp, tls, mutual tls, ws, wss
	program       *program
}

// findAedes finds node and an installation of the lock file of this package.
func findAedes() (*aedes, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	installed := filepath.Join(cache, "millrace", "aedes")
	const advice = "run integration/broker/aedes/install"
	if _, err := os.Stat(filepath.Join(installed, "installed")); err != nil {
		return nil, fmt.Errorf("%w: %s", err, advice)
	}
	have, err := os.ReadFile(filepath.Join(installed, "package-lock.json"))
	if err != nil {
		return nil, err
	}
	want, err := aedesFiles.ReadFile("aedes/package-lock.json")
	if err != nil {
		return nil, err
	}
	if string(have) != string(want) {
		return nil, errors.New("what is installed is of another lock file: " + advice)
	}
	return &aedes{node: node, modules: filepath.Join(installed, "node_modules")}, nil
}

// prepare writes the program and its settings. Node looks for packages beside the
// program that imports them.
func (a *aedes) prepare(certs *Certificates) error {
	text, err := aedesFiles.ReadFile("aedes/server.mjs")
	if err != nil {
		return err
	}
	settings, err := json.Marshal(map[string]any{
		"Ports": a.ports, "Socket": socketPath(a.dir),
		"Cert": certs.ServerFile, "Key": certs.ServerKeyFile, "CA": certs.CAFile,
	})
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(a.dir, "server.mjs"), text, 0o600),
		os.WriteFile(filepath.Join(a.dir, "settings.json"), settings, 0o600),
		os.Symlink(a.modules, filepath.Join(a.dir, "node_modules")),
	)
}

func (a *aedes) start() error {
	// A killed one leaves its socket, on which node would not listen again.
	if err := os.Remove(socketPath(a.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	program, err := startProgram("aedes", exec.Command(a.node, filepath.Join(a.dir, "server.mjs"), filepath.Join(a.dir, "settings.json")))
	if err != nil {
		return err
	}
	a.program = program
	return program.waitAccepting(fiveEndpoints(a.ports, a.dir))
}

func (a *aedes) stop() error { return a.program.end(syscall.SIGTERM) }
func (a *aedes) kill() error { return a.program.end(syscall.SIGKILL) }
