package integration

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/mqtt/integration/broker"
	"github.com/millrace/mqtt/integration/chaos"
)

func TestMain(m *testing.M) {
	broker.ServeMochi()
	chaos.Serve()
	serveOffline()
	serveInbox()
	goleak.VerifyTestMain(m)
}
