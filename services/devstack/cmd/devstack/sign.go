package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/devstack/chain"
)

// sign signs the message from in, without its final newline, with the key of a demo account, which
// is public, as a wallet does with personal_sign. With -address it prints the account's address instead, with
// -contract that of its contract wallet.
func sign(args []string, in io.Reader, out io.Writer) error {
	usage := errors.New("usage: devstack sign alice|bob < message, or devstack sign alice|bob -address|-contract")
	if len(args) == 0 || len(args) > 2 {
		return usage
	}
	cast := chain.DevCast()
	account, ok := map[string]chain.Account{"alice": cast.Alice, "bob": cast.Bob}[args[0]]
	if !ok {
		return usage
	}
	if len(args) == 2 {
		address, ok := map[string]common.Address{"-address": account.Address,
			"-contract": chain.WalletOf(account)}[args[1]]
		if !ok {
			return usage
		}
		_, err := fmt.Fprintf(out, "%s\n", address)
		return err
	}
	message, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	sig, err := account.SignMessage(strings.TrimSuffix(string(message), "\n"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "0x%s\n", hex.EncodeToString(sig))
	return err
}
