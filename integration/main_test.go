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
	serveChild(offlineEnv, &offlineTask{})
	serveChild(inboxEnv, &inboxTask{})
	goleak.VerifyTestMain(m)
}
