package broker

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// StartNginxStream puts nginx's stream proxy in front of the TCP listeners of a
// broker: what it returns has the broker's transports but unix, and its versions.
// nginx passes bytes on as they are, TLS too. As is its default
// (proxy_half_close off), it closes both connections when one side has ended its
// sending.
//
// Stop, Kill and Restart are for nginx, not for the broker behind it. Without the
// nginx program from PATH (or /usr/sbin) or its stream module the test is skipped,
// or fails where RequireEnv lists "nginx".
func StartNginxStream(tb TB, behind *Broker) *Broker {
	tb.Helper()
	n, err := findNginx()
	if err != nil {
		missing(tb, "nginx", err)
	}
	n.dir = tempDir(tb)
	urls, err := n.listen(behind)
	if err != nil {
		tb.Fatalf("nginx: %v", err)
	}
	b := &Broker{name: behind.name + " behind nginx", versions: behind.versions, urls: urls, certs: behind.certs, process: n}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// nginx is one nginx, started any number of times.
type nginx struct {
	path, module string // module: "" when the program has it built in
	dir          string
	routes       []nginxRoute
	program      *program
}

// nginxRoute is one listener.
type nginxRoute struct {
	port   int
	target string // the broker's address
}

// findNginx finds the program and its stream module.
func findNginx() (*nginx, error) {
	path, err := findProgram("nginx")
	if err != nil {
		return nil, err
	}
	text, err := exec.Command(path, "-V").CombinedOutput() // on its error output
	if err != nil {
		return nil, fmt.Errorf("nginx -V: %w", err)
	}
	built := strings.Fields(string(text))
	n := &nginx{path: path}
	for _, flag := range built {
		switch flag {
		case "--with-stream":
			return n, nil
		case "--with-stream=dynamic":
			if dir := regexp.MustCompile(`--modules-path=(\S+)`).FindSubmatch(text); dir != nil {
				n.module = filepath.Join(string(dir[1]), "ngx_stream_module.so")
				_, err := os.Stat(n.module) // Debian has it in a package of its own, libnginx-mod-stream
				return n, err
			}
		}
	}
	return nil, fmt.Errorf("%s has no stream module", path)
}

// listen finds a port for each TCP listener of the broker, and writes the
// configuration.
func (n *nginx) listen(behind *Broker) (map[Transport]string, error) {
	urls := map[Transport]string{}
	for transport, text := range behind.urls {
		if transport == Unix {
			continue
		}
		u, err := url.Parse(text)
		if err != nil {
			return nil, err
		}
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		n.routes = append(n.routes, nginxRoute{ports[0], u.Host})
		u.Host = hostPort(ports[0])
		urls[transport] = u.String()
	}
	return urls, os.WriteFile(n.configPath(), []byte(n.config()), 0o600)
}

func (n *nginx) configPath() string { return filepath.Join(n.dir, "nginx.conf") }

// config has nginx in the foreground as one process, so that its end is that of
// all its connections.
func (n *nginx) config() string {
	var c strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&c, format+"\n", args...) }
	if n.module != "" {
		line("load_module %s;", n.module)
	}
	line("daemon off;\nmaster_process off;\npid %s;\nerror_log stderr;", filepath.Join(n.dir, "nginx.pid"))
	line("events { worker_connections 1024; }")
	line("stream {")
	for _, r := range n.routes {
		line("server { listen %s; proxy_pass %s; }", hostPort(r.port), r.target)
	}
	line("}")
	return c.String()
}

func (n *nginx) start() error {
	program, err := startProgram("nginx", exec.Command(n.path, "-p", n.dir, "-e", "stderr", "-c", n.configPath()))
	if err != nil {
		return err
	}
	n.program = program
	var endpoints []endpoint
	for _, r := range n.routes {
		endpoints = append(endpoints, endpoint{"tcp", hostPort(r.port)})
	}
	return program.waitAccepting(endpoints)
}

func (n *nginx) stop() error { return n.program.end(syscall.SIGTERM) }
func (n *nginx) kill() error { return n.program.end(syscall.SIGKILL) }
