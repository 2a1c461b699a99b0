package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// policy is a way to choose: a model of router-server that labels chats, and who answers each label.
type policy struct {
	Name       string `json:"name"`
	Classifier string `json:"classifier"`
	LLMs       []llm  `json:"llms"`
}

// llm answers chats in OpenAI's protocol.
type llm struct {
	Label string `json:"label"`
	Model string `json:"model"`
	// URL ends before /chat/completions.
	URL string `json:"url"`
	// APIKey names the environment variable with its key.
	APIKey string `json:"apiKeyEnv,omitempty"`
}

func readPolicies(path string) ([]policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Policies []policy `json:"policies"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(file.Policies) == 0 {
		return nil, fmt.Errorf("%s has no policies", path)
	}
	for _, p := range file.Policies {
		if p.Name == "" || p.Classifier == "" || len(p.LLMs) == 0 {
			return nil, fmt.Errorf("%s: the policy %q needs a name, a classifier and llms", path, p.Name)
		}
		for _, l := range p.LLMs {
			if l.Label == "" || l.Model == "" || l.URL == "" {
				return nil, fmt.Errorf("%s: each llm of the policy %q needs a label, a model and a url", path, p.Name)
			}
		}
	}
	return file.Policies, nil
}

func (p policy) forLabel(label string) (llm, bool) {
	for _, l := range p.LLMs {
		if l.Label == label {
			return l, true
		}
	}
	return llm{}, false
}

func (p policy) forModel(model string) (llm, bool) {
	for _, l := range p.LLMs {
		if l.Model == model || l.Label == model {
			return l, true
		}
	}
	return llm{}, false
}
