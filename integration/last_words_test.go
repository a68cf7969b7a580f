package integration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/mqtt"
	"github.com/millrace/mqtt/codec"
	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/internal/chance"
)

// ending is a way to end a Conn in the orderly way.
type ending struct {
	name string
	end  func(conn *mqtt.Conn, cancel context.CancelFunc) error // cancel ends Connect's context
}

var endings = []ending{
	{"Close", func(conn *mqtt.Conn, _ context.CancelFunc) error { return conn.Close() }},
	{"Drain", func(conn *mqtt.Conn, _ context.CancelFunc) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return conn.Drain(ctx)
	}},
	{"Disconnect", func(conn *mqtt.Conn, _ context.CancelFunc) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return conn.Disconnect(ctx)
	}},
	{"context", func(conn *mqtt.Conn, cancel context.CancelFunc) error {
		cancel()
		<-conn.Done()
		if err := conn.Err(); !errors.Is(err, context.Canceled) {
			return fmt.Errorf("the Conn ended with %w", err)
		}
		return nil
	}},
}

// lastWordRounds is how often each cell of a table is tried.
func lastWordRounds() int { return chance.Rounds(3, 50) }

// lastWordTransports are those whose closing differs.
var lastWordTransports = []broker.Transport{broker.TCP, broker.TLS, broker.WS}

// lastWordVersion returns the version for a round: those in common use, in turn.
func lastWordVersion(b *broker.Broker, over broker.Transport, round int) broker.Version {
	var spoken []broker.Version
	for _, v := range []broker.Version{broker.V311, broker.V5} {
		if b.Supports(v, over) {
			spoken = append(spoken, v)
		}
	}
	return spoken[round%len(spoken)]
}

// atLastWordBrokers runs test with each broker, and logs the table that it fills.
// front, when it is not nil, is put in front of Mosquitto for one run more.
func atLastWordBrokers(t *testing.T, test func(t *testing.T, figures figureTable, b, front *broker.Broker)) {
	t.Helper()
	figures := figureTable{}
	defer func() { t.Logf("\n%s", figures) }()
	t.Run("mosquitto", func(t *testing.T) {
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: -1})
		test(t, figures, b, b)
	})
	t.Run("mochi", func(t *testing.T) {
		b := broker.StartMochi(t, broker.MochiOptions{})
		test(t, figures, b, b)
	})
	t.Run("aedes", func(t *testing.T) {
		b := broker.StartAedes(t)
		test(t, figures, b, b)
	})
	t.Run("nginx", func(t *testing.T) {
		b := broker.StartMosquitto(t, broker.MosquittoOptions{MaxInflight: -1})
		test(t, figures, b, broker.StartNginxStream(t, b))
	})
}

// forEachTransport calls test for those that front offers.
func forEachTransport(t *testing.T, front *broker.Broker, test func(t *testing.T, over broker.Transport)) {
	for _, over := range lastWordTransports {
		if front.URL(over) != "" {
			t.Run(string(over), func(t *testing.T) { test(t, over) })
		}
	}
}

// TestTakenMessagesDoNotComeAgain takes some messages from a subscription's channel,
// ends the Conn, and goes on with the session on a new one: the broker has their
// acknowledgements, and sends nothing again.
func TestTakenMessagesDoNotComeAgain(t *testing.T) {
	atLastWordBrokers(t, func(t *testing.T, figures figureTable, b, front *broker.Broker) {
		pub := connect(t, b, broker.V311, broker.TCP)
		forEachTransport(t, front, func(t *testing.T, over broker.Transport) {
			for _, e := range endings {
				for qos := mqtt.QoS(1); qos <= 2; qos++ {
					c := takeCell{pub: pub, front: front, over: over, qos: qos, ending: e}
					row, text := fmt.Sprintf("QoS %d, %s", qos, e.name), c.fill(t)
					figures.note(row, front, over, text)
					if c.again.Load()+c.left.Load() > 0 {
						t.Errorf("%s: %s", row, text)
					}
				}
			}
		})
	})
}

// takeCell is a cell of TestTakenMessagesDoNotComeAgain.
type takeCell struct {
	pub    *mqtt.Conn
	front  *broker.Broker
	over   broker.Transport
	qos    mqtt.QoS
	ending ending

	again atomic.Int32 // rounds in which a message came a second time
	left  atomic.Int32 // rounds after which the session still had something
}

// fill runs the rounds, some at a time since most of their time is the broker's.
func (c *takeCell) fill(t *testing.T) (text string) {
	t.Helper()
	var rounds errgroup.Group
	rounds.SetLimit(8)
	for round := range lastWordRounds() {
		rounds.Go(func() error { return c.round(t.Context(), round) })
	}
	if err := rounds.Wait(); err != nil {
		t.Errorf("QoS %d, %s: %v", c.qos, c.ending.name, err)
	}
	return fmt.Sprintf("again %d, left %d of %d", c.again.Load(), c.left.Load(), lastWordRounds())
}

// messages is how many are taken. Aedes 1.2.0 keeps one of several exchanges of QoS 2
// that it has a PUBREC for, and begins the others anew: its own fault.
func (c *takeCell) messages() int {
	if c.front.Name() == "aedes" && c.qos == 2 {
		return 1
	}
	return 3
}

func (c *takeCell) round(ctx context.Context, n int) error {
	s := takeSession{takeCell: c, version: lastWordVersion(c.front, c.over, n)}
	s.id = fmt.Sprintf("taken-%s-%s-%d-%d", c.over, c.ending.name, c.qos, n)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.take(ctx); err != nil {
		return err
	}
	messages, _, err := s.goOn(ctx) // a PUBREL may be left, behind the PUBREC that the broker has
	if err != nil {
		return err
	}
	c.again.Add(int32(min(messages, 1)))
	messages, releases, err := s.goOn(ctx)
	c.left.Add(int32(min(messages+releases, 1)))
	return err
}

// takeSession is one session of a cell.
type takeSession struct {
	*takeCell
	version broker.Version
	id      string // the client identifier, and the topic
}

// take takes messages over the first link of the session, and ends it.
func (s *takeSession) take(ctx context.Context) error {
	scope, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := dialIn(scope, s.front, s.version, s.over, mqtt.WithClientID(s.id), mqtt.WithSession(time.Hour))
	if err != nil {
		return err
	}
	defer conn.Abort() // when something failed; else it has ended
	sub, err := conn.Subscribe(ctx, s.id, s.qos)
	if err != nil {
		return err
	}
	for n := range s.messages() {
		m := mqtt.Message{Topic: s.id, Payload: mqtt.IntPayload(int64(n)), QoS: s.qos}
		if err := s.pub.Publish(ctx, m).Wait(ctx); err != nil {
			return err
		}
	}
	for range s.messages() {
		select {
		case <-sub.C():
		case <-ctx.Done():
			return errors.New("a message did not come")
		}
	}
	return s.ending.end(conn, cancel)
}

// goOn goes on with the session, settles what the broker sends, and returns how many
// PUBLISH and PUBREL packets that were.
func (s *takeSession) goOn(ctx context.Context) (messages, releases int, err error) {
	var publishes, pubrels atomic.Int32
	count := func(p mqtt.PacketInfo) {
		switch {
		case p.Sent:
		case p.Type == codec.PUBLISH:
			publishes.Add(1)
		case p.Type == codec.PUBREL:
			pubrels.Add(1)
		}
	}
	conn, err := dialIn(ctx, s.front, s.version, s.over, mqtt.WithClientID(s.id), mqtt.WithSession(time.Hour),
		mqtt.WithSubscription(s.id, s.qos, mqtt.WithImmediateDelivery()), mqtt.WithPacketHook(count))
	if err != nil {
		return 0, 0, err
	}
	defer conn.Abort()
	go func() { // ends with the Conn
		for range conn.Subscription(s.id).C() {
		}
	}()
	// A broker answers these behind what it has to send again.
	for qos := mqtt.QoS(1); qos <= 2; qos++ {
		if err := conn.Publish(ctx, mqtt.Message{Topic: "fence", QoS: qos}).Wait(ctx); err != nil {
			return 0, 0, err
		}
	}
	err = conn.Close()
	return int(publishes.Load()), int(pubrels.Load()), err
}

// figureTable has a cell for each row, broker and transport.
type figureTable map[[2]string]string

func (f figureTable) note(row string, b *broker.Broker, over broker.Transport, cell string) {
	f[[2]string{row, fmt.Sprintf("%s, %s", b.Name(), over)}] = cell
}

// String has a row for each row, and in it the brokers and transports.
func (f figureTable) String() string {
	var rows, columns []string
	for key := range f {
		rows, columns = append(rows, key[0]), append(columns, key[1])
	}
	for _, names := range []*[]string{&rows, &columns} {
		slices.Sort(*names)
		*names = slices.Compact(*names)
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, column := range columns {
		for _, row := range rows {
			fmt.Fprintf(w, "%s\t%s\t%s\n", column, row, cmp.Or(f[[2]string{row, column}], "-"))
		}
	}
	w.Flush()
	return text.String()
}
