package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrReadOnly is returned while the server takes no writes: it is a standby, a
// primary that was demoted, or an operator made it read-only.
var ErrReadOnly = errors.New("the database takes no writes: it is a standby or read-only")

const (
	// On in recovery too, whatever the setting says.
	readOnlySQL      = `SELECT current_setting('transaction_read_only')::boolean`
	codeReadOnly     = "25006"
	minResetInterval = time.Second
)

// checkWritable returns ErrReadOnly for a session that cannot write.
func checkWritable(ctx context.Context, q pgxQuerier) error {
	var readOnly bool
	if err := q.QueryRow(ctx, readOnlySQL).Scan(&readOnly); err != nil {
		return err
	}
	if readOnly {
		return ErrReadOnly
	}
	return nil
}

// primaryKeeper keeps a pool off servers that cannot write. A failover that
// demotes a primary in place leaves the pool's connections open: without it they
// would be used until they are an hour old, and every write would fail. It is a
// pgx tracer, because that sees the error of every statement.
type primaryKeeper struct {
	pool    atomic.Pointer[pgxpool.Pool]
	lastNow atomic.Int64
}

// install makes connections go to servers that can write alone, of several in
// its URL to the first that can, unless the URL says otherwise.
func (k *primaryKeeper) install(cfg *pgx.ConnConfig) {
	cfg.Tracer = k
	if cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// saw resets the pool if a statement was refused because its server cannot
// write: connections that are idle are closed, and those in use when they are
// released. At most one of many that fail together does.
func (k *primaryKeeper) saw(err error) {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && pgErr.Code == codeReadOnly {
		k.reset()
	}
}

func (k *primaryKeeper) reset() {
	last, now := k.lastNow.Load(), time.Now().UnixNano()
	if pool := k.pool.Load(); pool != nil && now-last >= int64(minResetInterval) && k.lastNow.CompareAndSwap(last, now) {
		pool.Reset()
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (*primaryKeeper) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (k *primaryKeeper) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	k.saw(data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (*primaryKeeper) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (*primaryKeeper) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (k *primaryKeeper) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	k.saw(data.Err)
}
