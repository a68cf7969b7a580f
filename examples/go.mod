module github.com/millrace/mqtt/examples

go 1.26
