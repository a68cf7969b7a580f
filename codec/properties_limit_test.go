package codec

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// allocatedBy returns how many bytes f allocates.
func allocatedBy(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// Properties that are many and small take no more than eight times their bytes.
func TestAllocatedByManyProperties(t *testing.T) {
	many := map[string]RawProperties{
		"empty user properties":    RawProperties(strings.Repeat("\x26\x00\x00\x00\x00", 200_000)),
		"small user properties":    RawProperties(strings.Repeat("\x26\x00\x01a\x00\x01b", 150_000)),
		"subscription identifiers": RawProperties(strings.Repeat("\x0b\x01", 500_000)),
	}
	for name, raw := range many {
		t.Run(name, func(t *testing.T) {
			var p Properties
			n := allocatedBy(func() { raw.Decode(&p) })
			if n > 8*len(raw)+4096 {
				t.Errorf("%d bytes for %d of properties", n, len(raw))
			}
			if len(p.User)+len(p.SubscriptionIDs) < 100_000 {
				t.Errorf("%d and %d", len(p.User), len(p.SubscriptionIDs))
			}
		})
	}
}

// Beyond the limit User Properties are left out, the other properties are not.
func TestDecodeFirst(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		users int
		limit int
		kept  int
	}{{0, 0, 0}, {1, 0, 0}, {3, 1 << 20, 3}, {3, 3 * (1002 + UserPropertyOverhead), 3}, {3, 3*(1002+UserPropertyOverhead) - 1, 2}, {100, 2100, 2}} {
		p := Properties{Present: PropertySet(0).With(PropReasonString).With(PropServerReference), ReasonString: "why", ServerReference: "where"}
		for range c.users {
			p.User = append(p.User, UserProperty{"no", long})
		}
		raw := RawProperties(AppendProperties(nil, &p)[VarintSize(PropertiesSize(&p)):])
		// AppendProperties puts User Properties last; here they are first.
		n := len(raw) - p.valueSize(PropUserProperty)
		first := append(append(RawProperties{}, raw[n:]...), raw[:n]...)
		for _, raw := range []RawProperties{raw, first} {
			var got, all Properties
			raw.DecodeFirst(&got, c.limit)
			raw.Decode(&all)
			all.User, all.UserCut = all.User[:c.kept], c.kept < c.users
			if len(all.User) == 0 {
				all.User, got.User = nil, got.User[:len(got.User):len(got.User)]
				if len(got.User) == 0 {
					got.User = nil
				}
			}
			if !reflect.DeepEqual(got, all) {
				t.Errorf("%d of %d with limit %d: got %d, cut %v, %q", c.kept, c.users, c.limit, len(got.User), got.UserCut, got.ReasonString)
			}
		}
	}
}

// A CONNACK, DISCONNECT or acknowledgement with very many User Properties keeps some KiB of
// them, and a CONNECT all: they are part of the request that it makes.
func TestUserPropertiesThatArriveAreLimited(t *testing.T) {
	p := &Properties{}
	for range 100_000 {
		p.User = append(p.User, UserProperty{})
	}
	connack, err := AppendConnack(nil, V5, &Connack{Props: p})
	if err != nil {
		t.Fatal(err)
	}
	var c Connack
	body := connack[1+VarintSize(len(connack)-5):]
	n := allocatedBy(func() { err = c.Decode(V5, body) })
	if err != nil || !c.Props.UserCut || len(c.Props.User) != MaxUserProperties/UserPropertyOverhead || n > 16<<10 {
		t.Errorf("CONNACK: %v, %d bytes allocated, %d user properties, cut %v", err, n, len(c.Props.User), c.Props.UserCut)
	}
	connect, err := AppendConnect(nil, V5, &Connect{Version: V5, ClientID: "c", Props: p})
	if err != nil {
		t.Fatal(err)
	}
	var d Connect
	if err := d.Decode(connect[1+VarintSize(len(connect)-5):]); err != nil || len(d.Props.User) != 100_000 || d.Props.UserCut {
		t.Errorf("CONNECT: %v", err)
	}
}
