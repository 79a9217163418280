package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

const (
	image = "postgres:17-alpine"
	// pingLimit bounds the question whether an engine answers, dockerLimit all
	// of what is tried with one that does: pulling, starting, connecting.
	pingLimit   = time.Second
	dockerLimit = 10 * time.Second
)

// startContainer returns a Postgres in a container. Where there is no engine it
// fails within pingLimit for each place that one could be at.
func startContainer(ctx context.Context) (_ backend, err error) {
	ctx, cancel := context.WithTimeout(ctx, dockerLimit)
	defer cancel()
	// Asked first, because the library waits longer for an engine that is away.
	if err := pingEngine(ctx); err != nil {
		return backend{}, err
	}
	// The library panics on some configurations of an engine.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("starting a container: %v", r)
		}
	}()
	log.SetDefault(log.NewNoopLogger())
	args := []string{"postgres"}
	for name, value := range localSettings {
		args = append(args, "-c", name+"="+value)
	}
	container, err := postgres.Run(ctx, image, postgres.BasicWaitStrategies(), testcontainers.WithCmd(args...),
		testcontainers.WithTmpfs(map[string]string{"/var/lib/postgresql/data": "rw"}))
	stop := func(ctx context.Context) error {
		return testcontainers.TerminateContainer(container, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0))
	}
	if err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dockerLimit)
		defer cancel()
		return backend{}, errors.Join(fmt.Errorf("starting a container: %w", err), stop(stopCtx))
	}
	text, err := container.ConnectionString(ctx, "sslmode=disable")
	if err != nil {
		return backend{}, errors.Join(fmt.Errorf("asking a container for its address: %w", err), stop(ctx))
	}
	u, err := parseURL(text)
	if err != nil {
		return backend{}, errors.Join(err, stop(ctx))
	}
	return backend{url: u, source: "Docker container " + image, container: true, stop: stop}, nil
}

// pingEngine returns nil if an engine answers at the place that the environment
// names, or else at a usual one.
func pingEngine(ctx context.Context) error {
	hosts := []string{""} // from the environment
	if os.Getenv(client.EnvOverrideHost) == "" {
		home, _ := os.UserHomeDir()
		for _, socket := range []string{
			filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "docker.sock"),
			filepath.Join(home, ".docker", "run", "docker.sock"),
			filepath.Join(home, ".docker", "desktop", "docker.sock"),
		} {
			if _, err := os.Stat(socket); err == nil {
				hosts = append(hosts, "unix://"+socket)
			}
		}
	}
	var errs []error
	for _, host := range hosts {
		err := ping(ctx, host)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func ping(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	opts := []client.Opt{client.FromEnv}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	engine, err := client.New(opts...)
	if err != nil {
		return err
	}
	_, err = engine.Ping(ctx, client.PingOptions{})
	return errors.Join(err, engine.Close())
}
