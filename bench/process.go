package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"

	"github.com/millrace/mqtt/bench/raw"
)

// The program runs itself as server and as client, with the configuration as
// JSON in the second argument.
const (
	rolePrefix = "-role="
	roleServer = rolePrefix + "server"
	roleClient = rolePrefix + "client"
)

func runRole(role, argument string) error {
	var cfg config
	if err := json.Unmarshal([]byte(argument), &cfg); err != nil {
		return err
	}
	s, err := scenarioNamed(cfg.Scenario)
	if err != nil {
		return err
	}
	if role == roleServer {
		return serve(s, cfg)
	}
	return runClient(s, cfg)
}

// serve prints the server's address and serves until standard input ends, which
// it also does when the parent dies.
func serve(s scenario, cfg config) error {
	server, err := raw.Listen(s.feed(cfg))
	if err != nil {
		return err
	}
	fmt.Println(server.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}

// runClient prints the result of one run as JSON.
func runClient(s scenario, cfg config) error {
	for _, a := range adapters() {
		if a.name != cfg.Client {
			continue
		}
		dial := a.dial
		if s.durable {
			if a.durable == nil {
				return json.NewEncoder(os.Stdout).Encode(result{Scenario: s.name, Client: cfg.Client, Unsupported: true})
			}
			dir, err := os.MkdirTemp(cfg.Dir, "bench-durable-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			dial = a.durable(dir)
		}
		run := func() (result, error) { return measure(s, cfg, dial) }
		if s.name == idleName {
			run = func() (result, error) { return measureIdle(cfg, a.dial) }
		}
		stop, err := profile(os.Getenv("BENCH_CPUPROFILE"))
		if err != nil {
			return err
		}
		r, err := run()
		stop()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	return fmt.Errorf("no client %q", cfg.Client)
}

// runOnce starts a server and a client process for one run.
func runOnce(ctx context.Context, cfg config) (result, error) {
	addr, stop, err := startServer(ctx, cfg)
	if err != nil {
		return result{}, err
	}
	defer stop()
	cfg.Addr = addr
	var out, errs bytes.Buffer
	cmd := self(ctx, roleClient, cfg)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return result{}, fmt.Errorf("%s in %s: %w\n%s", cfg.Client, cfg.Scenario, err, errs.String())
	}
	var r result
	return r, json.Unmarshal(out.Bytes(), &r)
}

func startServer(ctx context.Context, cfg config) (addr string, stop func(), err error) {
	cmd := self(ctx, roleServer, cfg)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { stdin.Close(); _ = cmd.Wait() }
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("server did not start: %w", err)
	}
	return strings.TrimSpace(line), stop, nil
}

func self(ctx context.Context, role string, cfg config) *exec.Cmd {
	argument, _ := json.Marshal(cfg) // a struct of strings and ints cannot fail
	return exec.CommandContext(ctx, os.Args[0], role, string(argument))
}

// profile writes a CPU profile of the client's process to file, if one is named.
func profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}
