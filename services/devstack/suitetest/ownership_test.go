package suitetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// unownedIDs are fields that name what belongs to no user, or what a caller names
// themselves.
func unownedIDs() map[protoreflect.Name]string {
	return map[protoreflect.Name]string{
		"token_id":   "a token on a chain",
		"token_ids":  "tokens on chains",
		"chain_id":   "a chain",
		"request_id": "the caller's own name of a request",
		"client_id":  "who signs in, with their secret",
		"user_ids":   "users whom a service asks about",
	}
}

// The ids of one user's resources, in every method that takes one, sent by another user. The methods and fields are
// read from the contracts, so that a new one is tried, or fails this test until its owner is listed here.
func TestAnotherUsersResourcesAreNotFound(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	alice, tokens := signIn(t, c)
	_, mallory := signIn(t, c)
	theirs := makeResources(t, s, c, alice, tokens)
	before := allData(t, c, alice)
	tried := 0
	for _, m := range servedMethods(s.Endpoints) {
		full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		rule, _ := access.Lookup(full)
		for i := range m.Input().Fields().Len() {
			f := m.Input().Fields().Get(i)
			if !strings.HasSuffix(string(f.Name()), "_id") && !strings.HasSuffix(string(f.Name()), "_ids") {
				continue
			}
			if _, ok := unownedIDs()[f.Name()]; ok {
				continue
			}
			in := dynamicpb.NewMessage(m.Input())
			id, known := theirs[f.Name()]
			if strings.HasPrefix(rule.Permission, "admin:") {
				id, known = uuid.NewString(), true
			}
			if !known || f.Kind() != protoreflect.StringKind {
				t.Errorf("%s takes %s: list in this test who owns it", full, f.Name())
				continue
			}
			if f.IsList() { // of what somebody else's, or one's own, is to have
				in.Mutable(f).List().Append(protoreflect.ValueOfString(id))
				if f := m.Input().Fields().ByName("portfolio_id"); f != nil {
					in.Set(f, protoreflect.ValueOfString(theirs["portfolio_id"]))
				}
			} else {
				in.Set(f, protoreflect.ValueOfString(id))
			}
			for _, name := range []protoreflect.Name{"label", "name"} {
				if f := m.Input().Fields().ByName(name); f != nil {
					in.Set(f, protoreflect.ValueOfString("mine now"))
				}
			}
			for name, value := range map[protoreflect.Name]string{"message": "sign this",
				"signature": "0x" + strings.Repeat("1b", 65), "limit": "1"} {
				if f := m.Input().Fields().ByName(name); f != nil && f.Kind() == protoreflect.StringKind {
					in.Set(f, protoreflect.ValueOfString(value))
				}
			}
			if f := m.Input().Fields().ByName("kind"); f != nil && f.Kind() == protoreflect.EnumKind {
				in.Set(f, protoreflect.ValueOfEnum(1))
			}
			setTimes(in)
			setLots(in)
			err := invokeWith(t, s, m, mallory.GetAccessToken(), in)
			if rule.Permission != "" && strings.HasPrefix(rule.Permission, "admin:") {
				wantError(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
				continue
			}
			tried++
			if f.Name() == "owner_id" { // whether or not that user exists
				wantError(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
			} else {
				wantError(t, err, codes.NotFound, "NOT_FOUND")
			}
			// The control: its owner finds it, where the request needs no other fields.
			if strings.HasPrefix(string(m.Name()), "Get") {
				if err := invokeWith(t, s, m, tokens.GetAccessToken(), in); err != nil {
					t.Errorf("%s of one's own: %v", full, err)
				}
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d methods were tried", tried)
	}
	if after := allData(t, c, alice); after != before {
		t.Errorf("another user changed\n%s\nto\n%s", before, after)
	}
}

// setLots sets what IdentifyLots requires.
func setLots(in *dynamicpb.Message) {
	if in.Descriptor().FullName() != "purser.portfolio.v1.IdentifyLotsRequest" {
		return
	}
	fields := in.Descriptor().Fields()
	if f := fields.ByName("wallet_id"); !in.Has(f) {
		in.Set(f, protoreflect.ValueOfString(uuid.NewString()))
	}
	in.Set(fields.ByName("token_id"), protoreflect.ValueOfString("eip155:31337/slip44:60"))
	list := in.Mutable(fields.ByName("picks")).List()
	pick := list.AppendMutable().Message()
	pick.Set(pick.Descriptor().Fields().ByName("lot_id"),
		protoreflect.ValueOfString("lot:"+strings.Repeat("0", 24)))
	pick.Set(pick.Descriptor().Fields().ByName("quantity"), protoreflect.ValueOfString("1"))
}

// setTimes sets the required times of a request.
func setTimes(in *dynamicpb.Message) {
	for name, ago := range map[protoreflect.Name]time.Duration{"start_time": 2 * time.Hour, "end_time": time.Hour,
		"at_time": time.Hour} {
		if f := in.Descriptor().Fields().ByName(name); f != nil {
			in.Set(f, protoreflect.ValueOfMessage(timestamppb.New(time.Now().Add(-ago)).ProtoReflect()))
		}
	}
}

// makeResources creates one of each resource that a user can own. It returns their ids by field name.
func makeResources(t *testing.T, s *suite.Suite, c *demo.Clients, alice context.Context,
	tokens *authv1.Tokens) map[protoreflect.Name]string {
	t.Helper()
	claims := claimsOf(t, tokens.GetAccessToken())
	w := addWallet(t, alice, c, account(s, s.Chain.Holders()[0]))
	p, err := c.Portfolios.GetPortfolio(alice, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := c.APIKeys.CreateApiKey(alice,
		&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	rule, endpoint, alert := makeAlert(t, s, c, alice, claims.Subject)
	identity := uuid.NewString()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_auth"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `
		INSERT INTO identities (id, user_id, provider, subject, label, created_at)
		VALUES ($1, $2, 'test', 'alice', 'alice', now())`,
		identity, claims.Subject)
	if err != nil {
		t.Fatal(err)
	}
	return map[protoreflect.Name]string{
		"wallet_id": w.GetId(), "wallet_ids": w.GetId(), "add_wallet_ids": w.GetId(), "remove_wallet_ids": w.GetId(),
		"portfolio_id": p.GetPortfolio().GetId(), "session_id": claims.SessionID,
		"api_key_id": key.GetApiKey().GetApiKeyId(), "identity_id": identity, "user_id": claims.Subject,
		"owner_id": claims.Subject, "rule_id": rule, "endpoint_id": endpoint, "alert_id": alert, "alert_ids": alert,
	}
}

// makeAlert gives a user a rule, a webhook endpoint and an alert on its way there, and returns their ids.
func makeAlert(t *testing.T, s *suite.Suite, c *demo.Clients, user context.Context, id string) (rule, endpoint,
	alert string) {
	t.Helper()
	made, err := c.Alerts.CreateAlertRule(user, &portfoliov1.CreateAlertRuleRequest{Name: "gone",
		Kind: portfoliov1.AlertKind_ALERT_KIND_HEALTH_BELOW, Limit: "1", RequestId: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	// Nobody listens at port 1.
	hook, err := c.Alerts.CreateWebhookEndpoint(user, &portfoliov1.CreateWebhookEndpointRequest{
		Url: "http://127.0.0.1:1/", RequestId: uuid.NewString()})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_portfolio"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rule, endpoint, alert = made.GetRule().GetRuleId(), hook.GetEndpoint().GetEndpointId(), uuid.NewString()
	for _, add := range []string{
		`INSERT INTO alerts (owner_id, id, rule_id, rule_name, portfolio_id, kind, token_id, window_seconds, figure,
			fired_at) SELECT $1, $2, $3, 'gone', id, 'HEALTH_BELOW', '', 0, '0.5', now() FROM portfolios
			WHERE owner_id = $1 AND is_default AND $4::text <> ''`,
		`INSERT INTO webhook_deliveries (owner_id, alert_id, endpoint_id, created_at, due_at)
			SELECT $1, $2, $4::uuid, now(), now() + interval '1 hour' WHERE $3::uuid IS NOT NULL`,
		`INSERT INTO changes (owner_id, kind, subject_id)
			SELECT $1, 'ALERT_FIRED', $2 WHERE $3::uuid IS NOT NULL AND $4::text <> ''`,
	} {
		if _, err := conn.Exec(t.Context(), add, id, alert, rule, endpoint); err != nil {
			t.Fatal(err)
		}
	}
	return rule, endpoint, alert
}

// allData is a user's data as text.
func allData(t *testing.T, c *demo.Clients, alice context.Context) string {
	t.Helper()
	var b strings.Builder
	add := func(m proto.Message, err error) {
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(protojson.Format(m))
	}
	me, err := c.Accounts.GetMe(alice, &authv1.GetMeRequest{})
	add(me, err)
	sessions, err := c.Sessions.ListSessions(alice, &authv1.ListSessionsRequest{})
	add(sessions, err)
	keys, err := c.APIKeys.ListApiKeys(alice, &authv1.ListApiKeysRequest{})
	add(keys, err)
	wallets, err := c.Wallets.ListWallets(alice, &walletv1.ListWalletsRequest{})
	add(wallets, err)
	timeline, err := c.Portfolios.GetTimeline(alice,
		&portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_HOURLY})
	add(timeline, err)
	rules, err := c.Alerts.ListAlertRules(alice, &portfoliov1.ListAlertRulesRequest{})
	add(rules, err)
	alerts, err := c.Alerts.ListAlerts(alice, &portfoliov1.ListAlertsRequest{})
	add(alerts, err)
	endpoints, err := c.Alerts.ListWebhookEndpoints(alice, &portfoliov1.ListWebhookEndpointsRequest{})
	add(endpoints, err)
	return strings.ReplaceAll(b.String(), " ", "") // protojson puts spaces in at random
}

func claimsOf(t *testing.T, token string) authn.Claims {
	t.Helper()
	var c authn.Claims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		t.Fatal(err)
	}
	return c
}
