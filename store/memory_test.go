package store_test

import (
	"testing"

	"github.com/millrace/mqtt/store"
	"github.com/millrace/mqtt/store/storetest"
)

func TestMemory(t *testing.T) {
	m := store.NewMemory()
	storetest.Run(t, func(*testing.T) store.Store { return m }, storetest.Options{
		OpenLimited: func(_ *testing.T, limits store.Limits) store.Store { return &store.Memory{Limits: limits} },
	})
}

// Values handed to visit cannot reach what is stored behind them.
func TestMemoryReadValueHasNoRoom(t *testing.T) {
	s, err := store.NewMemory().Session("c")
	if err != nil {
		t.Fatal(err)
	}
	key := store.Key{Kind: store.Outgoing, Seq: 1}
	if err := s.Commit([]store.Op{{Key: key, Body: make([]byte, 3)}}); err != nil {
		t.Fatal(err)
	}
	err = s.Read([]store.Key{key}, func(_ int, value []byte) error {
		if cap(value) != len(value) {
			t.Errorf("the value has room for %d more bytes", cap(value)-len(value))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStrings(t *testing.T) {
	err := &store.DamageError{Key: store.Key{Kind: store.Inbox, Seq: 7}, Problem: "checksum", Quarantine: "x"}
	for want, got := range map[string]string{
		"store: record inbox 7 is damaged: checksum; its bytes are kept in x": err.Error(),
		"kind 9": store.Kind(9).String(),
		"meta 0": store.Key{}.String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
