package account

import "github.com/purserhq/purser/pkg/errs"

// Admins are the enabled accounts with the role admin, as one account sees them.
type Admins struct {
	This   bool // the account is one
	Others bool // there are others
}

// CheckLastAdmin refuses a change after which an account is no enabled admin, when there is no other: nobody could
// give that role any more. errs.FailedPrecondition (LAST_ADMIN).
func (a Admins) CheckLastAdmin() error {
	if a.This && !a.Others {
		return errs.FailedPrecondition("LAST_ADMIN",
			"it is the last account with the role admin; give that to another first")
	}
	return nil
}
