package child

import (
	"io"
	"os"
)

const (
	maxLogBytes      = 8 << 20  // a longer log is renamed at the start
	maxReturnedBytes = 64 << 10 // of Since and All
)

// Log is the file that a child writes its output to.
type Log struct {
	file  *os.File
	start int64
}

// OpenLog opens path for appending. It renames a file over 8 MiB to path.old first,
// replacing an earlier one.
func OpenLog(path string) (*Log, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		_ = os.Rename(path, path+".old")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{file: f}
	l.Mark()
	return l, nil
}

// File returns the file for a child's output.
func (l *Log) File() *os.File { return l.file }

// Mark sets the start of Since to the current end of the file.
func (l *Log) Mark() {
	if info, err := l.file.Stat(); err == nil {
		l.start = info.Size()
	}
}

// Since returns the last 64 KiB that were written after the last Mark.
func (l *Log) Since() string { return l.read(l.start) }

// All returns the last 64 KiB of the file.
func (l *Log) All() string { return l.read(0) }

func (l *Log) read(from int64) string {
	info, err := l.file.Stat()
	if err != nil {
		return ""
	}
	from = max(from, info.Size()-maxReturnedBytes)
	b, _ := io.ReadAll(io.NewSectionReader(l.file, from, info.Size()-from))
	return string(b)
}

// Close closes the file, which can't be read afterwards.
func (l *Log) Close() { _ = l.file.Close() }
