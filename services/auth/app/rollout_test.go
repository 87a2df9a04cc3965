package app_test

import (
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/postgres"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/migrations"
)

// nextRelease are the migrations with one more, which only adds, as each must.
func nextRelease(t *testing.T) fs.FS {
	t.Helper()
	next := fstest.MapFS{"00002_next.sql": {Data: []byte(`-- +goose Up
ALTER TABLE users ADD COLUMN nickname text NOT NULL DEFAULT '', ADD COLUMN retired_at timestamptz;
ALTER TABLE sessions ADD COLUMN risk integer NOT NULL DEFAULT 0;
ALTER TABLE refresh_tokens ADD COLUMN generation bigint;
ALTER TABLE api_keys ADD COLUMN comment text;
ALTER TABLE mailed_codes ADD COLUMN requested_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE service_accounts ADD COLUMN owner uuid;
CREATE TABLE devices (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE);

-- +goose Down
DROP TABLE devices;
ALTER TABLE service_accounts DROP COLUMN owner;
ALTER TABLE mailed_codes DROP COLUMN requested_at;
ALTER TABLE api_keys DROP COLUMN comment;
ALTER TABLE refresh_tokens DROP COLUMN generation;
ALTER TABLE sessions DROP COLUMN risk;
ALTER TABLE users DROP COLUMN nickname, DROP COLUMN retired_at;
`)}}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		next[name] = &fstest.MapFile{Data: data}
	}
	return next
}

// During a rollout replicas of this release run on the schema of the next one,
// and on this one again when it is rolled back, with what both have stored.
func TestThisReleaseRunsWhileTheSchemaOfTheNextOneComesAndGoes(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	refresh := s.login(t, "ada@example.com").GetRefreshToken()
	use := func(stage string, s service) {
		t.Helper()
		refreshed, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: refresh})
		if err != nil {
			t.Fatalf("%s: refresh: %v", stage, err)
		}
		refresh = refreshed.GetTokens().GetRefreshToken()
		ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
		if _, err := s.accounts.GetMe(ada, &authv1.GetMeRequest{}); err != nil {
			t.Errorf("%s: GetMe: %v", stage, err)
		}
		if _, err := s.keys.CreateApiKey(ada, &authv1.CreateApiKeyRequest{Name: stage,
			Scopes: []string{"wallet:read"}}); err != nil {
			t.Errorf("%s: CreateApiKey: %v", stage, err)
		}
		if _, err := s.accounts.RequestPasswordReset(t.Context(),
			&authv1.RequestPasswordResetRequest{Email: "ada@example.com"}); err != nil {
			t.Errorf("%s: RequestPasswordReset: %v", stage, err)
		}
		s.register(t, stage+"@example.com")
	}
	next := nextRelease(t)
	use("before", s)
	if err := postgres.Migrate(t.Context(), s.db.DB, next); err != nil {
		t.Fatal(err)
	}
	use("during", s)
	use("beside", startOn(t, s.db, s.db.URL)) // a replica that starts on the newer schema
	// The next release's binary finds the data of this one's, and a database that is ahead is left as it is.
	if err := postgres.Migrate(t.Context(), s.db.DB, migrations.FS); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Down(t.Context(), s.db.DB, next); err != nil {
		t.Fatal(err)
	}
	use("after", s)
	if n := s.count(t, "users"); n != 5 {
		t.Errorf("%d accounts, not 5", n)
	}
}
