package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	clusterSize    = 3
	clusterTimeout = 60 * time.Second
)

// Cluster is three NATS nodes in this process that keep MQTT sessions and
// messages three times (R3).
type Cluster struct {
	nodes   []*natsNode
	brokers []*Broker
}

// StartNATSCluster starts the nodes and returns when they have a leader, MQTT's
// streams have theirs, and every replica is current.
func StartNATSCluster(tb TB, opts NATSOptions) *Cluster {
	tb.Helper()
	ports, err := freePorts(clusterSize)
	if err != nil {
		tb.Fatalf("nats cluster: %v", err)
	}
	routes := make([]*url.URL, clusterSize)
	for i, port := range ports {
		routes[i] = &url.URL{Scheme: "nats-route", Host: hostPort(port)}
	}
	c := &Cluster{}
	for i, port := range ports {
		node := newNATSNode(tb, fmt.Sprintf("n%d", i), opts)
		node.opts.Cluster = server.ClusterOpts{Name: "millrace", Host: "127.0.0.1", Port: port}
		node.opts.Routes = slices.Clone(routes)
		node.opts.MQTT.StreamReplicas = clusterSize
		// A request made while there is no leader is never answered: a CONNECT that
		// waits for one longer than the default 5 s would outlast WaitReady.
		node.opts.MQTT.JSAPITimeout = 0
		c.nodes = append(c.nodes, node)
		c.brokers = append(c.brokers, node.broker(fmt.Sprintf("nats node %d", i)))
	}
	tb.Cleanup(func() { c.stop(tb) })
	for _, b := range c.brokers {
		b.launch(tb)
	}
	c.WaitReady(tb)
	return c
}

// Node returns node i, from 0 to 2, as a broker of its own.
func (c *Cluster) Node(i int) *Broker { return c.brokers[i] }

// URLs returns the addresses of all nodes for one transport, in node order.
func (c *Cluster) URLs(t Transport) []string {
	urls := make([]string, 0, len(c.brokers))
	for _, b := range c.brokers {
		urls = append(urls, b.URL(t))
	}
	return urls
}

// KillNode shuts node i down; clients on it lose their link. nats-server cannot
// be killed harder inside this process: it steps down from what it leads.
func (c *Cluster) KillNode(tb TB, i int) {
	tb.Helper()
	c.brokers[i].Kill(tb)
}

// RestartNode starts node i again on its addresses and files. It returns when
// the node accepts links; WaitReady waits until it has caught up.
func (c *Cluster) RestartNode(tb TB, i int) {
	tb.Helper()
	c.brokers[i].Restart(tb)
}

// stop ends the nodes at the same time: each would wait for a leader otherwise.
func (c *Cluster) stop(tb TB) {
	tb.Helper()
	errs := make([]error, len(c.brokers))
	var wg sync.WaitGroup
	for i, b := range c.brokers {
		wg.Go(func() { errs[i] = b.end(b.process.stop) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		tb.Fatalf("nats cluster: stop: %v", err)
	}
}

// WaitReady returns when the running nodes agree on a leader, each answers an
// MQTT CONNECT, and the streams behind MQTT have leaders and current replicas.
func (c *Cluster) WaitReady(tb TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), clusterTimeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("nats cluster not ready after %v: %v", clusterTimeout, err)
		}
	}
}

func (c *Cluster) ready(ctx context.Context) error {
	running := c.running()
	leaders := 0
	for _, n := range running {
		if n.server.JetStreamIsLeader() {
			leaders++
		}
		if !n.server.JetStreamIsCurrent() {
			return fmt.Errorf("%s is not current", n.opts.ServerName)
		}
	}
	if leaders != 1 {
		return fmt.Errorf("%d leaders of the cluster", leaders)
	}
	for _, n := range running {
		// The first MQTT link makes the streams, and is refused until it can.
		if err := n.probe(ctx); err != nil {
			return fmt.Errorf("%s: CONNECT: %w", n.opts.ServerName, err)
		}
	}
	return streamsReady(running)
}

func (c *Cluster) running() []*natsNode {
	var running []*natsNode
	for i, b := range c.brokers {
		b.mu.Lock()
		if b.running {
			running = append(running, c.nodes[i])
		}
		b.mu.Unlock()
	}
	return running
}

// streamsReady asks each stream's leader, which alone knows how far its
// replicas are.
func streamsReady(nodes []*natsNode) error {
	led := 0
	for _, n := range nodes {
		info, err := n.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true, StreamLeaderOnly: true})
		if err != nil {
			return err
		}
		for _, account := range info.AccountDetails {
			for _, stream := range account.Streams {
				if !strings.HasPrefix(stream.Name, "$MQTT_") || stream.Cluster == nil || stream.Cluster.Leader != n.opts.ServerName {
					continue
				}
				led++
				if err := replicasCurrent(stream, len(nodes)-1); err != nil {
					return err
				}
			}
		}
	}
	const streams = 5 // messages, retained, sessions, QoS 2 received, PUBREL sent
	if led < streams {
		return fmt.Errorf("%d of %d MQTT streams have a leader", led, streams)
	}
	return nil
}

func replicasCurrent(stream server.StreamDetail, want int) error {
	current := 0
	for _, replica := range stream.Cluster.Replicas {
		if replica.Current && !replica.Offline {
			current++
		}
	}
	if current < want {
		return fmt.Errorf("stream %s has %d current replicas, want %d", stream.Name, current, want)
	}
	return nil
}

// probe makes a clean session on the node and leaves.
func (n *natsNode) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := n.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := io.WriteString(conn, "\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05probe"); err != nil {
		return err
	}
	var connack [4]byte
	if _, err := io.ReadFull(conn, connack[:]); err != nil {
		return err
	}
	if connack != [4]byte{0x20, 2, 0, 0} {
		return fmt.Errorf("refused: % x", connack)
	}
	_, err = io.WriteString(conn, "\xe0\x00")
	return err
}

func (n *natsNode) dial(ctx context.Context) (net.Conn, error) {
	if n.tls {
		dialer := tls.Dialer{Config: n.certs.ClientConfig(false)}
		return dialer.DialContext(ctx, "tcp", hostPort(n.port))
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", hostPort(n.port))
}
