package account

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Removed is what an account lost because it was set up before anybody proved to own its address.
type Removed struct {
	Password, SecondFactor        bool
	APIKeys, Identities, Sessions int
}

// Prove returns what changes when somebody proves to own the address of an account, in whichever way: with a mailed
// code, a password reset, or a provider that has verified it. It is the only rule about that.
//
// Anybody may register an address. So what was set up before the proof is somebody else's, and all of it is removed:
// whatever the account could be signed in with, whatever was signed in, and a change of the address that was asked
// for. withPassword says that whoever proved the address knows the account's password as well: then they set it up,
// and everything stays. Nothing is removed of an address that is proven already, nor of an account that nobody has set
// up.
//
// s needs its Credentials.
func Prove(s State, now time.Time, withPassword bool) Changes {
	if !s.VerifiedAt.IsZero() {
		return Changes{}
	}
	c := Changes{VerifiedAt: now, EndCodes: []Purpose{VerifyEmail}}
	if withPassword {
		return c
	}
	c.EndCodes = append(c.EndCodes, ChangeEmail)
	c.Removed = Removed{
		Password: s.PasswordHash != "", SecondFactor: s.SecondFactor, APIKeys: len(s.APIKeys),
		Identities: len(s.Identities), Sessions: s.Sessions,
	}
	if c.Removed == (Removed{}) {
		return c
	}
	none := ""
	c.PasswordHash, c.RemoveSecondFactor = &none, true
	c.EndSessions = &SessionEnd{Reason: "ACCOUNT_RECLAIMED"}
	c.UnlinkIdentities, c.RevokeAPIKeys = IDs(s.Identities), IDs(s.APIKeys)
	c.Events = []audit.Event{{Type: audit.AccountReclaimed, Reason: "EMAIL_UNVERIFIED", Subject: s.ID,
		Notice: audit.Notice{Details: c.Removed.lines()}}}
	return c
}

// provable refuses a code of an account whose invitation was withdrawn, as an unknown one: a proof of the address
// accepts an invitation. The code stays valid.
func provable(s State) error {
	if !s.InvitedAt.IsZero() && !s.DisabledAt.IsZero() {
		return errs.NotFound("code")
	}
	return nil
}

// IDs returns the ids of credentials.
func IDs(all []Credential) []uuid.UUID {
	var list []uuid.UUID
	for _, c := range all {
		list = append(list, c.ID)
	}
	return list
}

// lines says what was removed, one thing a line.
func (r Removed) lines() []string {
	var lines []string
	if r.Password {
		lines = append(lines, "the password")
	}
	if r.SecondFactor {
		lines = append(lines, "the second factor")
	}
	for _, of := range []struct {
		n    int
		what string
	}{
		{r.APIKeys, "API keys"}, {r.Identities, "linked identities (providers and wallets)"}, {r.Sessions, "sessions"},
	} {
		if of.n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d", of.what, of.n))
		}
	}
	return lines
}
