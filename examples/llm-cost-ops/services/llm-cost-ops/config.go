package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
)

// config is what the ConfigMap and the Secret say.
type config struct {
	environment string
	address     string
	databaseURL string
	poolSize    int32
	logLevel    slog.Level
}

func configFrom(get func(string) string) (config, error) {
	or := func(name, otherwise string) string {
		if value := get(name); value != "" {
			return value
		}
		return otherwise
	}
	c := config{
		environment: or("ENVIRONMENT", "development"),
		address:     or("LISTEN_ADDRESS", ":8080"),
		databaseURL: get("DATABASE_URL"),
	}
	if c.databaseURL == "" {
		return c, errors.New("DATABASE_URL is not set: postgresql://USER:PASSWORD@HOST:5432/DATABASE")
	}
	size, err := strconv.ParseInt(or("DATABASE_POOL_SIZE", "5"), 10, 32)
	if err != nil || size < 1 {
		return c, fmt.Errorf("DATABASE_POOL_SIZE is %q: a number from 1 on", get("DATABASE_POOL_SIZE"))
	}
	c.poolSize = int32(size)
	if err := c.logLevel.UnmarshalText([]byte(or("LOG_LEVEL", "info"))); err != nil {
		return c, fmt.Errorf("LOG_LEVEL is %q: debug, info, warn or error", get("LOG_LEVEL"))
	}
	return c, nil
}
