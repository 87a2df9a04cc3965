package app

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/store"
)

// resetChain tells what was read of a chain, and forgets it if that is confirmed. Running services follow within 30
// seconds, by their next look at the chain.
func resetChain(ctx context.Context, resets *store.ChainResets, id string, confirmed bool, out io.Writer) error {
	number, isEIP155 := strings.CutPrefix(id, "eip155:")
	chain, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !isEIP155 || chain == 0 || caip.ChainID(chain) != id {
		return errs.Invalid("chain", "must be the CAIP-2 id of a chain, such as eip155:31337, "+errs.Given(id))
	}
	if !confirmed {
		n, err := resets.Count(ctx, chain)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s has %d wallets, of which %d balances, %d changes of them, %d transactions "+
			"and %d hours were read.\nWith --yes they are forgotten and read anew, from the chain as it is then. "+
			"Wallets and what was imported stay.\n", id, n.Wallets, n.Balances, n.Changes, n.Transactions, n.Hours)
		return err
	}
	n, err := resets.Forget(ctx, chain)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: forgotten of %d wallets: %d balances, %d changes of them, %d transactions and %d "+
		"hours. They are read anew by the next syncs.\n", id, n.Wallets, n.Balances, n.Changes, n.Transactions,
		n.Hours)
	return err
}
