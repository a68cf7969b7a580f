// Package storetest checks that a [store.Store] keeps what package store
// promises. A store's own test calls [Run]:
//
//	func TestStore(t *testing.T) {
//		path := filepath.Join(t.TempDir(), "sessions")
//		storetest.Run(t, func(t *testing.T) store.Store { return mystore.Open(path) }, storetest.Options{})
//	}
//
// Run it with -race too. What it cannot check from outside is left to the
// store: that what Commit reported outlives a killed process or a lost power
// supply, how damaged records are set aside, and what a full disk does.
package storetest
