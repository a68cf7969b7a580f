module github.com/millrace/mqtt/store/bolt

go 1.26.0

require (
	github.com/millrace/mqtt v0.0.0
	go.etcd.io/bbolt v1.5.0
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.45.0
)

replace github.com/millrace/mqtt => ../..
