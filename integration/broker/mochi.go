package broker

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// MochiOptions change mochi's settings. The zero value raises the limits at
// which it drops messages; it keeps no sessions over a restart. Two hooks, noQuota
// and ownIDs, keep it from faults that would end every test with a backlog.
type MochiOptions struct {
	// Journal, if set, is a file that gets a line with the topic, a space and the
	// payload of each message that mochi takes, before mochi acknowledges it.
	Journal string
	// Tapes, if set, is a directory that gets a tape of every link (see Tapes and
	// package tape) and, when mochi is stopped, what it dropped (see ReadDrops).
	Tapes string
}

// StartMochi starts a mochi-mqtt broker as a process of its own: this program
// once more, in which ServeMochi must be called first. In this process it could
// not be killed, and it needs that (see ServeMochi).
func StartMochi(tb TB, opts MochiOptions) *Broker {
	tb.Helper()
	dir := tempDir(tb)
	certs, err := NewCertificates(dir)
	if err != nil {
		tb.Fatalf("mochi: %v", err)
	}
	ports, err := freePorts(5)
	if err != nil {
		tb.Fatalf("mochi: %v", err)
	}
	m := &mochi{settings: mochiSettings{Ports: ports, Dir: dir, Journal: opts.Journal, Tapes: opts.Tapes}}
	b := &Broker{name: "mochi", versions: Versions(), urls: fiveURLs(ports, dir), certs: certs, process: m}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// mochi is the parent's side of a mochi, started any number of times.
type mochi struct {
	settings mochiSettings
	program  *program
}

// mochiSettings are what the child is told, in a file that mochiEnv names.
type mochiSettings struct {
	Ports   []int  // tcp, tls, mutual tls, ws, wss
	Dir     string // with the certificates
	Journal string
	Tapes   string
}

// mochiEnv names the environment variable that makes a program a mochi.
const mochiEnv = "MILLRACE_MOCHI_SETTINGS"

func (m *mochi) start() error {
	settings, err := json.Marshal(m.settings)
	if err != nil {
		return err
	}
	file := filepath.Join(m.settings.Dir, "mochi.json")
	if err := os.WriteFile(file, settings, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	// mochi has data races of its own (2.7.9: ClientsWg.Add beside its Wait, for
	// one); they are no finding about the client.
	cmd.Env = append(os.Environ(), mochiEnv+"="+file, "GORACE=report_bugs=0 atexit_sleep_ms=0")
	program, err := startProgram("mochi", cmd)
	if err != nil {
		return err
	}
	m.program = program
	return program.waitAccepting(fiveEndpoints(m.settings.Ports, m.settings.Dir))
}

func (m *mochi) stop() error { return m.program.end(syscall.SIGTERM) }
func (m *mochi) kill() error { return m.program.end(syscall.SIGKILL) }
