// Package program has what every example's main does.
package program

import (
	"context"
	"flag"
	"io"
	"log"
	"os"
	"os/signal"
)

// Main runs an example until it ends or is interrupted. The -broker flag takes the
// URL of a server of that kind, and is empty for one in the same process; an example
// defines further flags before it calls Main.
func Main(kind string, run func(ctx context.Context, url string, out io.Writer) error) {
	url := flag.String("broker", "", "URL of "+kind+"; empty starts one in this process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *url, os.Stdout); err != nil {
		log.Fatal(err)
	}
}
