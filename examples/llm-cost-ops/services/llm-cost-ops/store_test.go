package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
)

// opened is a store in an empty database, which TEST_DATABASE_URL names.
func opened(t *testing.T) *store {
	url := os.Getenv("TEST_DATABASE_URL")
	if url == "" {
		t.Skip("TEST_DATABASE_URL names no database")
	}
	s, err := openStore(t.Context(), config{databaseURL: url, poolSize: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if _, err := s.pool.Exec(t.Context(), "DROP TABLE IF EXISTS usage, prices, migrations"); err != nil {
		t.Fatal(err)
	}
	if err := migrate(t.Context(), s.pool); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPodsThatStartAtOnceMigrateOnce(t *testing.T) {
	s := opened(t)
	if _, err := s.pool.Exec(t.Context(), "DROP TABLE usage, prices, migrations"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := migrate(context.Background(), s.pool); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
}

func TestUsageCostsThePriceOfItsTime(t *testing.T) {
	s := opened(t)
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for days, cost := range []string{"1", "2.5"} {
		p := price{Provider: "a", Model: "m", ValidFrom: day.AddDate(0, 0, days), Input: cost, Output: "0"}
		if err := s.setPrice(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	use := func(at time.Time, tokens int64) (recorded, error) {
		return s.record(t.Context(), usage{Provider: "a", Model: "m", Organization: "o", Project: "p", InputTokens: tokens, At: at})
	}
	if _, err := use(day.Add(-time.Hour), 1); !errors.Is(err, errNoPrice) {
		t.Errorf("before there is a price: %v", err)
	}
	for at, expected := range map[time.Time]string{day: "0.000003000", day.AddDate(0, 0, 1): "0.000007500"} {
		if r, err := use(at, 3); err != nil || r.Cost != expected {
			t.Errorf("at %s: %q %v, expected %s", at, r.Cost, err, expected)
		}
	}
	sums, err := s.sums(t.Context(), "day", filter{From: day})
	if err != nil || len(sums) != 2 || sums[0].Cost != "0.000003" || sums[1].Group != "2026-03-02" {
		t.Errorf("%+v %v", sums, err)
	}
	total, err := s.sums(t.Context(), "none", filter{Project: "p"})
	if err != nil || len(total) != 1 || total[0].Cost != "0.0000105" || total[0].InputTokens != 6 {
		t.Errorf("%+v %v", total, err)
	}
}
