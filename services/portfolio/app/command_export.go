package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// exportCommand stores snapshots in a file.
type exportCommand struct {
	*options
	path string
	export.Request
}

func parseExport(args []string) (command, error) {
	e := exportCommand{options: newOptions("export")}
	e.flags.BoolVar(&e.Positions, "positions", false, "")
	comma := e.flags.Bool("decimal-comma", false, "")
	if err := e.parse(args, 1); err != nil {
		return nil, err
	}
	e.Start, e.End = e.start, e.end
	e.path = e.flags.Arg(0)
	ending := filepath.Ext(e.path)
	formats := map[string]export.Format{".csv": export.CSV, ".jsonl": export.JSONLines, ".xlsx": export.XLSX}
	if e.Format = formats[ending]; e.Format == 0 {
		return nil, errs.Invalid("FILE", "must end with .csv, .jsonl or .xlsx, "+errs.Given(e.path))
	}
	if *comma {
		if e.Format != export.CSV {
			return nil, errs.Invalid("--decimal-comma", "is for .csv files, "+errs.Given(e.path))
		}
		e.Format = export.CSVSemicolon
	}
	return e, nil
}

// run writes the file under another name first, so that what has the name is whole.
func (e exportCommand) run(ctx context.Context, env environment, out io.Writer) (err error) {
	f, err := os.CreateTemp(filepath.Dir(e.path), ".export-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	rows, err := export.NewService(store.NewSnapshots(env.db, nil), time.Now).Write(ctx, env.portfolio, e.Request, f)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), e.path)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d rows in %s\n", rows, e.path)
	return err
}
