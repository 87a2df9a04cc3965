package postgres

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// slowLog is a gorm logger that logs slow statements only. Errors are returned to the
// caller, who logs them once.
type slowLog struct {
	threshold time.Duration
	log       *slog.Logger
}

var _ gorm.ParamsFilter = (*slowLog)(nil)

func (l *slowLog) LogMode(logger.LogLevel) logger.Interface      { return l }
func (l *slowLog) Info(context.Context, string, ...interface{})  {}
func (l *slowLog) Warn(context.Context, string, ...interface{})  {}
func (l *slowLog) Error(context.Context, string, ...interface{}) {}

// ParamsFilter removes the values from the statements that Trace gets.
func (l *slowLog) ParamsFilter(_ context.Context, sql string, _ ...interface{}) (string, []interface{}) {
	return sql, nil
}

func (l *slowLog) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), _ error) {
	took := time.Since(begin)
	if l.threshold < 0 || took < l.threshold {
		return
	}
	sql, rows := statement()
	l.log.WarnContext(ctx, "slow statement", "sql", sql, "rows", rows, "took", took)
}
