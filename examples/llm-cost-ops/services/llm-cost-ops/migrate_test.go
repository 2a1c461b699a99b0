package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestADatabaseThatComesUpLaterIsWaitedFor(t *testing.T) {
	dsn := os.Getenv("TEST_DATABASE_URL")
	if dsn == "" {
		t.Skip("TEST_DATABASE_URL names no database")
	}
	database, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	// Nobody listens at this address at first; then it leads to the database.
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, behind := door.Addr().String(), database.Host
	if database.Port() == "" {
		behind += ":5432"
	}
	door.Close()
	database.Host = address
	s, err := openStore(t.Context(), config{databaseURL: database.String(), poolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if _, err := connect(t.Context(), s.pool, 0); err == nil {
		t.Fatal("nobody listens yet")
	}
	go func() {
		time.Sleep(500 * time.Millisecond)
		door, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		go func() { <-t.Context().Done(); door.Close() }()
		for {
			caller, err := door.Accept()
			if err != nil {
				return
			}
			called, err := net.Dial("tcp", behind)
			if err != nil {
				caller.Close()
				continue
			}
			go func() { _, _ = caller.(*net.TCPConn).ReadFrom(called) }()
			go func() { _, _ = called.(*net.TCPConn).ReadFrom(caller) }()
		}
	}()
	connection, err := connect(t.Context(), s.pool, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	connection.Release()
}

func TestADatabaseThatRefusesIsNotWaitedFor(t *testing.T) {
	dsn := os.Getenv("TEST_DATABASE_URL")
	if dsn == "" {
		t.Skip("TEST_DATABASE_URL names no database")
	}
	database, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database.Path = "/no_such_database"
	s, err := openStore(t.Context(), config{databaseURL: database.String(), poolSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = connect(ctx, s.pool, time.Hour)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || ctx.Err() != nil {
		t.Fatalf("refused at once, not %v", err)
	}
}
