module github.com/millrace/mqtt/examples

go 1.26.0

require github.com/millrace/mqtt v0.0.0

replace github.com/millrace/mqtt => ../
