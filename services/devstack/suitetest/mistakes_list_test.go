package suitetest

import (
	"context"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// The address is the first example of EIP-55.
const someAddress = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

func (b *blunderer) mistakes() []mistake {
	return slices.Concat(b.accountMistakes(), b.walletMistakes(), b.listMistakes(), b.timeMistakes(),
		b.tokenMistakes(), b.signInMistakes(), b.ownAccountMistakes(), b.methodMistakes())
}

// accountMistakes are what people write for an account on a chain.
func (b *blunderer) accountMistakes() []mistake {
	create := func(name, account string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return b.createWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
		}}
	}
	return []mistake{
		create("an ENS name as the account", "vitalik.eth"),
		create("an ENS name behind a chain", "eip155:1:vitalik.eth"),
		create("a bare address as the account", someAddress),
		create("the chain's name before the address", "ethereum:"+someAddress),
		create("the short name of EIP-3770 before the address", "arb1:"+someAddress),
		create("the chain's number before the address", "1:"+someAddress),
		create("a space behind the account", "eip155:1:"+someAddress+" "),
		create("a line break behind the account", "eip155:1:"+someAddress+"\n"),
		create("a hexadecimal chain id", "eip155:0x1:"+someAddress),
		create("a chain id with a leading zero", "eip155:01:"+someAddress),
		create("a chain's name in place of its id", "eip155:polygon:"+someAddress),
		create("the namespace in upper case", "EIP155:1:"+someAddress),
		create("a chain without an address", "eip155:1"),
		create("a wrong checksum", "eip155:1:"+wrongChecksum(someAddress)),
		create("an address with a digit too few", "eip155:1:"+someAddress[:41]),
		create("an address without 0x", "eip155:1:"+someAddress[2:]),
		create("the letter O for a zero", "eip155:1:"+strings.ReplaceAll(someAddress, "0", "O")),
		create("a Cyrillic letter in the address", "eip155:1:"+strings.Replace(someAddress, "a", "а", 1)),
		create("a private key for the account", "0x"+strings.Repeat("1f", 32)),
		create("a recovery phrase for the account", strings.Repeat("s3cret ", 12)),
		create("an account of Solana",
			"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp:7S3P4HxJpyyigGzodYwHtCxZyUQe9JiBMHyRWXArAaKv"),
		create("no account", ""),
		create("a chain that no node is configured for", "eip155:5:"+someAddress),
		create("the same account twice", account(b.s, b.s.Chain.Holders()[0])),
	}
}

func (b *blunderer) walletMistakes() []mistake {
	wallets := walletv1.NewWalletServiceClient(b.wallet)
	return []mistake{
		{"several fields at once", func(ctx context.Context) error {
			return b.createWallet(ctx, &walletv1.CreateWalletRequest{Account: someAddress, Label: "cold\tstorage",
				RequestId: "1"})
		}},
		{"a label of 81 characters", func(ctx context.Context) error {
			return b.createWallet(ctx, &walletv1.CreateWalletRequest{Account: "eip155:31337:" + someAddress,
				Label: strings.Repeat("ü", 81)})
		}},
		{"the request_id of another request", func(ctx context.Context) error {
			return b.createWallet(ctx, &walletv1.CreateWalletRequest{Account: "eip155:31337:" + someAddress,
				RequestId: b.requestID})
		}},
		{"the nil UUID as the request_id", func(ctx context.Context) error {
			return b.createWallet(ctx, &walletv1.CreateWalletRequest{Account: "eip155:31337:" + someAddress,
				RequestId: uuid.Nil.String()})
		}},
		{"a wallet's account for its id", func(ctx context.Context) error {
			return get(wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: "eip155:1:" + someAddress}))
		}},
		{"no wallet_id", func(ctx context.Context) error {
			return get(wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{}))
		}},
		{"the id of no wallet", func(ctx context.Context) error {
			return get(wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: uuid.NewString()}))
		}},
		{"an update with a stale etag", func(ctx context.Context) error {
			return get(wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: b.walletID, Label: "x",
				Etag: b.staleEtag}))
		}},
		{"a delete with a stale etag", func(ctx context.Context) error {
			return get(wallets.DeleteWallet(ctx,
				&walletv1.DeleteWalletRequest{WalletId: b.walletID, Etag: b.staleEtag}))
		}},
		{"an update of a field that can't be set, and no label", func(ctx context.Context) error {
			return get(wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: b.walletID, Label: " ",
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"account"}}}))
		}},
	}
}

func (b *blunderer) createWallet(ctx context.Context, r *walletv1.CreateWalletRequest) error {
	return get(walletv1.NewWalletServiceClient(b.wallet).CreateWallet(ctx, r))
}

func (b *blunderer) listMistakes() []mistake {
	wallets, tokens := walletv1.NewWalletServiceClient(b.wallet), walletv1.NewTokenServiceClient(b.wallet)
	prices := walletv1.NewPriceServiceClient(b.wallet)
	list := func(name string, r *walletv1.ListWalletsRequest) mistake {
		return mistake{name, func(ctx context.Context) error { return get(wallets.ListWallets(ctx, r)) }}
	}
	getToken := func(name, id string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return get(tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: id}))
		}}
	}
	price := func(name string, ids ...string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return get(prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: ids}))
		}}
	}
	return []mistake{
		list("a page_size above the limit", &walletv1.ListWalletsRequest{PageSize: 1000}),
		list("a negative page_size", &walletv1.ListWalletsRequest{PageSize: -1}),
		list("a page_token that is none", &walletv1.ListWalletsRequest{PageToken: "2"}),
		list("a page_token with other filters", &walletv1.ListWalletsRequest{PageToken: b.pageToken,
			View: walletv1.WalletView_WALLET_VIEW_WITH_BALANCES}),
		list("a view that there is not", &walletv1.ListWalletsRequest{View: 7}),
		{"a page_token of another method", func(ctx context.Context) error {
			return get(tokens.ListTokens(ctx, &walletv1.ListTokensRequest{PageToken: b.pageToken}))
		}},
		{"a number for a chain's id", func(ctx context.Context) error {
			return get(tokens.ListTokens(ctx, &walletv1.ListTokensRequest{ChainId: "1"}))
		}},
		{"a chain's id as wallets in browsers have it", func(ctx context.Context) error {
			return get(tokens.ListTokens(ctx, &walletv1.ListTokensRequest{ChainId: "0x7a69"}))
		}},
		getToken("a symbol for a token's id", "USDC"),
		getToken("the symbol of a chain's coin for its id", "ETH"),
		getToken("a contract for a token's id", someAddress),
		getToken("a contract as price feeds have it", "ethereum:"+someAddress),
		getToken("an account for a token's id", "eip155:1:"+someAddress),
		getToken("a token that is not on the list", "eip155:1/slip44:60"),
		price("no token for a price"),
		price("a token twice", "eip155:1/slip44:60", "eip155:1/slip44:60"),
		price("symbols for tokens", "ETH", "eip155:1/slip44:60", "eip155:1/erc721:"+someAddress),
		price("twelve wrong tokens", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"),
		{"a currency in lower case", func(ctx context.Context) error {
			return get(prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: []string{"eip155:31337/slip44:60"},
				Currency: "eur"}))
		}},
		{"past prices of a symbol, in a currency that there is not, of tomorrow", func(ctx context.Context) error {
			return get(prices.ListPriceHistory(ctx, &walletv1.ListPriceHistoryRequest{TokenId: "ETH", Currency: "XAU",
				StartTime: timestamppb.New(time.Now()), EndTime: timestamppb.New(time.Now().Add(24 * time.Hour))}))
		}},
		{"an import of prices without the permission", func(ctx context.Context) error {
			return get(prices.ImportPrices(ctx, &walletv1.ImportPricesRequest{RequestId: uuid.NewString(),
				Prices: []*walletv1.ImportedPrice{{TokenId: "EUR", Price: "1.08"}}}))
		}},
	}
}

func (b *blunderer) timeMistakes() []mistake {
	p, h := portfoliov1.NewPortfolioServiceClient(b.portfolio), walletv1.NewHoldingsServiceClient(b.wallet)
	now := time.Now()
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	timeline := func(name string, r *portfoliov1.GetTimelineRequest) mistake {
		return mistake{name, func(ctx context.Context) error { return get(p.GetTimeline(ctx, r)) }}
	}
	return []mistake{
		timeline("start and end exchanged",
			&portfoliov1.GetTimelineRequest{StartTime: at(-time.Hour), EndTime: at(-2 * time.Hour)}),
		timeline("an end in the future", &portfoliov1.GetTimelineRequest{EndTime: at(24 * time.Hour)}),
		timeline("milliseconds for seconds since 1970",
			&portfoliov1.GetTimelineRequest{StartTime: &timestamppb.Timestamp{Seconds: 1_700_000_000_000}}),
		timeline("a range of ten years", &portfoliov1.GetTimelineRequest{
			StartTime: timestamppb.New(time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC))}),
		timeline("an abbreviation for a time zone", &portfoliov1.GetTimelineRequest{TimeZone: "CEST"}),
		timeline("a wrong range, zone, interval and limit at once", &portfoliov1.GetTimelineRequest{
			Interval: 9, StartTime: at(-time.Hour), EndTime: at(-2 * time.Hour), TimeZone: "Zurich", Limit: 9999}),
		{"the figures of an abbreviated time zone", func(ctx context.Context) error {
			return get(p.GetKpi(ctx, &portfoliov1.GetKpiRequest{TimeZone: "CEST"}))
		}},
		{"what the wallets were worth in the past", func(ctx context.Context) error {
			return get(p.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{AsOfTime: at(-time.Hour),
				Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET}))
		}},
		{"500 points of an allocation over time, by wallet", func(ctx context.Context) error {
			return get(p.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{Limit: 500,
				Dimension: portfoliov1.AllocationDimension_ALLOCATION_DIMENSION_WALLET}))
		}},
		{"an export of an unknown format until tomorrow", func(ctx context.Context) error {
			stream, err := p.ExportSnapshots(ctx,
				&portfoliov1.ExportSnapshotsRequest{Format: 9, EndTime: at(24 * time.Hour)})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"a watched value in no currency after a text that is no cursor", func(ctx context.Context) error {
			stream, err := p.WatchValuation(ctx,
				&portfoliov1.WatchValuationRequest{Currency: "euro", Cursor: "yesterday"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"a portfolio_id that is no UUID", func(ctx context.Context) error {
			return get(p.GetValuation(ctx, &portfoliov1.GetValuationRequest{PortfolioId: "default"}))
		}},
		{"the id of no portfolio", func(ctx context.Context) error {
			return get(p.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: uuid.NewString()}))
		}},
		{"a backfill without an end", func(ctx context.Context) error {
			return get(p.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: at(-time.Hour)}))
		}},
		{"a portfolio of a wallet that there is not", func(ctx context.Context) error {
			return get(p.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Vault",
				WalletIds: []string{uuid.NewString()}}))
		}},
		{"a wallet that joins tomorrow", func(ctx context.Context) error {
			return get(p.ChangePortfolioWallets(ctx, &portfoliov1.ChangePortfolioWalletsRequest{
				PortfolioId: uuid.NewString(), EffectiveTime: at(24 * time.Hour)}))
		}},
		{"a portfolio without a name that has the wallets of the last century", func(ctx context.Context) error {
			return get(p.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: " ",
				EffectiveTime: timestamppb.New(time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))}))
		}},
		{"the end of the default portfolio", func(ctx context.Context) error {
			mine, err := p.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
			if err != nil {
				return err
			}
			return get(p.DeletePortfolio(ctx, &portfoliov1.DeletePortfolioRequest{
				PortfolioId: mine.GetPortfolio().GetId()}))
		}},
		{"a history without times", func(ctx context.Context) error {
			return get(h.ListHistoricalHoldings(ctx, &walletv1.ListHistoricalHoldingsRequest{}))
		}},
		{"the holdings of another user", func(ctx context.Context) error {
			return get(h.GetHoldings(ctx, &walletv1.GetHoldingsRequest{OwnerId: uuid.NewString()}))
		}},
		{"the balances of a time before all chains", func(ctx context.Context) error {
			return get(walletv1.NewBalanceServiceClient(b.wallet).ListHistoricalBalances(ctx,
				&walletv1.ListHistoricalBalancesRequest{
					AtTime: timestamppb.New(time.Date(2014, 5, 1, 0, 0, 0, 0, time.UTC))}))
		}},
	}
}

// tokenMistakes are about the authorization header.
func (b *blunderer) tokenMistakes() []mistake {
	accounts := authv1.NewAccountServiceClient(b.auth)
	token := b.tokens.GetAccessToken()
	me := func(name string, header ...string) mistake {
		return mistake{name, func(ctx context.Context) error {
			return get(accounts.GetMe(sending(ctx, header...), &authv1.GetMeRequest{}))
		}}
	}
	parts := strings.Split(token, ".")
	return []mistake{
		me("no token"),
		me("a token without Bearer", token),
		me("Bearer without a token", "Bearer"),
		me("Basic in place of Bearer", "Basic aHVudGVyMjpodW50ZXIy"),
		me("two tokens", "Bearer "+token, "Bearer "+token),
		me("a token in quotes", `Bearer "`+token+`"`),
		me("Bearer twice", "Bearer Bearer "+token),
		me("a token with white space in it", "Bearer "+token[:40]+" "+token[40:]),
		me("a token that is cut", "Bearer "+token[:len(token)-20]),
		me("half a token", "Bearer "+parts[0]+"."+parts[1]),
		me("a refresh token for an access token", "Bearer "+b.tokens.GetRefreshToken()),
		me("an API key for an access token", "Bearer "+b.apiKey),
		me("a variable that was not set", "Bearer "),
		me("an expired token of a retired key", "Bearer "+b.retired),
		me("a token of ten kilobytes", "Bearer "+strings.Repeat("x", 10<<10)),
		{"a call without a permission", func(ctx context.Context) error {
			return get(authv1.NewAdminServiceClient(b.auth).ListUsers(ctx, &authv1.ListUsersRequest{}))
		}},
		{"an API key where a person is needed", func(ctx context.Context) error {
			return get(accounts.DeleteMe(bearing(ctx, b.apiKeyToken), &authv1.DeleteMeRequest{}))
		}},
		{"an API key beyond its scopes", func(ctx context.Context) error {
			return b.createWallet(bearing(ctx, b.apiKeyToken), &walletv1.CreateWalletRequest{})
		}},
		{"a sign-in of an hour ago where a recent one is needed", func(ctx context.Context) error {
			return get(accounts.DeleteMe(bearing(ctx, b.old), &authv1.DeleteMeRequest{}))
		}},
	}
}

// retiredToken returns a token that was valid an hour ago, of a key that has left the key set since.
func retiredToken(t *testing.T, issuer string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &authn.Claims{RegisteredClaims: jwt.RegisteredClaims{
		Issuer: issuer, Audience: jwt.ClaimStrings{authn.Audience}, Subject: uuid.NewString(),
		IssuedAt: jwt.NewNumericDate(hourAgo), ExpiresAt: jwt.NewNumericDate(hourAgo.Add(15 * time.Minute)),
	}, SessionID: uuid.NewString()})
	token.Header["typ"], token.Header["kid"] = authn.TokenType, "retired"
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// methodMistakes are calls of what there is not.
func (b *blunderer) methodMistakes() []mistake {
	invoke := func(name, method string, conn *grpc.ClientConn) mistake {
		return mistake{name, func(ctx context.Context) error {
			return conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
		}}
	}
	return []mistake{
		invoke("a method's name in the wrong case", "/purser.wallet.v1.WalletService/listWallets", b.wallet),
		invoke("a method that there is not", "/purser.wallet.v1.PriceService/ListPrices", b.wallet),
		invoke("a service at the address of another", "/purser.portfolio.v1.PortfolioService/GetPortfolio", b.wallet),
		invoke("a service without its package", "/WalletService/ListWallets", b.wallet),
	}
}
