package chaos

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/mqtt"
)

// refusedFilter has more levels than Mosquitto's 200: it answers a SUBSCRIBE for it by
// closing the connection.
var refusedFilter = strings.Repeat("deep/", 250) + "#"

const (
	// refusedFirst is when the first subscription to refusedFilter is made, refusedEvery
	// the time between later ones. Each costs six links, on each of which the broker
	// sends what is in flight again: more often, a process that lives long falls so far
	// behind that Mosquitto gives packet identifiers to two messages at once.
	refusedFirst = 4 * time.Second
	refusedEvery = 40 * time.Second
	// refusedTime is how long one may take. The client needs some links to tell, and
	// faults cut these.
	refusedTime = 45 * time.Second
)

// subscribeRefused subscribes to refusedFilter again and again until the Conn ends,
// and notes what came of it.
func (s *settings) subscribeRefused(conn *mqtt.Conn) error {
	notes := map[string]note{}
	for _, kind := range []string{"refused", "undecided", "granted"} {
		n, err := createNote(s.Dir, kind, 0, s.Incarnation)
		if err != nil {
			return err
		}
		defer n.Close()
		notes[kind] = n
	}
	scope, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // ends with scope
		select {
		case <-conn.Done():
			cancel()
		case <-scope.Done():
		}
	}()
	wait := refusedFirst
	for n := 1; pause(scope, wait); n++ {
		wait = refusedEvery
		s.asking.Store(true)
		if s.leaving.Load() {
			return nil
		}
		ctx, done := context.WithTimeout(scope, refusedTime)
		_, err := conn.Subscribe(ctx, refusedFilter)
		switch {
		case err == nil:
			notes["granted"].write(n)
		case ctx.Err() != nil || errors.Is(err, mqtt.ErrClosed):
			notes["undecided"].write(n)
		default:
			notes["refused"].write(n)
		}
		done()
		s.asking.Store(false)
	}
	return nil
}

// countNotes counts what all processes noted of a kind.
func countNotes(dir, kind string) (n int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, kind+"-*-*"))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		n += bytes.Count(text, []byte("\n"))
	}
	return n, nil
}
