module github.com/millrace/mqtt/bench

go 1.26
