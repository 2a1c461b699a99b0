package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the figures under /metrics.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	cost     *prometheus.CounterVec
	tokens   *prometheus.CounterVec
	unpriced prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests that were answered.",
		}, []string{"method", "path", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "How long answers took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "path"}),
		cost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llm_cost_ops_cost_usd_total", Help: "What was recorded, in US dollars.",
		}, []string{"provider", "model"}),
		tokens: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "llm_cost_ops_tokens_total", Help: "Tokens that were recorded.",
		}, []string{"provider", "model", "direction"}),
		unpriced: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "llm_cost_ops_unpriced_total", Help: "Usage that was refused because no price is known.",
		}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.cost, m.tokens, m.unpriced,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds the pool's figures.
func (m *metrics) watch(pool *pgxpool.Pool) {
	gauge := func(name, help string, value func(*pgxpool.Stat) int32) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help},
			func() float64 { return float64(value(pool.Stat())) }))
	}
	gauge("llm_cost_ops_database_connections", "Connections to the database that are in use.", (*pgxpool.Stat).AcquiredConns)
	gauge("llm_cost_ops_database_connections_max", "Connections that it may have.", (*pgxpool.Stat).MaxConns)
}

func (m *metrics) recorded(r recorded) {
	cost, _ := strconv.ParseFloat(r.Cost, 64)
	m.cost.WithLabelValues(r.Provider, r.Model).Add(cost)
	m.tokens.WithLabelValues(r.Provider, r.Model, "input").Add(float64(r.InputTokens))
	m.tokens.WithLabelValues(r.Provider, r.Model, "output").Add(float64(r.OutputTokens))
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// counting counts requests by the route's pattern, of which there are few, not by the path.
func (m *metrics) counting(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		mux.ServeHTTP(answer, r)
		path := "other"
		if r.Pattern != "" {
			path = pathOf(r.Pattern)
		}
		m.requests.WithLabelValues(r.Method, path, strconv.Itoa(answer.status)).Inc()
		m.duration.WithLabelValues(r.Method, path).Observe(time.Since(started).Seconds())
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
