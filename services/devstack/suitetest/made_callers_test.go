package suitetest

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/purserhq/purser/pkg/authn"
	authapp "github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/devstack/suite"
)

// mint makes callers of a suite without its RPCs: rows in auth's database, and access tokens that are signed with a
// key of the test in the suite's key set. So a test can have one for each call, and end their authority in ways of
// which no verifier hears.
type mint struct {
	issuer string
	kid    string
	key    ed25519.PrivateKey
	db     *pgxpool.Pool
}

// made is a caller that was made.
type made struct {
	id, session uuid.UUID
	token       string
	// values are the ids of what belongs to the caller.
	values targets
}

func newMint(t *testing.T, s *suite.Suite, db *pgxpool.Pool) *mint {
	t.Helper()
	kid, key := publishedKey(t, s)
	return &mint{issuer: s.Issuer(), kid: kid, key: key, db: db}
}

// claims are those of a valid token of nobody.
func (m *mint) claims(user, session uuid.UUID) authn.Claims {
	now := time.Now()
	return authn.Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: m.issuer, Audience: jwt.ClaimStrings{authn.Audience}, Subject: user.String(), ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(10 * time.Minute)),
		},
		SessionID: session.String(), Permissions: everyPermission(), AMR: []string{"pwd"},
		AuthTime: jwt.NewNumericDate(now),
	}
}

// everyPermission are those of all roles.
func everyPermission() []string {
	all := map[string]bool{}
	for _, r := range authapp.Roles() {
		for _, p := range r.Permissions {
			all[p] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// sign returns a token with one change.
func (m *mint) sign(t *testing.T, c authn.Claims, change func(*jwt.Token, *authn.Claims)) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &c)
	token.Header["typ"], token.Header["kid"] = authn.TokenType, m.kid
	if change != nil {
		change(token, &c)
	}
	var signer any = m.key
	switch token.Method {
	case jwt.SigningMethodHS256:
		signer = []byte(m.key.Public().(ed25519.PublicKey))
	case jwt.SigningMethodNone:
		signer = jwt.UnsafeAllowNoneSignatureType
	}
	text, err := token.SignedString(signer)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (m *mint) exec(ctx context.Context, t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := m.db.Exec(ctx, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// person makes an admin with two sessions, an API key and an identity. change changes the token of the first session.
func (m *mint) person(ctx context.Context, t *testing.T, change func(*jwt.Token, *authn.Claims)) made {
	t.Helper()
	p := made{id: newID(t), session: newID(t)}
	other, key, identity := newID(t), newID(t), newID(t)
	var b pgx.Batch // one round trip
	b.Queue(`INSERT INTO users (id, email, email_verified_at, created_at)
		VALUES ($1::uuid, $1::uuid::text || '@example.com', now(), now())`, p.id)
	b.Queue(`INSERT INTO user_roles (user_id, role) VALUES ($1, 'admin')`, p.id)
	for _, session := range []uuid.UUID{p.session, other} {
		b.Queue(`INSERT INTO sessions (id, user_id, created_at, expires_at, current_hash, current_expires_at,
				last_used_at, methods, auth_time)
			VALUES ($1::uuid, $2, now(), now() + interval '1 day', sha256($1::uuid::text::bytea),
				now() + interval '1 day', now(), '["pwd"]', now())`, session, p.id)
	}
	b.Queue(`INSERT INTO api_keys (id, user_id, name, hash, scopes, allowed_cidrs, created_at, expires_at)
		VALUES ($1::uuid, $2, 'bot', sha256($1::uuid::text::bytea), '["wallet:read"]', '[]', now(),
			now() + interval '1 day')`, key, p.id)
	for _, id := range []uuid.UUID{identity, newID(t)} { // two, because the only way to sign in can't be unlinked
		b.Queue(`INSERT INTO identities (id, user_id, provider, subject, label, created_at)
			VALUES ($1::uuid, $2, 'test', $1::uuid::text, 'of a test', now())`, id, p.id)
	}
	if err := m.db.SendBatch(ctx, &b).Close(); err != nil {
		t.Fatal(err)
	}
	p.values = targets{"session_id": other.String(), "api_key_id": key.String(), "identity_id": identity.String()}
	p.token = m.sign(t, m.claims(p.id, p.session), change)
	p.values["token"] = p.token
	return p
}

// withKey makes the token of an API key of somebody, with every permission, which no real key of theirs could have
// more of.
func (m *mint) withKey(t *testing.T, p made) string {
	t.Helper()
	c := m.claims(p.id, uuid.MustParse(p.values["api_key_id"]))
	c.AMR = []string{authn.MethodAPIKey}
	return m.sign(t, c, nil)
}

// program makes a service account with these permissions.
func (m *mint) program(ctx context.Context, t *testing.T, permissions ...string) made {
	t.Helper()
	p := made{id: newID(t), session: newID(t)}
	m.exec(ctx, t, `INSERT INTO service_accounts (id, name, permissions, created_at)
		VALUES ($1::uuid, $1::uuid::text, to_jsonb($2::text[]), now())`, p.id, permissions)
	m.exec(ctx, t, `INSERT INTO service_secrets (id, account_id, hash, created_at)
		VALUES ($1::uuid, $2, sha256($1::uuid::text::bytea), now())`, p.session, p.id)
	c := m.claims(p.id, p.session)
	c.AMR, c.Permissions = []string{authn.MethodService}, permissions
	p.token = m.sign(t, c, nil)
	p.values = targets{"session_id": uuid.NewString(), "api_key_id": uuid.NewString(),
		"identity_id": uuid.NewString(), "token": p.token}
	return p
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// strangersKey is a key that nobody published.
func strangersKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// publicJWK is the public half of a key as a header may carry it (RFC 7515, section 4.1.3).
func publicJWK(key ed25519.PrivateKey) map[string]string {
	return map[string]string{"kty": "OKP", "crv": "Ed25519",
		"x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}
}
