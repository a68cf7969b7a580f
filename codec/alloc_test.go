package codec

import "testing"

// TestHotPathAllocatesNothing holds every packet that a busy connection is full of to no allocation.
func TestHotPathAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 1024)
	check := func(name string, f func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, v := range versions {
		for qos := range byte(3) {
			for _, props := range []*Properties{nil, hotProps()} {
				p := hotPublish(qos)
				p.Topic = "Werk/7/Wärme"
				p.Props = props
				check(v.String()+" AppendPublish", func() { dst = AppendPublish(dst[:0], v, p) })
				check(v.String()+" AppendPublishHeader", func() { dst = AppendPublishHeader(dst[:0], v, p) })
				check(v.String()+" PublishSize", func() { _ = PublishSize(v, p) })

				f, err := frameOf(v, AppendPublish(nil, v, p))
				if err != nil {
					t.Fatal(err)
				}
				var view PublishView
				check(v.String()+" PublishView.Decode", func() {
					if view.Decode(v, f.Flags, f.Body) != nil {
						t.Error("decode failed")
					}
				})
				check(v.String()+" PublishView.DecodeLayout", func() { _ = view.DecodeLayout(v, f.Flags, f.Body) })
				check(v.String()+" SubscriptionIDs", func() {
					for range view.Props.SubscriptionIDs() {
					}
				})
				check(v.String()+" Lookup", func() { view.Props.Lookup(PropContentType) })
				check(v.String()+" Number", func() { view.Props.Number(PropMessageExpiryInterval) })
			}
		}
		for typ := PUBACK; typ <= PUBCOMP; typ++ {
			props := &Properties{User: []UserProperty{{"k", "v"}}}
			check(v.String()+" AppendAck", func() { dst = AppendAck(dst[:0], v, typ, 7, Success, nil) })
			check(v.String()+" AppendAck with properties", func() { dst = AppendAck(dst[:0], v, typ, 7, Success, props) })
			f, err := frameOf(v, dst)
			if err != nil {
				t.Fatal(err)
			}
			var a Ack
			check(v.String()+" Ack.Decode", func() {
				if a.Decode(v, typ, f.Body) != nil {
					t.Error("decode failed")
				}
			})
		}
	}
	check("AppendPingreq", func() { dst = AppendPingreq(dst[:0]) })
	check("AppendPingresp", func() { dst = AppendPingresp(dst[:0]) })
}

func TestFramerAllocatesNothingPerPacket(t *testing.T) {
	r := &endless{data: AppendPublish(nil, V5, hotPublish(1))}
	f := NewFramer(V5, 0)
	next := func() {
		for {
			if _, ok, err := f.Next(); ok || err != nil {
				return
			}
			if _, err := f.Fill(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 10_000 { // the buffer finds its size
		next()
	}
	if n := testing.AllocsPerRun(1000, next); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
