package history

import (
	"time"

	"github.com/purserhq/purser/services/wallet/internal/holding"
)

// Row is a balance of a wallet at the start of an hour, or the wallet alone if it has none.
type Row struct {
	Hour time.Time
	holding.Row
}
