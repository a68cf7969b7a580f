package broker

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// RabbitMQUser and RabbitMQPassword are those of the account that StartRabbitMQ
// makes; the addresses that it returns hold them.
const RabbitMQUser, RabbitMQPassword = "alice", "secret"

// StartRabbitMQ starts Debian's RabbitMQ with its MQTT plugins over tcp and ws. It
// speaks 3.1 and 3.1.1, and keeps its sessions over a restart. A start takes 12 s and
// more.
//
// Without RabbitMQ the test is skipped, or fails where RequireEnv lists "rabbitmq".
func StartRabbitMQ(tb TB) *Broker {
	tb.Helper()
	r := &rabbitmq{server: "/usr/lib/rabbitmq/bin/rabbitmq-server"} // the one in PATH changes the user
	_, err := os.Stat(r.server)
	if err == nil {
		r.epmd, err = exec.LookPath("epmd")
	}
	if err != nil {
		missing(tb, "rabbitmq", err)
	}
	r.dir = tempDir(tb)
	if r.ports, err = freePorts(4); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	if err := r.configure(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	user := RabbitMQUser + ":" + RabbitMQPassword + "@"
	urls := map[Transport]string{
		TCP: "mqtt://" + user + hostPort(r.ports[0]),
		WS:  "ws://" + user + hostPort(r.ports[1]) + "/ws",
	}
	b := &Broker{name: "rabbitmq", versions: []Version{V31, V311}, urls: urls, process: r}
	b.launch(tb)
	tb.Cleanup(func() { b.Stop(tb) })
	return b
}

// rabbitmq is one RabbitMQ with a port mapper of its own, started any number of times
// on what it keeps in dir.
type rabbitmq struct {
	server, epmd string
	dir          string
	ports        []int // tcp, ws, Erlang's distribution, its port mapper
	program      *program
	mapper       *program
}

func (r *rabbitmq) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rabbitmq) configure() error {
	config := fmt.Sprintf(`
listeners.tcp = none
loopback_users = none
mqtt.listeners.tcp.1 = %s
mqtt.allow_anonymous = false
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = %d
default_user = %s
default_pass = %s
log.console = true
log.console.level = warning
`, hostPort(r.ports[0]), r.ports[1], RabbitMQUser, RabbitMQPassword)
	return errors.Join(
		os.WriteFile(r.path("rabbitmq.conf"), []byte(config), 0o600),
		os.WriteFile(r.path("enabled_plugins"), []byte("[rabbitmq_mqtt,rabbitmq_web_mqtt].\n"), 0o600),
	)
}

// start runs the server as a child of this process, without the shell that the
// server's script would leave in between. A port mapper that RabbitMQ starts would
// outlive it.
func (r *rabbitmq) start() error {
	env := append(os.Environ(), "HOME="+r.dir,
		"ERL_EPMD_PORT="+strconv.Itoa(r.ports[3]), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RUNNING_UNDER_SYSTEMD=1", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_NODENAME=rmq@localhost", "RABBITMQ_DIST_PORT="+strconv.Itoa(r.ports[2]),
		"RABBITMQ_CONFIG_FILE="+r.path("rabbitmq"), "RABBITMQ_ENABLED_PLUGINS_FILE="+r.path("enabled_plugins"),
		"RABBITMQ_MNESIA_BASE="+r.path("data"), "RABBITMQ_LOG_BASE="+r.path("log"), "RABBITMQ_PID_FILE="+r.path("pid"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}")
	mapper := exec.Command(r.epmd)
	mapper.Env = env
	var err error
	if r.mapper, err = startProgram("epmd", mapper); err != nil {
		return err
	}
	if err := r.mapper.waitAccepting([]endpoint{{"tcp", hostPort(r.ports[3])}}); err != nil {
		return err
	}
	server := exec.Command(r.server)
	server.Env, server.Dir = env, r.dir
	if r.program, err = startProgram("rabbitmq", server); err != nil {
		return errors.Join(err, r.mapper.end(syscall.SIGKILL))
	}
	err = r.program.waitAccepting([]endpoint{{"tcp", hostPort(r.ports[0])}, {"tcp", hostPort(r.ports[1])}})
	if err != nil {
		return errors.Join(err, r.mapper.end(syscall.SIGKILL))
	}
	return nil
}

func (r *rabbitmq) stop() error {
	return errors.Join(r.program.end(syscall.SIGTERM), r.mapper.end(syscall.SIGKILL))
}

func (r *rabbitmq) kill() error {
	return errors.Join(r.program.end(syscall.SIGKILL), r.mapper.end(syscall.SIGKILL))
}
