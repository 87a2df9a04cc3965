package child

import (
	"io"
	"os"
)

const (
	logLimit = 8 << 20  // a log that is longer at a start is set aside
	logTail  = 64 << 10 // how much Since returns at most
)

// Log is the file that a child writes its output to.
type Log struct {
	file  *os.File
	start int64
}

// OpenLog opens path for appending. A file over 8 MiB is first renamed to
// path.old, in place of the one before.
func OpenLog(path string) (*Log, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > logLimit {
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

// File is what to give a child as its output.
func (l *Log) File() *os.File { return l.file }

// Mark sets where Since begins: at the end of what is written by now.
func (l *Log) Mark() {
	if info, err := l.file.Stat(); err == nil {
		l.start = info.Size()
	}
}

// Since returns what was written after the last Mark, the last 64 KiB of it.
func (l *Log) Since() string { return l.read(l.start) }

// All returns the last 64 KiB of the file.
func (l *Log) All() string { return l.read(0) }

func (l *Log) read(from int64) string {
	info, err := l.file.Stat()
	if err != nil {
		return ""
	}
	from = max(from, info.Size()-logTail)
	b, _ := io.ReadAll(io.NewSectionReader(l.file, from, info.Size()-from))
	return string(b)
}

// Close closes the file. The text can't be read afterwards.
func (l *Log) Close() { _ = l.file.Close() }
