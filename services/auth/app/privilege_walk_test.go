package app_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

// clerk is an operator with few permissions, and what came into their hands.
type clerk struct {
	service
	ctx     context.Context //nolint:containedctx // who calls, in every step
	may     []string
	users   []string          // whom they try to change
	robots  []string          // ids of service accounts that they try to take over
	secrets map[string]string // by the name of the service account
	names   map[string]string // of service accounts, by id
	done    int
}

// step does one thing at random.
func (c *clerk) step(t *testing.T, r *rand.Rand) {
	t.Helper()
	c.do(t, r, r.IntN(7))
}

// makeServiceAccount is the step that brings a secret into the clerk's hands.
const makeServiceAccount = 2

// do does one thing, with whom and with what is chosen at random.
func (c *clerk) do(t *testing.T, r *rand.Rand, what int) {
	t.Helper()
	var some []string
	for _, p := range [][]string{c.may, permissionsOf("admin")}[r.IntN(2)] {
		if r.IntN(2) == 0 {
			some = append(some, p)
		}
	}
	user, robot := c.users[r.IntN(len(c.users))], c.robots[r.IntN(len(c.robots))]
	var err error
	switch what {
	case 0:
		roles := []string{"admin", "trader", "fund_manager", "individual_investor"}
		_, err = c.admin.SetRoles(c.ctx, &authv1.SetRolesRequest{UserId: user, Roles: roles[r.IntN(4):][:1]})
	case 1:
		_, err = c.admin.SetAttributes(c.ctx, &authv1.SetAttributesRequest{UserId: user,
			Attributes: map[string]string{"region": "eu"}})
	case makeServiceAccount:
		name := "made-" + uuid.NewString()[:8]
		var made *authv1.CreateServiceAccountResponse
		made, err = c.admin.CreateServiceAccount(c.ctx, &authv1.CreateServiceAccountRequest{Name: name,
			Permissions: some})
		if err == nil {
			id := made.GetServiceAccount().GetServiceAccountId()
			c.robots, c.names[id] = append(c.robots, id), name
			c.secrets[name] = made.GetClientSecret()
		}
	case 3:
		var rotated *authv1.RotateServiceAccountSecretResponse
		rotated, err = c.admin.RotateServiceAccountSecret(c.ctx,
			&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: robot})
		if err == nil {
			c.secrets[c.names[robot]] = rotated.GetClientSecret()
		}
	case 4:
		_, err = c.admin.DisableUser(c.ctx, &authv1.DisableUserRequest{UserId: user})
	case 5:
		_, err = c.admin.EnableUser(c.ctx, &authv1.EnableUserRequest{UserId: user})
	case 6:
		_, err = c.jobs.TriggerJob(c.ctx, &jobsv1.TriggerJobRequest{Job: "seal_audit"})
	}
	if err == nil {
		c.done++
	}
}

// An operator with few permissions tries what there is, in many orders. Nothing that comes into their hands may more
// than they, and whoever may more than they is as before.
func TestNoOrderOfCallsGivesMorePermissions(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ADDRESS=100000")
	root := s.asAdmin(t)
	investor := permissionsOf("individual_investor")
	for name, may := range map[string][]string{
		"users":     {"admin:users"},
		"system":    {"admin:system"},
		"both":      {"admin:users", "admin:system"},
		"investors": append([]string{"admin:users", "admin:system"}, investor...),
	} {
		t.Run(name, func(t *testing.T) {
			_, boss := s.second(t, name+"-boss@example.com")
			s.register(t, name+"-investor@example.com")
			strong, err := s.admin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{
				Name: name + "-strong", Permissions: permissionsOf("admin")})
			if err != nil {
				t.Fatal(err)
			}
			id := strong.GetServiceAccount().GetServiceAccountId()
			c := &clerk{service: s, ctx: s.serve(t, root, name+"-clerk", may...), may: may, robots: []string{id},
				users:   []string{boss, s.find(t, root, name+"-investor").GetUser().GetId()},
				secrets: map[string]string{}, names: map[string]string{id: name + "-strong"}}
			before, err := s.admin.GetUser(root, &authv1.GetUserRequest{UserId: boss})
			if err != nil {
				t.Fatal(err)
			}
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 0))
			steps := testkit.Size(60, 3000)
			for range steps {
				c.step(t, r)
			}
			// However few steps there are, something of those who may make service accounts has to come of it.
			for tries := 0; slices.Contains(may, "admin:system") && len(c.secrets) == 0 && tries < 100; tries++ {
				c.do(t, r, makeServiceAccount)
			}
			c.check(t, root, seed)
			if slices.Contains(may, "admin:system") && len(c.secrets) == 0 {
				t.Errorf("seed %d: nothing came into their hands: the walk tries nothing", seed)
			}
			after, err := s.admin.GetUser(root, &authv1.GetUserRequest{UserId: boss})
			if err != nil || after.String() != before.String() {
				t.Errorf("seed %d: the admin is now %v, %v", seed, after, err)
			}
			if _, taken := c.secrets[name+"-strong"]; taken {
				t.Errorf("seed %d: the strong service account was taken over", seed)
			}
			testkit.Figure(t, "%d of %d calls of an operator with %v succeeded, none gave more", c.done, steps, may)
		})
	}
}

// check signs in with each secret, and reads the roles of the users.
func (c *clerk) check(t *testing.T, root context.Context, seed uint64) {
	t.Helper()
	for name, secret := range c.secrets {
		issued, err := c.sessions.IssueServiceAccountToken(t.Context(),
			&authv1.IssueServiceAccountTokenRequest{ClientId: name, ClientSecret: secret})
		if err != nil {
			t.Errorf("seed %d: %s: %v", seed, name, err)
			continue
		}
		for _, p := range claims(t, issued.GetAccessToken()).Permissions {
			if !slices.Contains(c.may, p) {
				t.Errorf("seed %d: %s may %s", seed, name, p)
			}
		}
	}
	for _, user := range c.users[1:] {
		u, err := c.admin.GetUser(root, &authv1.GetUserRequest{UserId: user})
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range u.GetUser().GetUser().GetRoles() {
			for _, p := range permissionsOf(role) {
				if !slices.Contains(c.may, p) && role != "individual_investor" { // which it had before
					t.Errorf("seed %d: somebody got %s and may %s", seed, role, p)
				}
			}
		}
	}
}
