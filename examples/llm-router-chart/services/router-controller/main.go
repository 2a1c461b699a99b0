// router-controller sends a chat to the model that is best for it: it asks router-server what kind of chat it is, looks up
// in its policies who answers that kind, and passes the chat on, in OpenAI's protocol on both sides.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		slog.Error(err.Error())
		os.Exit(1)
	}
}

func run() error {
	if err := setLog(os.Getenv("LOG_LEVEL"), os.Getenv("LOG_FORMAT")); err != nil {
		return err
	}
	policies, err := readPolicies(or(os.Getenv("POLICIES_FILE"), "/etc/router/policies.json"))
	if err != nil {
		return err
	}
	router := newRouter(policies, or(os.Getenv("ROUTER_SERVER_URL"), "http://localhost:8000"), os.Getenv)
	server := &http.Server{
		Addr:              or(os.Getenv("LISTEN_ADDRESS"), ":8084"),
		Handler:           router.handler(),
		ReadHeaderTimeout: 10 * time.Second,
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 25*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	slog.Info("routing", "address", server.Addr, "policies", len(policies))
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func setLog(level, format string) error {
	var options slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(or(level, "info"))); err != nil {
		return err
	}
	options.Level = least
	var handler slog.Handler = slog.NewJSONHandler(os.Stdout, &options)
	if format == "text" {
		handler = slog.NewTextHandler(os.Stdout, &options)
	}
	slog.SetDefault(slog.New(handler).With("component", "router-controller"))
	return nil
}

func or(value, otherwise string) string {
	if value != "" {
		return value
	}
	return otherwise
}
