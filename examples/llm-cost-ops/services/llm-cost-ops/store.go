package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Amounts are decimal strings in US dollars, as PostgreSQL reckons them: a float would lose cents.

// price is what a million tokens cost.
type price struct {
	Provider  string    `json:"provider"`
	Model     string    `json:"model"`
	ValidFrom time.Time `json:"valid_from"`
	Input     string    `json:"input"`
	Output    string    `json:"output"`
}

// usage is a call, or several, of a model.
type usage struct {
	Provider     string    `json:"provider"`
	Model        string    `json:"model"`
	Organization string    `json:"organization"`
	Project      string    `json:"project"`
	InputTokens  int64     `json:"input_tokens"`
	OutputTokens int64     `json:"output_tokens"`
	At           time.Time `json:"at"`
}

// recorded is a usage that is stored, with what it cost.
type recorded struct {
	ID int64 `json:"id"`
	usage
	Cost string `json:"cost"`
}

// sum is what was used in a group: by model, by day, and so on.
type sum struct {
	Group        string `json:"group"`
	Calls        int64  `json:"calls"`
	InputTokens  int64  `json:"input_tokens"`
	OutputTokens int64  `json:"output_tokens"`
	Cost         string `json:"cost"`
}

// filter says which usage counts; what is empty does not matter. From counts, To does not.
type filter struct {
	From, To                               time.Time
	Provider, Model, Organization, Project string
}

// groups are the ways to sum up, each with its expression.
var groups = map[string]string{
	"model":        "provider || '/' || model",
	"provider":     "provider",
	"organization": "organization",
	"project":      "organization || '/' || project",
	"day":          "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
	"none":         "'total'",
}

var errNoPrice = errors.New("no price is known for this model at that time")

type store struct{ pool *pgxpool.Pool }

// openStore connects when it must: the database may come up later.
func openStore(ctx context.Context, c config) (*store, error) {
	options, err := pgxpool.ParseConfig(c.databaseURL)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL cannot be read: %w", err)
	}
	options.MaxConns = c.poolSize
	options.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, options)
	return &store{pool}, err
}

func (s *store) close() { s.pool.Close() }

func (s *store) ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// record stores a usage at the price of its time.
func (s *store) record(ctx context.Context, u usage) (recorded, error) {
	rows, _ := s.pool.Query(ctx, `
		INSERT INTO usage (at, provider, model, organization, project, input_tokens, output_tokens, cost)
		SELECT $1, provider, model, $4, $5, $6::bigint, $7::bigint, (input * $6 + output * $7) / 1000000
		FROM prices WHERE provider = $2 AND model = $3 AND valid_from <= $1
		ORDER BY valid_from DESC LIMIT 1
		RETURNING id, cost::text`,
		u.At, u.Provider, u.Model, u.Organization, u.Project, u.InputTokens, u.OutputTokens)
	r, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (recorded, error) {
		r := recorded{usage: u}
		return r, row.Scan(&r.ID, &r.Cost)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return r, errNoPrice
	}
	return r, err
}

// sums adds up by one of groups, the dearest first; days in their order.
func (s *store) sums(ctx context.Context, group string, f filter) ([]sum, error) {
	order := "sum(cost) DESC, 1"
	if group == "day" {
		order = "1"
	}
	rows, _ := s.pool.Query(ctx, `
		SELECT `+groups[group]+`, count(*), coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint,
			trim_scale(coalesce(sum(cost), 0))::text
		FROM usage
		WHERE ($1::timestamptz IS NULL OR at >= $1) AND ($2::timestamptz IS NULL OR at < $2)
			AND ($3 = '' OR provider = $3) AND ($4 = '' OR model = $4)
			AND ($5 = '' OR organization = $5) AND ($6 = '' OR project = $6)
		GROUP BY 1 ORDER BY `+order,
		orNull(f.From), orNull(f.To), f.Provider, f.Model, f.Organization, f.Project)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[sum])
}

// prices are those that hold now.
func (s *store) prices(ctx context.Context) ([]price, error) {
	rows, _ := s.pool.Query(ctx, `
		SELECT DISTINCT ON (provider, model) provider, model, valid_from, trim_scale(input)::text, trim_scale(output)::text
		FROM prices WHERE valid_from <= now() ORDER BY provider, model, valid_from DESC`)
	return pgx.CollectRows(rows, pgx.RowToStructByPos[price])
}

func (s *store) setPrice(ctx context.Context, p price) error {
	_, err := s.pool.Exec(ctx, `
		INSERT INTO prices (provider, model, valid_from, input, output)
		VALUES ($1, $2, $3, $4::text::numeric, $5::text::numeric)
		ON CONFLICT (provider, model, valid_from) DO UPDATE SET input = excluded.input, output = excluded.output`,
		p.Provider, p.Model, p.ValidFrom, p.Input, p.Output)
	return err
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
