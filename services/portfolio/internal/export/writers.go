package export

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// rowWriter writes the rows of a file, whose cells are in the order of its columns.
type rowWriter interface {
	row(cells []any) error
	finish() error
	// discard releases what the writer has, also after finish.
	discard()
}

func newWriter(f Format, out io.Writer, columns []column) (rowWriter, error) {
	switch f {
	case JSONLines:
		return &jsonWriter{out: out, columns: columns}, nil
	case XLSX:
		return newSheetWriter(out, columns)
	default:
		return newCSVWriter(f, out, columns)
	}
}

// csvWriter writes RFC 4180.
type csvWriter struct {
	csv     *csv.Writer
	columns []column
	comma   bool // the decimal separator
	cells   []string
}

func newCSVWriter(f Format, out io.Writer, columns []column) (*csvWriter, error) {
	w := &csvWriter{csv: csv.NewWriter(out), columns: columns, comma: f == CSVSemicolon}
	w.csv.UseCRLF = true
	if w.comma {
		w.csv.Comma = ';'
	}
	for _, c := range columns {
		w.cells = append(w.cells, c.name)
	}
	return w, w.csv.Write(w.cells)
}

func (w *csvWriter) row(cells []any) error {
	for i, cell := range cells {
		w.cells[i] = w.text(w.columns[i].kind, cell)
	}
	return w.csv.Write(w.cells)
}

func (w *csvWriter) text(k kind, cell any) string {
	switch v := cell.(type) {
	case time.Time:
		return timeText(v)
	case string:
		switch {
		case k == text:
			return w.guarded(v)
		case k == number && w.comma:
			return strings.Replace(v, ".", ",", 1)
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

func (w *csvWriter) finish() error {
	w.csv.Flush()
	return w.csv.Error()
}

func (w *csvWriter) discard() {}

// guarded returns text from outside such that no spreadsheet reads a formula, a number, a date or a time in it. What
// these look like depends on the spreadsheet's language, but each number, date and time has a digit.
//
// A spreadsheet of another language divides a line at the other separator: what follows that, or the end of a line, is
// guarded from being a formula too.
func (w *csvWriter) guarded(s string) string {
	begin, _ := utf8.DecodeRuneInString(strings.TrimLeft(s, " \u00a0"))
	if strings.ContainsRune("=+-@\t\r\n＝＋－＠", begin) || strings.ContainsFunc(s, unicode.IsDigit) {
		s = "'" + s
	}
	if w.comma {
		return afterComma.ReplaceAllString(s, "$1'$2")
	}
	return afterSemicolon.ReplaceAllString(s, "$1'$2")
}

// The begin of a formula behind a separator that is not the file's own, or on another line.
var (
	afterSemicolon = regexp.MustCompile(`([;\r\n])([ \t\x{a0}"]*[=+\-@＝＋－＠])`)
	afterComma     = regexp.MustCompile(`([,\r\n])([ \t\x{a0}"]*[=+\-@＝＋－＠])`)
)

// timeText returns RFC 3339 in UTC, "" for none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.999999Z07:00")
}

// jsonWriter writes an object a line.
type jsonWriter struct {
	out     io.Writer
	columns []column
	line    bytes.Buffer
}

func (w *jsonWriter) row(cells []any) error {
	w.line.Reset()
	for i, cell := range cells {
		w.line.WriteByte("{,"[min(i, 1)])
		if t, ok := cell.(time.Time); ok {
			cell = timeText(t)
		}
		value, err := json.Marshal(cell)
		if err != nil {
			return fmt.Errorf("encode %s: %w", w.columns[i].name, err)
		}
		w.line.WriteString(strconv.Quote(w.columns[i].name))
		w.line.WriteByte(':')
		w.line.Write(value)
	}
	w.line.WriteString("}\n")
	_, err := w.out.Write(w.line.Bytes())
	return err
}

func (w *jsonWriter) finish() error { return nil }
func (w *jsonWriter) discard()      {}

// sheetWriter writes a sheet of a workbook. A number has a second column with its exact text.
type sheetWriter struct {
	out     io.Writer
	file    *excelize.File
	stream  *excelize.StreamWriter
	columns []column
	date    int // the style of times
	next    int // the number of the next row
}

func newSheetWriter(out io.Writer, columns []column) (_ *sheetWriter, err error) {
	w := &sheetWriter{out: out, file: excelize.NewFile(), columns: columns, next: 1}
	defer func() {
		if err != nil {
			w.discard()
		}
	}()
	format := "yyyy-mm-dd hh:mm:ss"
	if w.date, err = w.file.NewStyle(&excelize.Style{CustomNumFmt: &format}); err != nil {
		return nil, fmt.Errorf("style of times: %w", err)
	}
	if w.stream, err = w.file.NewStreamWriter("Sheet1"); err != nil {
		return nil, fmt.Errorf("sheet: %w", err)
	}
	var header []any
	for _, c := range columns {
		switch c.kind {
		case number:
			header = append(header, c.name, c.name+"_exact")
		case instant:
			header = append(header, c.name+"_utc")
		default:
			header = append(header, c.name)
		}
	}
	return w, w.write(header)
}

func (w *sheetWriter) row(cells []any) error {
	row := make([]any, 0, 2*len(cells))
	for i, cell := range cells {
		switch v := cell.(type) {
		case time.Time:
			if v.IsZero() {
				row = append(row, nil)
				continue
			}
			row = append(row, excelize.Cell{StyleID: w.date, Value: v.UTC()})
		case string:
			if w.columns[i].kind != number {
				row = append(row, v)
				continue
			}
			if v == "" {
				row = append(row, nil, nil)
				continue
			}
			rounded, err := strconv.ParseFloat(v, 64)
			if err != nil { // beyond what a spreadsheet has
				row = append(row, nil, v)
				continue
			}
			row = append(row, rounded, v)
		default:
			row = append(row, v)
		}
	}
	return w.write(row)
}

func (w *sheetWriter) write(row []any) error {
	cell, err := excelize.CoordinatesToCellName(1, w.next)
	if err != nil {
		return fmt.Errorf("row %d: %w", w.next, err)
	}
	w.next++
	if err := w.stream.SetRow(cell, row); err != nil {
		return fmt.Errorf("row %d: %w", w.next-1, err)
	}
	return nil
}

func (w *sheetWriter) finish() error {
	if err := w.stream.Flush(); err != nil {
		return fmt.Errorf("sheet: %w", err)
	}
	if _, err := w.file.WriteTo(w.out); err != nil {
		return fmt.Errorf("workbook: %w", err)
	}
	return nil
}

func (w *sheetWriter) discard() { _ = w.file.Close() } // temporary files, if there are any
