package broker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// EjabberdUser and EjabberdPassword are those of the account that StartEjabberd
// makes; the addresses that it returns hold them.
const EjabberdUser, EjabberdPassword = "alice", "secret"

// StartEjabberd starts Debian's ejabberd with its MQTT module over tcp and ws. It
// speaks 3.1.1 and 5.0. Clients may publish and subscribe below ok/ and nowhere else.
//
// Without ejabberd or the erl program the test is skipped, or fails where RequireEnv
// lists "ejabberd".
func StartEjabberd(tb TB) *Broker {
	tb.Helper()
	erl, libraries, err := findEjabberd()
	if err != nil {
		missing(tb, "ejabberd", err)
	}
	ports, err := freePorts(2)
	if err != nil {
		tb.Fatalf("ejabberd: %v", err)
	}
	e := &ejabberd{erl: erl, libraries: libraries, dir: tempDir(tb), ports: ports}
	if err := os.WriteFile(e.path("ejabberd.yml"), []byte(e.config()), 0o600); err != nil {
		tb.Fatalf("ejabberd: %v", err)
	}
	user := EjabberdUser + ":" + EjabberdPassword + "@"
	urls := map[Transport]string{
		TCP: "mqtt://" + user + hostPort(ports[0]),
		WS:  "ws://" + user + hostPort(ports[1]) + "/mqtt",
	}
	b := &Broker{name: "ejabberd", versions: []Version{V311, V5}, urls: urls, process: e}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// findEjabberd finds the Erlang that runs it, and the directory of its libraries,
// whose name Debian takes from the machine's architecture.
func findEjabberd() (erl, libraries string, err error) {
	if erl, err = exec.LookPath("erl"); err != nil {
		return "", "", err
	}
	installed, err := filepath.Glob("/usr/lib/*/ejabberd-*/ebin")
	if err != nil {
		return "", "", err
	}
	if len(installed) == 0 {
		return "", "", errors.New("nothing like /usr/lib/*/ejabberd-*")
	}
	return erl, filepath.Dir(filepath.Dir(installed[0])), nil
}

// ejabberd is one ejabberd, started any number of times on what it keeps in dir.
type ejabberd struct {
	erl, libraries string
	dir            string
	ports          []int // tcp, ws
	program        *program
}

func (e *ejabberd) path(name string) string { return filepath.Join(e.dir, name) }

func (e *ejabberd) config() string {
	return fmt.Sprintf(`
hosts: [localhost]
loglevel: warning
auth_method: internal
listen:
  - {port: %d, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000}
  - {port: %d, ip: "127.0.0.1", module: ejabberd_http, request_handlers: {"/mqtt": mod_mqtt}}
access_rules:
  nobody: {deny: all}
modules:
  mod_mqtt:
    session_expiry: 1 hour
    max_queue: unlimited
    max_topic_depth: 100
    access_publish: {"ok/#": all, "#": nobody}
    access_subscribe: {"ok/#": all, "#": nobody}
`, e.ports[0], e.ports[1])
}

// start runs it without its control script, which changes the user, and without a
// node name, which would need Erlang's port mapper.
func (e *ejabberd) start() error {
	register := fmt.Sprintf(`ejabberd_auth:try_register(<<"%s">>,<<"localhost">>,<<"%s">>).`, EjabberdUser, EjabberdPassword)
	cmd := exec.Command(e.erl, "-noinput", "-noshell", "+S", "2:2", "+K", "true",
		"-mnesia", "dir", `"`+e.path("spool")+`"`, "-s", "ejabberd", "-eval", register)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "HOME="+e.dir, "ERL_LIBS="+e.libraries, "ERL_CRASH_DUMP_SECONDS=0",
		"EJABBERD_CONFIG_PATH="+e.path("ejabberd.yml"), "EJABBERD_LOG_PATH="+e.path("ejabberd.log"), "EJABBERD_PID_PATH="+e.path("pid"))
	program, err := startProgram("ejabberd", cmd)
	if err != nil {
		return err
	}
	e.program = program
	if err := program.waitAccepting([]endpoint{{"tcp", hostPort(e.ports[0])}, {"tcp", hostPort(e.ports[1])}}); err != nil {
		return err
	}
	return e.waitUser()
}

// waitUser returns when the account is there, which comes last.
func (e *ejabberd) waitUser() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(startTimeout); ; {
		err := e.login()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-end:
			return errors.Join(err, e.kill())
		}
	}
}

// login connects as a client does.
func (e *ejabberd) login() error {
	conn, err := net.Dial("tcp", hostPort(e.ports[0]))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // an error shows below
	field := func(s string) string { return string([]byte{0, byte(len(s))}) + s }
	body := field("MQTT") + "\x04\xc2\x00\x3c" + field("login") + field(EjabberdUser) + field(EjabberdPassword)
	if _, err := io.WriteString(conn, "\x10"+string(rune(len(body)))+body); err != nil {
		return err
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(bufio.NewReader(conn), answer); err != nil {
		return err
	}
	if answer[0] != 0x20 || answer[3] != 0 {
		return fmt.Errorf("login refused: % x", answer)
	}
	_, err = io.WriteString(conn, "\xe0\x00")
	return err
}

func (e *ejabberd) stop() error { return e.program.end(syscall.SIGTERM) }
func (e *ejabberd) kill() error { return e.program.end(syscall.SIGKILL) }
