package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationsLock is held while migrations run: of several pods that start at once, one runs them and the others wait.
const migrationsLock = 0x11c057

// migrate runs each migration that the database has not seen, in the order of their names, each in a transaction.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	connection, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("the database does not answer: %w", err)
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
