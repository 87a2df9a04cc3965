package chain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// seedFormat must change whenever the same options give other blocks: with other contracts, another plan or
// other fees.
const seedFormat = 2

// metadata is the options that a stored chain was created with. It is written before the first block, so
// that every folder with blocks has it.
type metadata struct {
	Format     int           `json:"format"`
	ChainID    uint64        `json:"chain_id"`
	Seed       uint64        `json:"seed"`
	Start      time.Time     `json:"start"`
	BlockEvery time.Duration `json:"block_every_ns"`
	Defi       bool          `json:"defi,omitempty"`
	// DefiStep is the step of the plan at which the DeFi contracts are made; those of before have it as 0.
	DefiStep int `json:"defi_step,omitempty"`
}

const metadataFile = "purser-chain.json"

// openMetadata reads the metadata of the chain in dir, or writes it for a new chain. The caller must have
// locked dir.
func openMetadata(dir string, o Options) (metadata, error) {
	want := metadata{
		Format: seedFormat, ChainID: o.ChainID, Seed: o.Seed, Start: o.start(), BlockEvery: o.BlockEvery,
		Defi: o.Defi,
	}
	if o.Defi {
		want.DefiStep = o.defiStep()
	}
	have, err := readMetadata(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !stored(dir):
		return want, writeMetadata(dir, want)
	case err == nil && have.fits(want):
		return have, nil
	case o.Reset:
		if err := discard(dir); err != nil {
			return metadata{}, err
		}
		return want, writeMetadata(dir, want)
	case err != nil:
		return metadata{}, fmt.Errorf("chain: %s holds a chain but no readable %s: remove the folder or start with "+
			"reset: %w", dir, metadataFile, err)
	default:
		return metadata{}, fmt.Errorf("chain: %s holds a chain with %s, not %s: remove the folder or start with reset",
			dir, have, want)
	}
}

// fits reports whether a stored chain can continue with these options. Its start, and whether and since when it
// has DeFi contracts, are kept and not compared.
func (m metadata) fits(want metadata) bool {
	want.Start, want.Defi, want.DefiStep = m.Start, m.Defi, m.DefiStep
	return m == want
}

func (m metadata) String() string {
	return fmt.Sprintf("format %d, chain id %d, seed %d and a block every %s", m.Format, m.ChainID, m.Seed,
		m.BlockEvery)
}

func (m metadata) plan() Plan {
	return Plan{Start: m.Start, Every: m.BlockEvery, Seed: m.Seed}
}

func readMetadata(dir string) (metadata, error) {
	raw, err := os.ReadFile(filepath.Join(dir, metadataFile))
	if err != nil {
		return metadata{}, err
	}
	var m metadata
	if err := json.Unmarshal(raw, &m); err != nil {
		return metadata{}, err
	}
	if m.BlockEvery <= 0 || m.Start.IsZero() {
		return metadata{}, errors.New("fields are missing")
	}
	m.Start = m.Start.UTC()
	return m, nil
}

// writeMetadata replaces the file in one step, so that a kill leaves either the
// old or the new one.
func writeMetadata(dir string, m metadata) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, metadataFile+".new")
	if err := os.WriteFile(temp, append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(dir, metadataFile)); err != nil {
		return fmt.Errorf("chain: %w", err)
	}
	return nil
}

// stored reports whether dir holds a chain's database.
func stored(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, databaseName))
	return err == nil
}

// discard removes a stored chain, and only what this package put there.
func discard(dir string) error {
	for _, name := range []string{databaseName, "triedb", "blobpool", metadataFile} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("chain: reset: %w", err)
		}
	}
	return nil
}
