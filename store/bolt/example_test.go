package bolt_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/bolt"
)

func Example() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	sessions, err := bolt.Open(filepath.Join(dir, "sessions.db"),
		bolt.WithLimits(100_000, 64<<20), // of each session
		bolt.WithMaxFile(256<<20))
	if err != nil {
		log.Fatal(err)
	}
	defer sessions.Close()

	session, err := sessions.Session("meter-7")
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	key := store.Key{Kind: store.Outgoing, Seq: 1}
	if err := session.Commit([]store.Op{{Key: key, Head: []byte("topic "), Body: []byte("payload")}}); err != nil {
		log.Fatal(err)
	}
	err = session.Load(func(e store.Entry) error {
		fmt.Printf("%s: %s\n", e.Key, e.Value)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: outgoing 1: topic payload
}
