package integration

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/mqtt/integration/broker"
)

func TestMain(m *testing.M) {
	broker.ServeMochi()
	goleak.VerifyTestMain(m)
}
