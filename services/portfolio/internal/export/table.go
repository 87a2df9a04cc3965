package export

import "io"

// Column of a Table.
type Column = column

// ColumnKind is what the cells of a column are.
type ColumnKind = kind

// Kinds of columns. Cells of ID and Text are strings, of Number decimals as strings with "" for none, of Count
// integers, of Boolean bools, of Instant times.
const (
	ID      = id // text of ours, with a prefix
	Text    = text
	Number  = number
	Count   = count
	Boolean = boolean
	Instant = instant
)

// NewColumn returns a column.
func NewColumn(name string, k ColumnKind) Column { return column{name, k} }

// Table writes rows by the rules of the package. It is not safe for concurrent use.
type Table struct{ w rowWriter }

// NewTable writes to out; CSV for the zero Format. Close has to be called.
func NewTable(f Format, out io.Writer, columns []Column) (*Table, error) {
	w, err := newWriter(f, out, columns)
	if err != nil {
		return nil, err
	}
	return &Table{w}, nil
}

// Row writes a row, whose cells are in the order of the columns.
func (t *Table) Row(cells []any) error { return t.w.row(cells) }

// Finish ends the file.
func (t *Table) Finish() error { return t.w.finish() }

// Close releases what the table has, also after Finish.
func (t *Table) Close() { t.w.discard() }

// Padded returns a decimal number such that no spreadsheet takes its point for one of thousands.
func Padded(number string) string { return padded(number) }
