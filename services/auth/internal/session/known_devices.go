package session

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/device"
)

// WithDevice returns a context for a sign-in from the device of this token. A token that is invented, or empty, names
// none.
func (s *Service) WithDevice(ctx context.Context, token string) context.Context {
	return device.With(ctx, s.Devices.Read(token))
}

// KnowsDevice reports whether a device has signed in to the account with this address before. It does not reveal
// anything about other accounts: who has the token of a device knows its account.
func (s *Service) KnowsDevice(ctx context.Context, email string, d device.Device) (bool, error) {
	return s.Store.KnowsDevice(ctx, account.NormalEmail(email), d)
}

// KnowsAddress reports whether a known device of the account with this address has signed in from an IP address last.
func (s *Service) KnowsAddress(ctx context.Context, email, ipAddress string) (bool, error) {
	return s.Store.KnowsAddress(ctx, account.NormalEmail(email), ipAddress)
}

// UserOf returns the id of the account with this address, the zero one when there is none.
func (s *Service) UserOf(ctx context.Context, email string) (uuid.UUID, error) {
	user, _, err := s.Store.Credentials(ctx, account.NormalEmail(email))
	return user, err
}
