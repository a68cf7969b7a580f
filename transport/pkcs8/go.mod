module github.com/millrace/mqtt/transport/pkcs8

go 1.26.0

require (
	github.com/millrace/mqtt v0.0.0
	github.com/youmark/pkcs8 v0.0.0-20240726163527-a2c0da244d78
)

require (
	github.com/gorilla/websocket v1.5.3 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.62.0 // indirect
)

replace github.com/millrace/mqtt => ../..
