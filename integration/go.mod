module github.com/millrace/mqtt/integration

go 1.26
