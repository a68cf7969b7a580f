package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
	"github.com/millrace/mqtt/store/bolt"
)

// inboxEnv tells a process that it is one of TestInboxOutlivesProcess.
const inboxEnv = "MILLRACE_INBOX"

// inboxTask is what such a process is to do: to note all that it is handed.
type inboxTask struct {
	Version mqtt.Version
	URL     string
	Path    string // of the store
	Note    string // file of lines: process, QoS, number, key, whether an earlier process had it
	Process int    // number of the process
}

// run says when the server has its subscriptions, and receives until it is killed.
func (i *inboxTask) run() error {
	sessions, err := bolt.Open(i.Path)
	if err != nil {
		return err
	}
	note, err := os.OpenFile(i.Note, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	opts := []mqtt.ConnectOption{mqtt.WithVersions(i.Version), mqtt.WithClientID("inbox"), mqtt.WithSession(time.Hour),
		mqtt.WithStore(sessions), mqtt.WithInbox(),
		mqtt.WithReceiveMaximum(65535)} // Mosquitto 2.0.11 sends more than 1,024 allows, see TestOfflinePublishesOutliveProcess
	for qos := mqtt.QoS(1); qos <= 2; qos++ {
		opts = append(opts, mqtt.WithSubscription(inboxTopic(qos), qos))
	}
	conn, err := mqtt.Connect(context.Background(), i.URL, opts...)
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	for qos := mqtt.QoS(1); qos <= 2; qos++ {
		sub := conn.Subscription(inboxTopic(qos))
		work.Go(func() {
			for m := range sub.All() {
				// One write, so that a kill leaves a whole line or none.
				if _, err := fmt.Fprintf(note, "%d %d %s %d %t\n", i.Process, m.QoS, m.Payload, m.InboxKey(), m.Redelivered()); err != nil {
					os.Exit(1) // it must not be acknowledged
				}
			}
		})
		<-sub.Ready()
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { // ends with the process
		<-stop
		_ = conn.Drain(context.Background()) // the Conn's error tells
	}()
	work.Wait()
	<-conn.Done() // the subscriptions end before the Conn has written what is to be stored
	if errors.Is(conn.Err(), mqtt.ErrClosed) {
		return sessions.Close()
	}
	return fmt.Errorf("the Conn ended: %w", conn.Err())
}

func inboxTopic(qos mqtt.QoS) string { return fmt.Sprint("inbox/", qos) }

// TestInboxOutlivesProcess kills a process that receives into its durable inbox,
// round after round: nothing is lost, nothing of QoS 2 is entered twice, first
// sights are in the order of the wire (Mosquitto 2.0.11 itself lets new messages
// overtake those that wait for a session), and what is handed out again has its
// key and the mark.
func TestInboxOutlivesProcess(t *testing.T) {
	inRestartVersions(t, func(t *testing.T, v mqtt.Version) {
		rnd, kills, dir := chance.Rand(t), chance.Rounds(8, 200), t.TempDir()
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: 100})
		proxy := startCutter(t, b.URL(broker.TCP))
		task := inboxTask{Version: v, URL: proxy.url, Path: filepath.Join(dir, "sessions.db"), Note: filepath.Join(dir, "note")}
		publisher := connect(t, b, broker.Version(v), broker.TCP)
		child, sent := task.start(t), 0
		for range kills {
			var last []*mqtt.Future
			for range 20 + rnd.IntN(400) {
				for qos := mqtt.QoS(1); qos <= 2; qos++ {
					last = append(last, publisher.Publish(t.Context(), mqtt.Message{Topic: inboxTopic(qos), Payload: strconv.AppendInt(nil, int64(sent), 10), QoS: qos}))
				}
				sent++
			}
			if err := last[rnd.IntN(len(last))].Wait(t.Context()); err != nil { // the moment of the kill
				t.Fatal(err)
			}
			task.kill(t, child)
			task.Process++
			child = task.start(t)
		}
		if err := publisher.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		notes := task.await(t, sent)
		task.end(t, child)
		if left := leftInFile(t, task.Path, "inbox"); left > 0 {
			t.Errorf("%d records are left in the store", left)
		}
		in := proxy.wire.inbound(t, "inbox")
		for qos := mqtt.QoS(1); qos <= 2; qos++ {
			again, twice := judgeInbox(t, qos, sent, notes, in)
			t.Logf("QoS %d: %d messages, %d kills: %d handed out again, %d entered again", qos, sent, kills, again, twice)
		}
	})
}

// inboxLine is a message that a process was handed.
type inboxLine struct {
	process     int
	qos         mqtt.QoS
	n           int
	key         uint64
	redelivered bool
}

// judgeInbox checks what all processes together were handed at one QoS, and counts
// what came again with its key and what was entered under another one.
func judgeInbox(t *testing.T, qos mqtt.QoS, sent int, lines []inboxLine, in inbound) (again, twice int) {
	t.Helper()
	numbers, keys, first := map[uint64]int{}, map[int]int{}, []int(nil)
	last := map[uint64]int{} // by key: the process that was handed it last
	for _, l := range lines {
		if l.qos != qos {
			continue
		}
		if n, known := numbers[l.key]; known {
			if again++; n != l.n || !l.redelivered || last[l.key] == l.process {
				t.Errorf("QoS %d: %+v, whose key was that of %d, handed out by process %d", qos, l, n, last[l.key])
			}
			last[l.key] = l.process
			continue
		}
		last[l.key] = l.process
		if l.process == 0 && l.redelivered {
			t.Errorf("QoS %d: %+v, and there was no earlier process", qos, l)
		}
		numbers[l.key] = l.n
		if keys[l.n]++; keys[l.n] > 1 {
			// At QoS 1 it cannot be told whether the killed process had sent PUBACK.
			if twice++; qos == 2 && keys[l.n] > in.begun[wireMessage{inboxTopic(qos), l.n}] {
				t.Errorf("QoS 2: %d was entered %d times, the broker began it %d times", l.n, keys[l.n], in.begun[wireMessage{inboxTopic(qos), l.n}])
			}
			continue
		}
		first = append(first, l.n)
	}
	if len(keys) != sent {
		t.Errorf("QoS %d: %d of %d messages came", qos, len(keys), sent)
	}
	if explained, missed := in.follow(inboxTopic(qos), first); explained != len(first) || missed > 0 {
		t.Errorf("QoS %d: %d of %d came in the order of the wire, %d of the last link are missing", qos, explained, len(first), missed)
	}
	return again, twice
}

// start starts the process, and returns when the server has its subscriptions.
func (i *inboxTask) start(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd, _ := startChild(t, inboxEnv, i)
	return cmd
}

// end ends the process in the orderly way.
func (i *inboxTask) end(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the last process: %v", err)
	}
}

// leftInFile counts the records of a client's session in a store but those about
// the session as a whole.
func leftInFile(t *testing.T, path, client string) int {
	t.Helper()
	sessions, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer sessions.Close()
	return leftIn(t, sessions, client)
}

func (i *inboxTask) kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
}

// await returns what was noted once everything that was sent is among it.
func (i *inboxTask) await(t *testing.T, sent int) []inboxLine {
	t.Helper()
	tick, end := time.NewTicker(100*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for {
		lines, err := i.lines()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[inboxLine]bool{}
		for _, l := range lines {
			seen[inboxLine{qos: l.qos, n: l.n}] = true
		}
		if len(seen) == 2*sent {
			return lines
		}
		select {
		case <-tick.C:
		case <-end:
			t.Errorf("%d of %d messages came within a minute", len(seen), 2*sent)
			return lines
		}
	}
}

// lines reads the note.
func (i *inboxTask) lines() (all []inboxLine, err error) {
	text, err := os.ReadFile(i.Note)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		var l inboxLine
		if _, err := fmt.Sscan(string(line), &l.process, &l.qos, &l.n, &l.key, &l.redelivered); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		all = append(all, l)
	}
	return all, nil
}
