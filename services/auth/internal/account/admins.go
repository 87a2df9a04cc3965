package account

import "github.com/purserhq/purser/pkg/errs"

// Admins are the enabled accounts with the role admin, as one account sees them.
type Admins struct {
	This   bool // the account is one
	Others bool // there are others
}

// CheckLastAdmin refuses a change that would remove the last enabled admin: nobody could assign the role any more.
// Call it only for a change that disables the account, deletes it or removes the role. errs.FailedPrecondition
// (LAST_ADMIN).
func (a Admins) CheckLastAdmin() error {
	if a.This && !a.Others {
		return errs.FailedPrecondition("LAST_ADMIN",
			"it is the last account with the role admin; give that to another first")
	}
	return nil
}
