package rpc

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/siwe"
)

// Check returns what looks at a message beside the rules of its contract, so that a caller learns of all mistakes at
// once; see grpcserver.Server.CheckMessages. The domain packages apply the same rules again.
func Check(accounts *account.Service, keys *apikey.Service, wallets *siwe.Service) func(proto.Message) error {
	return func(m proto.Message) error {
		switch r := m.(type) {
		case *authv1.RegisterRequest:
			return accounts.CheckRegistration(r.GetEmail(), r.GetPassword(), r.GetDisplayName())
		case *authv1.CompletePasswordResetRequest:
			return accounts.CheckPassword("new_password", r.GetNewPassword())
		case *authv1.ChangePasswordRequest:
			return accounts.CheckPassword("new_password", r.GetNewPassword())
		case *authv1.RefreshRequest:
			if strings.Count(r.GetRefreshToken(), ".") == 2 {
				return errs.Invalid("refresh_token", "must be the refresh_token of Tokens, got an access token, "+
					"or another JWT")
			}
		case *authv1.UpdateProfileRequest:
			return account.CheckProfile(profileFromProto(r.GetProfile()), r.GetUpdateMask().GetPaths())
		case *authv1.CreateApiKeyRequest:
			key, err := keyRequest(r)
			return errs.AllInvalid(err, keys.Check(key))
		case *authv1.AcceptInvitationRequest:
			return accounts.CheckInvitation(r.GetPassword(), r.GetDisplayName())
		case *authv1.InviteUserRequest:
			return admin.CheckInvitation(r.GetRoles(), r.GetAttributes())
		case *authv1.UpdateServiceAccountRequest:
			return serviceaccount.CheckPermissions(r.GetPermissions())
		case *authv1.CreateServiceAccountRequest:
			return serviceaccount.Check(r.GetName(), r.GetPermissions())
		case *authv1.StartWalletLoginRequest:
			return wallets.CheckStart(r.GetAddress(), r.GetChainId())
		}
		return nil
	}
}
