package account

import (
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// TakeOver returns what an account loses when somebody proves to own its address. Whoever registered the account may
// be somebody else, and could come back with what they added: everything while the address is not verified, and the
// identities and API keys from before it was. A second factor of a verified account stays, or whoever reads the
// owner's mails could remove it. s needs its Credentials.
func TakeOver(s State) Changes {
	if s.VerifiedAt.IsZero() {
		none := ""
		return Changes{
			PasswordHash: &none, RemoveSecondFactor: true, EndSessions: &SessionEnd{Reason: "ACCOUNT_TAKEN_OVER"},
			UnlinkIdentities: addedBefore(s.Identities, nil), RevokeAPIKeys: addedBefore(s.APIKeys, nil),
			Events: []audit.Event{{Type: audit.AccountTakenOver, Reason: "EMAIL_UNVERIFIED", Subject: s.ID}},
		}
	}
	c := Changes{
		UnlinkIdentities: addedBefore(s.Identities, &s.VerifiedAt),
		RevokeAPIKeys:    addedBefore(s.APIKeys, &s.VerifiedAt),
	}
	if len(c.UnlinkIdentities)+len(c.RevokeAPIKeys) > 0 {
		c.Events = []audit.Event{{Type: audit.AccountTakenOver, Reason: "ADDED_UNVERIFIED", Subject: s.ID}}
	}
	return c
}

// addedBefore returns the ids of the credentials from before limit, of all when that is nil.
func addedBefore(all []Credential, limit *time.Time) []uuid.UUID {
	var ids []uuid.UUID
	for _, c := range all {
		if limit == nil || c.AddedAt.Before(*limit) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
