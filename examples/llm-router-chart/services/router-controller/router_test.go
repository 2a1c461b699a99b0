package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stack is a router between a router-server that labels by the text and an LLM that says what it was asked.
func stack(t *testing.T) http.Handler {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Inputs []struct{ Data []string } }
		_ = json.NewDecoder(r.Body).Decode(&asked)
		if r.URL.Path != "/v2/models/kinds/infer" {
			http.Error(w, `{"error": "no such model"}`, 404)
			return
		}
		fmt.Fprintf(w, `{"outputs": [{"name": "label", "data": [%q]}]}`, strings.Fields(asked.Inputs[0].Data[0])[0])
	}))
	llms := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.URL.Path, r.Header.Get("Authorization"), body)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(llms.Close)
	policies := []policy{
		{"kinds", "kinds", []llm{{"code", "coder", llms.URL + "/v1", "CODER_KEY"}, {"chat", "talker", llms.URL + "/v1/", ""},
			{"away", "gone", "http://127.0.0.1:1/v1", ""}}},
		{"broken", "unknown", []llm{{"code", "coder", llms.URL, ""}}},
	}
	return newRouter(policies, server.URL, func(name string) string {
		return map[string]string{"CODER_KEY": "secret"}[name]
	}).handler()
}

func ask(handler http.Handler, path, body string) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("POST", path, strings.NewReader(body)))
	return answer
}

func TestChatsGoToWhoAnswersTheirKind(t *testing.T) {
	handler := stack(t)
	for text, expected := range map[string]struct{ model, authorization string }{
		"code please": {"coder", "Bearer secret"},
		"chat please": {"talker", ""},
	} {
		answer := ask(handler, "/v1/chat/completions", fmt.Sprintf(`{"messages": [{"role": "user", "content": %q}], "temperature": 0.5}`, text))
		head := fmt.Sprintf("/v1/chat/completions %s {", expected.authorization)
		if body := answer.Body.String(); !strings.HasPrefix(body, head) || !strings.Contains(body, fmt.Sprintf("%q", expected.model)) ||
			!strings.Contains(body, "0.5") || answer.Header().Get("X-Router-Model") != expected.model {
			t.Errorf("%s: %s %v", text, body, answer.Header())
		}
	}
}

func TestRefusals(t *testing.T) {
	handler := stack(t)
	for name, c := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"no JSON":              {`hello`, 400, "body"},
		"no messages":          {`{"messages": []}`, 400, "messages"},
		"an unknown policy":    {`{"messages": [{"content": "code"}], "router": {"policy": "none"}}`, 400, `no policy`},
		"an unknown model":     {`{"messages": [{"content": "code"}], "router": {"model": "none"}}`, 400, `no model`},
		"a label of nobody's":  {`{"messages": [{"content": "poem"}]}`, 503, "nobody"},
		"a classifier is away": {`{"messages": [{"content": "code"}], "router": {"policy": "broken"}}`, 503, "no such model"},
		"an LLM is away":       {`{"messages": [{"content": "away"}]}`, 502, "gone does not answer"},
	} {
		if answer := ask(handler, "/v1/chat/completions", c.body); answer.Code != c.status || !strings.Contains(answer.Body.String(), c.says) {
			t.Errorf("%s: %d %s", name, answer.Code, answer.Body)
		}
	}
}

func TestAModelCanBeTakenAsItIs(t *testing.T) {
	answer := ask(stack(t), "/v1/route", `{"messages": [{"content": "code"}], "router": {"model": "talker"}}`)
	if answer.Body.String() != `{"policy":"kinds","label":"chat","model":"talker"}`+"\n" {
		t.Error(answer.Body)
	}
}

func TestMetricsCountWhoAnswered(t *testing.T) {
	handler := stack(t)
	ask(handler, "/v1/chat/completions", `{"messages": [{"content": "code"}]}`)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if line := `router_requests_total{label="code",model="coder",policy="kinds",status="200"} 1`; !strings.Contains(answer.Body.String(), line) {
		t.Error(answer.Body)
	}
}

func TestPoliciesAreRefusedWithTheirPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policies.json")
	for text, says := range map[string]string{
		`{"policies": []}`: "no policies",
		`{"policies": [{"name": "a", "classifier": "b", "llms": [{"label": "c"}]}]}`: "url",
		`{"policies": [{"name": "a"}]}`:                                              "classifier",
		`policies:`:                                                                  "invalid",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readPolicies(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
