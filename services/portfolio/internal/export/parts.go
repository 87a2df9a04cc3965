package export

// PartSize is how many bytes a part of a file has: a multiple of 3, so that the base64 of all parts can be joined.
const PartSize = 48 << 10

// Parts sends what is written to it in parts of PartSize bytes; Flush sends the rest.
type Parts struct {
	Send func(part []byte) error
	part []byte
}

// Write implements io.Writer.
func (p *Parts) Write(data []byte) (int, error) {
	written := len(data)
	for len(data) > 0 {
		n := min(len(data), PartSize-len(p.part))
		p.part, data = append(p.part, data[:n]...), data[n:]
		if len(p.part) == PartSize {
			if err := p.Send(p.part); err != nil {
				return 0, err
			}
			p.part = make([]byte, 0, PartSize)
		}
	}
	return written, nil
}

// Rest returns what was not sent yet.
func (p *Parts) Rest() []byte { return p.part }
