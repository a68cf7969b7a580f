module github.com/millrace/mqtt/tools

go 1.26
