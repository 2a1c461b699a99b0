package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationsLock is held while migrations run: of several pods that start at once, one runs them and the others wait.
const migrationsLock = 0x11c057

// patience is how long a database that was started beside this may take to answer.
const patience = 2 * time.Minute

// connect waits for a database that does not answer yet. What it refuses, it refuses for good.
func connect(ctx context.Context, pool *pgxpool.Pool, patience time.Duration) (*pgxpool.Conn, error) {
	end := time.Now().Add(patience)
	for said := false; ; said = true {
		connection, err := pool.Acquire(ctx)
		var refused *pgconn.PgError
		starting := !errors.As(err, &refused) || refused.Code == cannotConnectNow
		switch {
		case err == nil:
			return connection, nil
		case !starting || time.Now().After(end) || ctx.Err() != nil:
			return nil, fmt.Errorf("the database does not answer: %w", err)
		case !said:
			slog.Info("waiting for the database", "error", err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// PostgreSQL's, while it starts up or shuts down.
const cannotConnectNow = "57P03"

// migrate runs each migration that the database has not seen, in the order of their names, each in a transaction.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	connection, err := connect(ctx, pool, patience)
	if err != nil {
		return err
	}
	defer connection.Release()
	if _, err := connection.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationsLock); err != nil {
		return err
	}
	defer connection.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationsLock)
	if _, err := connection.Exec(ctx,
		"CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"); err != nil {
		return err
	}
	for _, name := range names {
		if err := pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error { return migrateOne(ctx, tx, name) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	slog.Info("the database is up to date", "migrations", len(names))
	return nil
}

func migrateOne(ctx context.Context, tx pgx.Tx, name string) error {
	done, err := tx.Exec(ctx, "INSERT INTO migrations (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
	if err != nil || done.RowsAffected() == 0 {
		return err
	}
	statements, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	slog.Info("migrating", "migration", name)
	_, err = tx.Exec(ctx, string(statements))
	return err
}
