package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
)

// calls are all methods that name a wallet.
func (s service) calls(id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"GetWallet": func(ctx context.Context) error {
			_, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: id})
			return err
		},
		"UpdateWallet": func(ctx context.Context) error {
			_, err := s.wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: id, Label: "theirs"})
			return err
		},
		"UpdateWallet with an etag": func(ctx context.Context) error {
			_, err := s.wallets.UpdateWallet(ctx,
				&walletv1.UpdateWalletRequest{WalletId: id, Label: "theirs", Etag: "nonsense"})
			return err
		},
		"ArchiveWallet": func(ctx context.Context) error {
			_, err := s.wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: id})
			return err
		},
		"RestoreWallet": func(ctx context.Context) error {
			_, err := s.wallets.RestoreWallet(ctx, &walletv1.RestoreWalletRequest{WalletId: id})
			return err
		},
		"StartOwnershipProof": func(ctx context.Context) error {
			_, err := s.wallets.StartOwnershipProof(ctx, &walletv1.StartOwnershipProofRequest{WalletId: id})
			return err
		},
		"FinishOwnershipProof": func(ctx context.Context) error {
			_, err := s.wallets.FinishOwnershipProof(ctx,
				&walletv1.FinishOwnershipProofRequest{WalletId: id, Message: "x"})
			return err
		},
		"DeleteWallet": func(ctx context.Context) error {
			_, err := s.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: id})
			return err
		},
		"DeleteWallet with an etag": func(ctx context.Context) error {
			_, err := s.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: id, Etag: "nonsense"})
			return err
		},
		"SyncWallet": func(ctx context.Context) error {
			_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: id})
			return err
		},
		"ListBalances": func(ctx context.Context) error {
			_, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: id})
			return err
		},
	}
}

func TestAnotherOwnersWalletIsNotFound(t *testing.T) {
	s := start(t)
	mine, mallory := s.user(t), s.user(t)
	w := s.create(mine, t, account)
	for name, call := range s.calls(w.GetId()) {
		t.Run(name, func(t *testing.T) {
			theirs := servicetest.WantError(t, call(mallory), errs.KindNotFound, "NOT_FOUND")
			id := uuid.NewString()
			nobodys := servicetest.WantError(t, s.calls(id)[name](mallory), errs.KindNotFound, "NOT_FOUND")
			// The id that was given is all that differs.
			if strings.ReplaceAll(theirs.Error(), w.GetId(), id) != nobodys.Error() {
				t.Errorf("told apart: %v and %v", theirs, nobodys)
			}
		})
	}
	if resp, err := s.wallets.ListWallets(mallory,
		&walletv1.ListWalletsRequest{View: walletv1.WalletView_WALLET_VIEW_WITH_BALANCES}); err != nil ||
		len(resp.GetWallets()) != 0 {
		t.Error(resp, err)
	}
	if resp, err := s.holdings.GetHoldings(mallory, &walletv1.GetHoldingsRequest{}); err != nil ||
		len(resp.GetWallets()) != 0 {
		t.Error(resp, err)
	}
	got, err := s.wallets.GetWallet(mine, &walletv1.GetWalletRequest{WalletId: w.GetId()})
	if err != nil || got.GetWallet().GetLabel() != "cold" || got.GetWallet().GetEtag() != w.GetEtag() {
		t.Errorf("the owner's wallet is now %v, %v", got, err)
	}
}

func TestEveryMethodAsksForItsPermission(t *testing.T) {
	s := start(t)
	calls := s.calls(uuid.NewString())
	calls["CreateWallet"] = func(ctx context.Context) error {
		_, err := s.wallets.CreateWallet(ctx,
			&walletv1.CreateWalletRequest{Account: account, AllowUnconfiguredChain: true})
		return err
	}
	calls["ListWallets"] = func(ctx context.Context) error {
		_, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
		return err
	}
	calls["GetToken"] = func(ctx context.Context) error {
		_, err := s.tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: "eip155:1/slip44:60"})
		return err
	}
	calls["ListTokens"] = func(ctx context.Context) error {
		_, err := s.tokens.ListTokens(ctx, &walletv1.ListTokensRequest{})
		return err
	}
	calls["GetPrices"] = func(ctx context.Context) error {
		_, err := s.prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: []string{"eip155:1/slip44:60"}})
		return err
	}
	calls["GetHoldings"] = func(ctx context.Context) error {
		_, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
		return err
	}
	calls["ListHistoricalHoldings"] = func(ctx context.Context) error {
		_, err := s.holdings.ListHistoricalHoldings(ctx, &walletv1.ListHistoricalHoldingsRequest{})
		return err
	}
	all := []string{"wallet:read", "wallet:write", "wallet:delete"}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			servicetest.WantError(t, call(t.Context()), errs.KindUnauthenticated, "TOKEN_MISSING")
			servicetest.WantError(t, call(s.may(t)), errs.KindPermissionDenied, "PERMISSION_MISSING")
			servicetest.WantError(t, call(s.may(t, "portfolio:read", "admin:system", "wallet", "wallet:*")),
				errs.KindPermissionDenied,
				"PERMISSION_MISSING")
			needs := "wallet:read"
			switch method, _, _ := strings.Cut(name, " "); method {
			case "CreateWallet", "UpdateWallet", "SyncWallet", "ArchiveWallet", "RestoreWallet",
				"StartOwnershipProof", "FinishOwnershipProof":
				needs = "wallet:write"
			case "DeleteWallet":
				needs = "wallet:delete"
			}
			for _, p := range all {
				err := call(s.may(t, p))
				if denied := errs.Is(err, errs.KindPermissionDenied); denied != (p != needs) {
					t.Errorf("with %s: %v", p, err)
				}
			}
		})
	}
}

func TestBadInputNamesItsFieldAndRule(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	create := func(r *walletv1.CreateWalletRequest) error { _, err := s.wallets.CreateWallet(ctx, r); return err }
	list := func(r *walletv1.ListWalletsRequest) error { _, err := s.wallets.ListWallets(ctx, r); return err }
	for _, tc := range []struct {
		name, field, rule string
		err               error
	}{
		{"a bare address", "account", "CAIP-10",
			create(&walletv1.CreateWalletRequest{Account: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"})},
		{"a wrong checksum", "account", "checksum",
			create(&walletv1.CreateWalletRequest{Account: strings.Replace(account, "aA", "aa", 1)})},
		{"a short address", "account", "40", create(&walletv1.CreateWalletRequest{Account: account[:len(account)-1]})},
		{"chain 0", "account", "chain", create(
			&walletv1.CreateWalletRequest{Account: strings.Replace(account, ":1:", ":0:", 1)})},
		{"no account", "account", "", create(&walletv1.CreateWalletRequest{})},
		{"a label of 81 characters", "label", "80",
			create(&walletv1.CreateWalletRequest{Account: account, Label: strings.Repeat("x", 81)})},
		{"a label with a NUL byte", "label", "control",
			create(&walletv1.CreateWalletRequest{Account: account, Label: "\x00"})},
		{"a request_id that is none", "request_id", "",
			create(&walletv1.CreateWalletRequest{Account: account, RequestId: "one"})},
		{"a request_id of nobody", "request_id", "nil UUID",
			create(&walletv1.CreateWalletRequest{Account: accountOf(1), RequestId: uuid.Nil.String()})},
		{"a page of 201", "page_size", "200", list(&walletv1.ListWalletsRequest{PageSize: 201})},
		{"a page below zero", "page_size", "", list(&walletv1.ListWalletsRequest{PageSize: -1})},
		{"a view that nobody knows", "view", "", list(&walletv1.ListWalletsRequest{View: 77})},
		{"a page token that is none", "page_token", "next_page_token",
			list(&walletv1.ListWalletsRequest{PageToken: "!"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if rule := servicetest.WantViolation(t, tc.err, tc.field); !strings.Contains(rule, tc.rule) {
				t.Errorf("the rule reads %q", rule)
			}
		})
	}
	t.Run("an update of another field", func(t *testing.T) {
		for _, paths := range [][]string{{"account"}, {"label", "account"}, {"*"}, {"sync.state"}} {
			_, err := s.wallets.UpdateWallet(ctx,
				&walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "x",
					UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
			servicetest.WantViolation(t, err, "update_mask")
		}
		_, err := s.wallets.UpdateWallet(ctx,
			&walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: " ",
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"label"}}})
		servicetest.WantViolation(t, err, "label")
	})
	t.Run("tokens, chains and prices", func(t *testing.T) {
		_, err := s.tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: "ETH"})
		servicetest.WantViolation(t, err, "token_id")
		for _, chain := range []string{"1", "eip155:0", "eip155:01", "eip155:1\x00"} {
			_, err = s.tokens.ListTokens(ctx, &walletv1.ListTokensRequest{ChainId: chain})
			servicetest.WantViolation(t, err, "chain_id")
		}
		_, err = s.prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: []string{"eip155:1/slip44:60", "ETH"}})
		servicetest.WantViolation(t, err, "token_ids[1]")
		_, err = s.prices.GetPrices(ctx, &walletv1.GetPricesRequest{})
		servicetest.WantViolation(t, err, "token_ids")
	})
}

func TestARequestIDMakesARepeatSafe(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	r := &walletv1.CreateWalletRequest{Account: account, Label: "cold", RequestId: uuid.NewString(),
		AllowUnconfiguredChain: true}
	first, err := s.wallets.CreateWallet(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.wallets.CreateWallet(ctx, r)
	if err != nil || again.GetWallet().String() != first.GetWallet().String() {
		t.Errorf("answered %v, %v, not %v", again, err, first)
	}
	_, err = s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account, Label: "warm",
		RequestId: r.GetRequestId(), AllowUnconfiguredChain: true})
	servicetest.WantViolation(t, err, "request_id")
	_, err = s.wallets.CreateWallet(ctx,
		&walletv1.CreateWalletRequest{Account: account, AllowUnconfiguredChain: true})
	servicetest.WantError(t, err, errs.KindAlreadyExists, "WALLET_EXISTS")
}

// account of the i-th wallet.
func accountOf(i int) string { return fmt.Sprintf("eip155:1:0x%040x", i) }

func TestPageTokensBelongToOneQueryOfOneUser(t *testing.T) {
	s := start(t)
	mine, theirs := s.user(t), s.user(t)
	seen := map[string]bool{}
	for i := range 5 {
		s.create(mine, t, accountOf(i))
		s.create(theirs, t, accountOf(i))
	}
	var token string
	for pages := 1; ; pages++ {
		resp, err := s.wallets.ListWallets(mine, &walletv1.ListWalletsRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range resp.GetWallets() {
			if seen[w.GetId()] {
				t.Errorf("%s comes twice", w.GetId())
			}
			seen[w.GetId()] = true
		}
		if resp.GetNextPageToken() == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		token = resp.GetNextPageToken()
	}
	if len(seen) != 5 {
		t.Errorf("%d wallets of 5", len(seen))
	}
	_, err := s.wallets.ListWallets(theirs, &walletv1.ListWalletsRequest{PageToken: token})
	servicetest.WantViolation(t, err, "page_token")
	_, err = s.wallets.ListWallets(mine, &walletv1.ListWalletsRequest{PageToken: token,
		View: walletv1.WalletView_WALLET_VIEW_WITH_BALANCES})
	servicetest.WantViolation(t, err, "page_token")
	_, err = s.holdings.GetHoldings(mine, &walletv1.GetHoldingsRequest{PageToken: token})
	servicetest.WantViolation(t, err, "page_token")
}

// A page token is not signed: its digest can be copied and its key made up.
func TestAPageTokenWithAKeyThatIsMadeUp(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	real, err := s.tokens.ListTokens(ctx, &walletv1.ListTokensRequest{PageSize: 1})
	if err != nil || len(real.GetTokens()) != 1 {
		t.Fatal(real, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(real.GetNextPageToken())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"\u0000"`, `"` + strings.Repeat("x", 400) + `"`, `{}`, `5`,
		`"'; DROP TABLE tokens"`} {
		forged := base64.RawURLEncoding.EncodeToString(append(bytes.Clone(raw[:8]), key...))
		_, err := s.tokens.ListTokens(ctx, &walletv1.ListTokensRequest{PageToken: forged})
		servicetest.WantViolation(t, err, "page_token")
	}
	rest, err := s.tokens.ListTokens(ctx, &walletv1.ListTokensRequest{PageToken: real.GetNextPageToken()})
	if err != nil || len(rest.GetTokens()) != 3 { // two of the list, and the native coin of the chain with a node
		t.Error(rest, err)
	}
}

func TestASyncSaysWhatIsMissing(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "CHAIN_NOT_CONFIGURED")
	polygon := s.create(ctx, t, strings.Replace(account, ":1:", ":137:", 1))
	_, err = s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: polygon.GetId()})
	if e := servicetest.WantError(t, err, errs.KindUnavailable, "CHAIN_UNAVAILABLE"); e.RetryAfter <= 0 {
		t.Error("without a time to retry")
	}
	got, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: polygon.GetId()})
	if sync := got.GetWallet().GetSync(); err != nil || sync.GetState() != walletv1.SyncState_SYNC_STATE_FAILED ||
		sync.GetRetryTime() == nil || sync.GetSyncTime() != nil || sync.GetError() == "" {
		t.Errorf("the wallet shows %v, %v", sync, err)
	}
	held, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil || len(held.GetWallets()) != 2 {
		t.Errorf("wallets that hold nothing are passed over: %v, %v", held, err)
	}
}

func TestLoadReportsAllErrorsTogether(t *testing.T) {
	_, err := app.Load([]string{
		"PURSER_ISSUER=auth", "PURSER_JWKS_URL=keys.json", "PURSER_PRICE_URL=feed/hunter2",
		"PURSER_BALANCES_PER_CALL=0",
		"PURSER_CHAIN_RPC_URLS=1=node.example/hunter2,2=https://node.example", "PURSER_PRICE_REFRESH=0s",
		"PURSER_GRPC_BURST=0", "PURSER_CACHE_TOKEN_TTL=0s", "PURSER_WALLETS_PER_OWNER=0", "PURSER_SYNCS_PER_MINUTE=-1",
		"PURSER_HISTORY_MONTHS_AHEAD=0", "PURSER_HISTORY_RETENTION_MONTHS=-1",
	})
	if err == nil {
		t.Fatal("taken")
	}
	for _, name := range []string{
		"PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_ISSUER", "PURSER_JWKS_URL", "PURSER_PRICE_URL",
		"PURSER_BALANCES_PER_CALL",
		"PURSER_CHAIN_RPC_URLS: node 1 of chain 1", "PURSER_PRICE_REFRESH", "PURSER_CACHE_TOKEN_TTL",
		"PURSER_GRPC_BURST", "PURSER_GRPC_TLS_CERT", "PURSER_WALLETS_PER_OWNER", "PURSER_SYNCS_PER_MINUTE",
		"PURSER_HISTORY_MONTHS_AHEAD", "PURSER_HISTORY_RETENTION_MONTHS",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a key is shown:\n%v", err)
	}
}

func TestPrintedConfigurationShowsNoSecret(t *testing.T) {
	cfg, err := app.Load([]string{
		"PURSER_DATABASE_URL=postgres://wallet:hunter2@db/wallet", "PURSER_REDIS_URL=redis://:hunter2@redis",
		"PURSER_GRPC_PLAINTEXT=true",
		"PURSER_ISSUER=https://auth.example", "PURSER_PRICE_URL=https://feed.example/hunter2",
		"PURSER_CHAIN_RPC_URLS=1=https://node.example/v2/hunter2,1=https://user:hunter2@other.example," +
			"10=https://third.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := config.Print(&out, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") {
		t.Errorf("a secret stands in:\n%s", out.String())
	}
	for _, line := range []string{"PURSER_CHAIN_RPC_URLS=1=(2 nodes),10=(1 nodes)",
		"PURSER_ISSUER=https://auth.example", "PURSER_PRICE_URL=***"} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("%q is missing in:\n%s", line, out.String())
		}
	}
}
