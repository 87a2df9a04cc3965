package suitetest

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

func TestErrorsOfInvalidCalls(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	alice, tokens := signIn(t, c)
	mallory, _ := signIn(t, c)
	holder := s.Chain.Holders()[0]
	w := addWallet(t, alice, c, account(s, holder))
	second, err := c.Wallets.CreateWallet(alice,
		&walletv1.CreateWalletRequest{Account: account(s, s.Chain.Holders()[1])})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := c.Portfolios.GetPortfolio(alice, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.Wallets.ListWallets(alice, &walletv1.ListWalletsRequest{PageSize: 1})
	if err != nil || page.GetNextPageToken() == "" {
		t.Fatalf("first page: %v, %v", page, err)
	}
	id, pid := w.GetId(), mine.GetPortfolio().GetId()
	bad := wrongChecksum(holder.Hex())

	for _, tc := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
		field  string
	}{
		{"without a token", func() error {
			return get(
				c.Wallets.GetWallet(t.Context(), &walletv1.GetWalletRequest{WalletId: id}))
		},
			codes.Unauthenticated, "TOKEN_MISSING", ""},
		{"with a wrong token", func() error {
			return get(c.Portfolios.GetValuation(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()+"x"),
				&portfoliov1.GetValuationRequest{}))
		}, codes.Unauthenticated, "TOKEN_INVALID", ""},
		{"with the refresh token for an access token", func() error {
			return get(c.Accounts.GetMe(grpcclient.WithToken(t.Context(), tokens.GetRefreshToken()),
				&authv1.GetMeRequest{}))
		}, codes.Unauthenticated, "TOKEN_INVALID", ""},
		{"GetWallet of another user", func() error {
			return get(
				c.Wallets.GetWallet(mallory, &walletv1.GetWalletRequest{WalletId: id}))
		},
			codes.NotFound, "NOT_FOUND", ""},
		{"SyncWallet of another user", func() error {
			return get(
				c.Wallets.SyncWallet(mallory, &walletv1.SyncWalletRequest{WalletId: id}))
		},
			codes.NotFound, "NOT_FOUND", ""},
		{"UpdateWallet of another user", func() error {
			return get(c.Wallets.UpdateWallet(mallory, &walletv1.UpdateWalletRequest{WalletId: id, Label: "mine now"}))
		}, codes.NotFound, "NOT_FOUND", ""},
		{"DeleteWallet of another user", func() error {
			return get(
				c.Wallets.DeleteWallet(mallory, &walletv1.DeleteWalletRequest{WalletId: id}))
		},
			codes.NotFound, "NOT_FOUND", ""},
		{"ListBalances of another user", func() error {
			return get(c.Balances.ListBalances(mallory, &walletv1.ListBalancesRequest{WalletId: id}))
		},
			codes.NotFound, "NOT_FOUND", ""},
		{"GetValuation of another user", func() error {
			return get(c.Portfolios.GetValuation(mallory, &portfoliov1.GetValuationRequest{PortfolioId: pid}))
		}, codes.NotFound, "NOT_FOUND", ""},
		{"TakeSnapshot of another user", func() error {
			return get(c.Portfolios.TakeSnapshot(mallory, &portfoliov1.TakeSnapshotRequest{PortfolioId: pid}))
		}, codes.NotFound, "NOT_FOUND", ""},
		{"a bad address", func() error {
			return get(c.Wallets.CreateWallet(alice, &walletv1.CreateWalletRequest{Account: "eip155:31337:" + bad}))
		}, codes.InvalidArgument, "INVALID_ARGUMENT", "account"},
		{"an id that is none", func() error {
			return get(
				c.Wallets.GetWallet(alice, &walletv1.GetWalletRequest{WalletId: "7"}))
		},
			codes.InvalidArgument, "INVALID_ARGUMENT", "wallet_id"},
		{"a page token of another query", func() error {
			return get(c.Tokens.ListTokens(alice, &walletv1.ListTokensRequest{PageToken: page.GetNextPageToken()}))
		}, codes.InvalidArgument, "INVALID_ARGUMENT", "page_token"},
		{"a page token of another user", func() error {
			return get(c.Wallets.ListWallets(mallory,
				&walletv1.ListWalletsRequest{PageToken: page.GetNextPageToken()}))
		}, codes.InvalidArgument, "INVALID_ARGUMENT", "page_token"},
		{"a page past the limit", func() error {
			return get(c.Wallets.ListWallets(alice, &walletv1.ListWalletsRequest{PageSize: 1 << 30}))
		},
			codes.InvalidArgument, "INVALID_ARGUMENT", "page_size"},
		{"the same account twice", func() error {
			return get(c.Wallets.CreateWallet(alice,
				&walletv1.CreateWalletRequest{Account: strings.ToLower(account(s, holder))}))
		}, codes.AlreadyExists, "WALLET_EXISTS", ""},
		{"a stale etag", func() error {
			_, err := c.Wallets.UpdateWallet(alice,
				&walletv1.UpdateWalletRequest{WalletId: second.GetWallet().GetId(), Label: "new"})
			if err != nil {
				return err
			}
			return get(c.Wallets.UpdateWallet(alice, &walletv1.UpdateWalletRequest{
				WalletId: second.GetWallet().GetId(), Label: "newer", Etag: second.GetWallet().GetEtag(),
			}))
		}, codes.Aborted, "ETAG_MISMATCH", ""},
		{"a chain without a node", func() error {
			made, err := c.Wallets.CreateWallet(alice,
				&walletv1.CreateWalletRequest{Account: "eip155:5:" + holder.Hex(), AllowUnconfiguredChain: true})
			if err != nil {
				return err
			}
			return get(c.Wallets.SyncWallet(alice, &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()}))
		}, codes.FailedPrecondition, "CHAIN_NOT_CONFIGURED", ""},
		{"an unknown time zone", func() error {
			return get(c.Portfolios.GetTimeline(alice, &portfoliov1.GetTimelineRequest{TimeZone: "Mars/Olympus"}))
		}, codes.InvalidArgument, "INVALID_ARGUMENT", "time_zone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := wantError(t, tc.call(), tc.code, tc.reason)
			if tc.field != "" && (len(e.Violations) != 1 || e.Violations[0].Field != tc.field ||
				e.Violations[0].Rule == "") {
				t.Errorf("violations %v, want one that names %s and its rule", e.Violations, tc.field)
			}
		})
	}

	t.Run("and nothing of it happened", func(t *testing.T) {
		got, err := c.Wallets.GetWallet(alice, &walletv1.GetWalletRequest{WalletId: id})
		if err != nil || got.GetWallet().GetEtag() != w.GetEtag() || got.GetWallet().GetLabel() != "" {
			t.Errorf("the wallet is now %v, %v", got, err)
		}
		theirs, err := c.Wallets.ListWallets(mallory, &walletv1.ListWalletsRequest{})
		if err != nil || len(theirs.GetWallets()) != 0 {
			t.Errorf("mallory has %v, %v", theirs, err)
		}
	})
}

// get returns the error of a call only.
func get[T any](_ T, err error) error { return err }

// wrongChecksum changes the case of one letter of an address.
func wrongChecksum(address string) string {
	at := 2 + strings.IndexFunc(address[2:], unicode.IsLetter)
	letter := address[at : at+1]
	if up := strings.ToUpper(letter); up != letter {
		letter = up
	} else {
		letter = strings.ToLower(letter)
	}
	return address[:at] + letter + address[at+1:]
}

// A logout revokes the refresh token; the access token stays valid until it expires.
func TestASessionFromSignInToLogout(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, tokens := signIn(t, c)
	first, err := c.Sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil || again.GetTokens().GetRefreshToken() != first.GetTokens().GetRefreshToken() {
		t.Errorf("a repeat of the call got another successor: %v", err)
	}
	fresh := grpcclient.WithToken(context.Background(), first.GetTokens().GetAccessToken())
	if _, err := c.Wallets.ListWallets(fresh, &walletv1.ListWalletsRequest{}); err != nil {
		t.Errorf("a refreshed token in another service: %v", err)
	}
	if _, err := c.Sessions.Logout(ctx, &authv1.LogoutRequest{}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: first.GetTokens().GetRefreshToken()})
	wantError(t, err, codes.Unauthenticated, "SESSION_REVOKED")
}

// A request with a million invalid elements is rejected as fast as one with a single one.
func TestAHugeWrongRequestIsRefusedCheaply(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second) // with the race detector, beside other tests
	defer cancel()
	_, err := c.Prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: make([]string, 1_000_000)})
	e := wantError(t, err, codes.InvalidArgument, "INVALID_ARGUMENT")
	if len(e.Violations) != 1 || e.Violations[0].Field != "token_ids" {
		t.Errorf("violations %v", e.Violations)
	}
}
