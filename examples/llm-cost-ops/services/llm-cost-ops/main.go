// llm-cost-ops stores what LLM calls cost, and sums it up.
//
//	llm-cost-ops          serves the API
//	llm-cost-ops migrate  brings the database to this version's schema
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const version = "0.1.0"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	config, err := configFrom(os.Getenv)
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: config.logLevel})))
	store, err := openStore(ctx, config)
	if err != nil {
		return err
	}
	defer store.close()

	switch {
	case len(args) == 1 && args[0] == "migrate":
		return migrate(ctx, store.pool)
	case len(args) == 0:
		return serve(ctx, config, store)
	default:
		return fmt.Errorf("unknown arguments %q: there is `migrate`, and none to serve", args)
	}
}

// serve ends when ctx does, after the requests that are under way.
func serve(ctx context.Context, config config, store *store) error {
	server := &http.Server{
		Addr:              config.address,
		Handler:           newAPI(store).handler(),
		ReadHeaderTimeout: 10 * time.Second,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	slog.Info("serving", "address", config.address, "environment", config.environment)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
