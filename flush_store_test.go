package mqtt

import (
	"runtime"
	"sync"
	"testing"
)

// Close and Abort may flush the store at the same time: that commits which fail are
// not tried again is noted once, under the lock.
func TestFlushStoreByTwoAtOnce(t *testing.T) {
	o := &outbound{journal: &journal{closeNow: make(chan struct{})}}
	var begun, done sync.WaitGroup
	o.mu.Lock()
	for range 2 {
		begun.Add(1)
		done.Go(func() {
			begun.Done()
			o.flushStore(0)
		})
	}
	begun.Wait()
	for range 1000 {
		runtime.Gosched()
		if closed(o.journal.closeNow) {
			t.Error("it is noted without the lock")
			break
		}
	}
	o.mu.Unlock()
	done.Wait()
	if !closed(o.journal.closeNow) {
		t.Error("it is not noted")
	}
}
