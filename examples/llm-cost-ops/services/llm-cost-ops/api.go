package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// ledger is what the API needs of the store.
type ledger interface {
	ping(context.Context) error
	record(context.Context, usage) (recorded, error)
	sums(context.Context, string, filter) ([]sum, error)
	prices(context.Context) ([]price, error)
	setPrice(context.Context, price) error
}

type api struct {
	ledger  ledger
	metrics *metrics
}

func newAPI(s *store) api {
	m := newMetrics()
	m.watch(s.pool)
	return api{s, m}
}

func (a api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", answering(a.about))
	mux.HandleFunc("GET /health", answering(a.health))
	mux.HandleFunc("GET /ready", answering(a.ready))
	mux.Handle("GET /metrics", a.metrics.handler())
	mux.HandleFunc("POST /api/v1/usage", answering(a.addUsage))
	mux.HandleFunc("GET /api/v1/costs", answering(a.costs))
	mux.HandleFunc("GET /api/v1/prices", answering(a.listPrices))
	mux.HandleFunc("PUT /api/v1/prices/{provider}/{model}", answering(a.putPrice))
	return a.metrics.counting(mux)
}

func (a api) about(*http.Request) (int, any, error) {
	return http.StatusOK, map[string]string{"service": "llm-cost-ops", "version": version}, nil
}

// health says that the process answers; ready, that the database does as well.
func (a api) health(*http.Request) (int, any, error) {
	return http.StatusOK, map[string]string{"status": "ok"}, nil
}

func (a api) ready(r *http.Request) (int, any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := a.ledger.ping(ctx); err != nil {
		return 0, nil, refusal{http.StatusServiceUnavailable, "the database does not answer"}
	}
	return http.StatusOK, map[string]string{"status": "ready"}, nil
}

func (a api) addUsage(r *http.Request) (int, any, error) {
	var u usage
	if err := decode(r, &u); err != nil {
		return 0, nil, err
	}
	switch {
	case u.Provider == "" || u.Model == "":
		return 0, nil, bad("`provider` and `model` are needed")
	case u.InputTokens < 0 || u.OutputTokens < 0:
		return 0, nil, bad("tokens are not negative")
	case u.InputTokens == 0 && u.OutputTokens == 0:
		return 0, nil, bad("`input_tokens` or `output_tokens` is needed")
	}
	u.Organization = cmp.Or(u.Organization, "default")
	u.Project = cmp.Or(u.Project, "default")
	if u.At.IsZero() {
		u.At = time.Now().UTC()
	}
	stored, err := a.ledger.record(r.Context(), u)
	if errors.Is(err, errNoPrice) {
		a.metrics.unpriced.Inc()
		return 0, nil, refusal{http.StatusUnprocessableEntity,
			fmt.Sprintf("no price is known for %s/%s at that time: PUT /api/v1/prices/%s/%s", u.Provider, u.Model, u.Provider, u.Model)}
	}
	if err != nil {
		return 0, nil, err
	}
	a.metrics.recorded(stored)
	return http.StatusCreated, stored, nil
}

func (a api) costs(r *http.Request) (int, any, error) {
	query := r.URL.Query()
	group := cmp.Or(query.Get("group_by"), "none")
	if _, ok := groups[group]; !ok {
		return 0, nil, bad("`group_by` is model, provider, organization, project or day")
	}
	f := filter{
		Provider: query.Get("provider"), Model: query.Get("model"),
		Organization: query.Get("organization"), Project: query.Get("project"),
	}
	for name, at := range map[string]*time.Time{"from": &f.From, "to": &f.To} {
		if value := query.Get(name); value != "" {
			parsed, err := moment(value)
			if err != nil {
				return 0, nil, bad("`" + name + "` is a day (2026-01-31) or a time (2026-01-31T12:00:00Z)")
			}
			*at = parsed
		}
	}
	sums, err := a.ledger.sums(r.Context(), group, f)
	return http.StatusOK, map[string]any{"group_by": group, "currency": "USD", "costs": sums}, err
}

func (a api) listPrices(r *http.Request) (int, any, error) {
	prices, err := a.ledger.prices(r.Context())
	return http.StatusOK, map[string]any{"currency": "USD", "per_tokens": 1_000_000, "prices": prices}, err
}

var decimal = regexp.MustCompile(`^\d{1,8}(\.\d{1,6})?$`)

func (a api) putPrice(r *http.Request) (int, any, error) {
	var p price
	if err := decode(r, &p); err != nil {
		return 0, nil, err
	}
	p.Provider, p.Model = r.PathValue("provider"), r.PathValue("model")
	if !decimal.MatchString(p.Input) || !decimal.MatchString(p.Output) {
		return 0, nil, bad("`input` and `output` are dollars for a million tokens, as strings: \"2.50\"")
	}
	if p.ValidFrom.IsZero() {
		p.ValidFrom = time.Now().UTC()
	}
	return http.StatusOK, p, a.ledger.setPrice(r.Context(), p)
}

// refusal is an error that the caller can mend.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func bad(text string) error { return refusal{http.StatusBadRequest, text} }

// answering writes what a route returns, as JSON.
func answering(route func(*http.Request) (int, any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := route(r)
		var refused refusal
		switch {
		case errors.As(err, &refused):
			status, body = refused.status, map[string]string{"error": refused.text}
		case err != nil:
			slog.Error("a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			status, body = http.StatusInternalServerError, map[string]string{"error": "the database refused; the log says why"}
		}
		slog.Debug("answered", "method", r.Method, "path", r.URL.Path, "status", status)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
	}
}

func decode(r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return bad("the body is not as it should be: " + err.Error())
	}
	return nil
}

// moment reads a day or a time.
func moment(text string) (time.Time, error) {
	if len(text) == len(time.DateOnly) {
		return time.Parse(time.DateOnly, text)
	}
	return time.Parse(time.RFC3339, text)
}

// pathOf is a route's pattern without its method.
func pathOf(pattern string) string {
	_, path, _ := strings.Cut(pattern, " ")
	return strings.TrimSuffix(path, "{$}")
}
