module github.com/millrace/mqtt/examples

go 1.26.0

require (
	github.com/gorilla/websocket v1.5.3
	github.com/millrace/mqtt v0.0.0
	github.com/mochi-mqtt/server/v2 v2.7.9
	go.uber.org/goleak v1.3.0
	golang.org/x/sync v0.24.0
)

require (
	github.com/rs/xid v1.4.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/millrace/mqtt => ../
