package account

import (
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Reclaim returns what an account loses when somebody proves to own its address. Somebody else may have registered the
// account, so it loses what that person may have added. If the address is not verified, that is every way to sign in
// and every session. If it is verified, that is the identities and API keys that were added before the verification;
// the second factor stays, or whoever reads the owner's mails could remove it. s needs its Credentials.
func Reclaim(s State) Changes {
	if s.VerifiedAt.IsZero() {
		none := ""
		return Changes{
			PasswordHash: &none, RemoveSecondFactor: true, EndSessions: &SessionEnd{Reason: "ACCOUNT_RECLAIMED"},
			UnlinkIdentities: addedBefore(s.Identities, nil), RevokeAPIKeys: addedBefore(s.APIKeys, nil),
			Events: []audit.Event{{Type: audit.AccountReclaimed, Reason: "EMAIL_UNVERIFIED", Subject: s.ID}},
		}
	}
	c := Changes{
		UnlinkIdentities: addedBefore(s.Identities, &s.VerifiedAt),
		RevokeAPIKeys:    addedBefore(s.APIKeys, &s.VerifiedAt),
	}
	if len(c.UnlinkIdentities)+len(c.RevokeAPIKeys) > 0 {
		c.Events = []audit.Event{{Type: audit.AccountReclaimed, Reason: "ADDED_UNVERIFIED", Subject: s.ID}}
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
