package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type router struct {
	policies []policy
	server   string // router-server's URL
	key      func(name string) string
	client   *http.Client
	registry *prometheus.Registry
	routed   *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newRouter(policies []policy, server string, key func(string) string) *router {
	r := &router{
		policies: policies,
		server:   strings.TrimSuffix(server, "/"),
		key:      key,
		client:   &http.Client{Timeout: 5 * time.Minute},
		registry: prometheus.NewRegistry(),
		routed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_requests_total", Help: "Chats by what they were taken for and who answered.",
		}, []string{"policy", "label", "model", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "router_request_duration_seconds", Help: "From the question to the end of the answer.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"policy", "model"}),
	}
	r.registry.MustRegister(r.routed, r.duration, collectors.NewGoCollector())
	return r
}

func (r *router) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]string{"status": "ok"}) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /v1/policies", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"policies": r.policies})
	})
	mux.HandleFunc("POST /v1/route", r.route)
	mux.HandleFunc("POST /v1/chat/completions", r.complete)
	return mux
}

// chat is a request in OpenAI's protocol; only what matters for routing is read, the rest passes.
type chat struct {
	fields   map[string]json.RawMessage
	messages []struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	// wish is our own field `router`: a policy by name, and a model to take as it is, without asking anybody.
	wish struct {
		Policy string `json:"policy"`
		Model  string `json:"model"`
	}
}

func readChat(r *http.Request) (chat, error) {
	var c chat
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 1<<20)).Decode(&c.fields); err != nil {
		return c, bad("the body is not as it should be: %v", err)
	}
	if err := json.Unmarshal(c.fields["messages"], &c.messages); err != nil || len(c.messages) == 0 {
		return c, bad("`messages` with texts are needed")
	}
	if wish, ok := c.fields["router"]; ok {
		if err := json.Unmarshal(wish, &c.wish); err != nil {
			return c, bad("`router` is {\"policy\": …, \"model\": …}")
		}
		delete(c.fields, "router")
	}
	return c, nil
}

// choice is who answers a chat, and why.
type choice struct {
	Policy string `json:"policy"`
	Label  string `json:"label"`
	Model  string `json:"model"`
	llm    llm
}

// asked reads what a request wants, and chooses who answers it.
func (r *router) asked(request *http.Request) (chat, choice, error) {
	c, err := readChat(request)
	if err != nil {
		return c, choice{}, err
	}
	chosen, err := r.choose(request.Context(), c)
	return c, chosen, err
}

func (r *router) choose(ctx context.Context, c chat) (choice, error) {
	chosen, ok := r.policies[0], c.wish.Policy == ""
	for _, p := range r.policies {
		if p.Name == c.wish.Policy {
			chosen, ok = p, true
		}
	}
	if !ok {
		return choice{}, bad("there is no policy %q", c.wish.Policy)
	}
	if c.wish.Model != "" {
		answers, ok := chosen.forModel(c.wish.Model)
		if !ok {
			return choice{}, bad("the policy %q has no model %q", chosen.Name, c.wish.Model)
		}
		return choice{chosen.Name, answers.Label, answers.Model, answers}, nil
	}
	label, err := r.classify(ctx, chosen.Classifier, c.messages[len(c.messages)-1].Content)
	if err != nil {
		return choice{}, refusal{http.StatusServiceUnavailable, fmt.Sprintf("router-server cannot say what kind of chat this is: %v", err)}
	}
	answers, ok := chosen.forLabel(label)
	if !ok {
		return choice{}, refusal{http.StatusServiceUnavailable, fmt.Sprintf("nobody in the policy %q answers %q", chosen.Name, label)}
	}
	return choice{chosen.Name, label, answers.Model, answers}, nil
}

// classify asks router-server, by Triton's protocol.
func (r *router) classify(ctx context.Context, model, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, _ := json.Marshal(map[string]any{"inputs": []any{
		map[string]any{"name": "text", "datatype": "BYTES", "shape": []int{1}, "data": []string{text}},
	}})
	response, err := r.post(ctx, r.server+"/v2/models/"+model+"/infer", body, "")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct {
		Error   string
		Outputs []struct {
			Name string
			Data []any
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("%s: %w", response.Status, err)
	}
	for _, output := range answer.Outputs {
		if label, ok := first(output.Data).(string); ok && output.Name == "label" {
			return label, nil
		}
	}
	return "", fmt.Errorf("%s %s", response.Status, answer.Error)
}

func first(all []any) any {
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// route says who would answer.
func (r *router) route(w http.ResponseWriter, request *http.Request) {
	_, chosen, err := r.asked(request)
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, http.StatusOK, chosen)
}

// complete passes a chat on to who answers it, and the answer back as it comes.
func (r *router) complete(w http.ResponseWriter, request *http.Request) {
	started := time.Now()
	c, chosen, err := r.asked(request)
	if err != nil {
		refuse(w, err)
		return
	}
	c.fields["model"], _ = json.Marshal(chosen.Model)
	body, _ := json.Marshal(c.fields)
	response, err := r.post(request.Context(), strings.TrimSuffix(chosen.llm.URL, "/")+"/chat/completions", body, r.key(chosen.llm.APIKey))
	if err != nil {
		r.routed.WithLabelValues(chosen.Policy, chosen.Label, chosen.Model, "unreachable").Inc()
		refuse(w, refusal{http.StatusBadGateway, fmt.Sprintf("%s does not answer: %v", chosen.Model, err)})
		return
	}
	defer response.Body.Close()
	w.Header().Set("Content-Type", response.Header.Get("Content-Type"))
	w.Header().Set("X-Router-Policy", chosen.Policy)
	w.Header().Set("X-Router-Label", chosen.Label)
	w.Header().Set("X-Router-Model", chosen.Model)
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(flushing{w}, response.Body) // who does not listen any more needs no answer
	r.routed.WithLabelValues(chosen.Policy, chosen.Label, chosen.Model, fmt.Sprint(response.StatusCode)).Inc()
	r.duration.WithLabelValues(chosen.Policy, chosen.Model).Observe(time.Since(started).Seconds())
	slog.Info("routed", "policy", chosen.Policy, "label", chosen.Label, "model", chosen.Model, "status", response.StatusCode)
}

func (r *router) post(ctx context.Context, url string, body []byte, key string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	return r.client.Do(request)
}

// flushing sends each part of a stream at once.
type flushing struct{ http.ResponseWriter }

func (f flushing) Write(part []byte) (int, error) {
	n, err := f.ResponseWriter.Write(part)
	if flusher, ok := f.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
	return n, err
}

type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

func bad(format string, values ...any) error {
	return refusal{http.StatusBadRequest, fmt.Sprintf(format, values...)}
}

func refuse(w http.ResponseWriter, err error) {
	var refused refusal
	if !errors.As(err, &refused) {
		refused = refusal{http.StatusInternalServerError, err.Error()}
	}
	slog.Warn("refused", "status", refused.status, "error", refused.text)
	reply(w, refused.status, map[string]any{"error": map[string]string{"message": refused.text, "type": "router"}})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may be gone
}
