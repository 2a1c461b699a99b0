package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// book is a ledger in memory that knows one price.
type book struct {
	err     error
	entries []usage
	asked   filter
	group   string
	set     price
}

func (b *book) ping(context.Context) error { return b.err }

func (b *book) record(_ context.Context, u usage) (recorded, error) {
	if u.Model != "known" {
		return recorded{}, errNoPrice
	}
	b.entries = append(b.entries, u)
	return recorded{ID: 1, usage: u, Cost: "0.25"}, b.err
}

func (b *book) sums(_ context.Context, group string, f filter) ([]sum, error) {
	b.group, b.asked = group, f
	return []sum{{Group: "a/known", Calls: 2, Cost: "0.5"}}, b.err
}

func (b *book) prices(context.Context) ([]price, error) { return []price{}, b.err }

func (b *book) setPrice(_ context.Context, p price) error {
	b.set = p
	return b.err
}

func ask(b *book, method, target, body string) (int, string) {
	answer := httptest.NewRecorder()
	api{b, newMetrics()}.handler().ServeHTTP(answer, httptest.NewRequest(method, target, strings.NewReader(body)))
	return answer.Code, answer.Body.String()
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		ledger               book
		status               int
		says                 string
	}{
		"healthy without a database": {"GET", "/health", "", book{err: errors.New("away")}, 200, `"ok"`},
		"ready":                      {"GET", "/ready", "", book{}, 200, `"ready"`},
		"not ready":                  {"GET", "/ready", "", book{err: errors.New("away")}, 503, "does not answer"},
		"records usage":              {"POST", "/api/v1/usage", `{"provider":"a","model":"known","input_tokens":5}`, book{}, 201, `"cost":"0.25"`},
		"usage without a model":      {"POST", "/api/v1/usage", `{"provider":"a","input_tokens":5}`, book{}, 400, "model"},
		"usage of nothing":           {"POST", "/api/v1/usage", `{"provider":"a","model":"known"}`, book{}, 400, "tokens"},
		"usage of less than nothing": {"POST", "/api/v1/usage", `{"provider":"a","model":"known","input_tokens":-1}`, book{}, 400, "negative"},
		"a field that is misspelt":   {"POST", "/api/v1/usage", `{"provider":"a","model":"known","input_token":5}`, book{}, 400, "input_token"},
		"no JSON":                    {"POST", "/api/v1/usage", `tokens=5`, book{}, 400, "body"},
		"a model without a price":    {"POST", "/api/v1/usage", `{"provider":"a","model":"new","input_tokens":5}`, book{}, 422, "PUT /api/v1/prices/a/new"},
		"a group that is none":       {"GET", "/api/v1/costs?group_by=cost", "", book{}, 400, "group_by"},
		"a day that is none":         {"GET", "/api/v1/costs?from=yesterday", "", book{}, 400, "from"},
		"sums":                       {"GET", "/api/v1/costs?group_by=model", "", book{}, 200, `"a/known"`},
		"a database that fails":      {"GET", "/api/v1/prices", "", book{err: errors.New("secret host")}, 500, "the log says why"},
		"a price that is a number":   {"PUT", "/api/v1/prices/a/b", `{"input":2.5,"output":1}`, book{}, 400, "body"},
		"a price below nothing":      {"PUT", "/api/v1/prices/a/b", `{"input":"-1","output":"1"}`, book{}, 400, "input"},
		"no such route":              {"GET", "/api/v2", "", book{}, 404, "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := ask(&c.ledger, c.method, c.target, c.body)
			if status != c.status || !strings.Contains(body, c.says) {
				t.Errorf("%d %s; expected %d with %q", status, body, c.status, c.says)
			}
		})
	}
}

func TestUsageGetsWhatIsLeftOut(t *testing.T) {
	var b book
	ask(&b, "POST", "/api/v1/usage", `{"provider":"a","model":"known","output_tokens":5}`)
	if u := b.entries[0]; u.Organization != "default" || u.Project != "default" || time.Since(u.At) > time.Minute {
		t.Errorf("%+v", u)
	}
}

func TestCostsAreAskedForAsTheQuerySays(t *testing.T) {
	var b book
	ask(&b, "GET", "/api/v1/costs?group_by=day&from=2026-01-31&to=2026-02-01T12:00:00Z&project=p", "")
	expected := filter{
		From:    time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		To:      time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC),
		Project: "p",
	}
	if b.group != "day" || b.asked != expected {
		t.Errorf("by %s: %+v", b.group, b.asked)
	}
}

func TestPriceIsSetForTheModelOfThePath(t *testing.T) {
	var b book
	status, _ := ask(&b, "PUT", "/api/v1/prices/a/b", `{"provider":"other","input":"2.50","output":"10"}`)
	if status != 200 || b.set.Provider != "a" || b.set.Model != "b" || b.set.Input != "2.50" {
		t.Errorf("%d %+v", status, b.set)
	}
}

func TestMetricsCountByRoute(t *testing.T) {
	b, m := &book{}, newMetrics()
	handler := api{b, m}.handler()
	for _, target := range []string{"/health", "/health", "/api/v1/costs?group_by=none", "/nowhere/1", "/nowhere/2"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
	}
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/api/v1/usage",
		strings.NewReader(`{"provider":"a","model":"known","input_tokens":5,"output_tokens":7}`)))
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`http_requests_total{method="GET",path="/health",status="200"} 2`,
		`http_requests_total{method="GET",path="/api/v1/costs",status="200"} 1`,
		`http_requests_total{method="GET",path="other",status="404"} 2`,
		`http_request_duration_seconds_count{method="GET",path="/health"} 2`,
		`llm_cost_ops_cost_usd_total{model="known",provider="a"} 0.25`,
		`llm_cost_ops_tokens_total{direction="output",model="known",provider="a"} 7`,
	} {
		if !strings.Contains(answer.Body.String(), line+"\n") {
			t.Errorf("%s is not in\n%s", line, answer.Body)
		}
	}
	if answer.Code != http.StatusOK {
		t.Error(answer.Code)
	}
}

func TestConfigIsRefusedWithItsName(t *testing.T) {
	for name, value := range map[string]string{"DATABASE_URL": "", "DATABASE_POOL_SIZE": "many", "LOG_LEVEL": "loud"} {
		values := map[string]string{"DATABASE_URL": "postgresql://", name: value}
		if _, err := configFrom(func(name string) string { return values[name] }); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%q: %v", name, value, err)
		}
	}
}
