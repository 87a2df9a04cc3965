package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

// mutations returns every method of the services for operators that changes something.
func mutations(t *testing.T) (methods []protoreflect.MethodDescriptor) {
	t.Helper()
	for _, name := range []string{authv1.AdminService_ServiceDesc.ServiceName,
		authv1.DeletionService_ServiceDesc.ServiceName, jobsv1.JobService_ServiceDesc.ServiceName} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatal(err)
		}
		all := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range all.Len() {
			options, _ := all.Get(i).Options().(*descriptorpb.MethodOptions)
			rule, _ := access.Lookup(fmt.Sprintf("/%s/%s", name, all.Get(i).Name()))
			changes := options.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
			if changes && strings.HasPrefix(rule.Permission, "admin:") {
				methods = append(methods, all.Get(i))
			}
		}
	}
	return methods
}

// operation returns a valid request of a method, about somebody and a service account, and its empty response.
func operation(t *testing.T, m protoreflect.MethodDescriptor, user, account, kid string) (request,
	response proto.Message) {
	t.Helper()
	switch m.Name() {
	case "RotateSigningKey":
		return &authv1.RotateSigningKeyRequest{}, &authv1.RotateSigningKeyResponse{}
	case "RevokeSigningKey":
		return &authv1.RevokeSigningKeyRequest{Kid: kid}, &authv1.RevokeSigningKeyResponse{}
	case "SetRoles":
		return &authv1.SetRolesRequest{UserId: user, Roles: []string{"admin"}}, &authv1.SetRolesResponse{}
	case "SetAttributes":
		return &authv1.SetAttributesRequest{UserId: user}, &authv1.SetAttributesResponse{}
	case "DisableUser":
		return &authv1.DisableUserRequest{UserId: user}, &authv1.DisableUserResponse{}
	case "EnableUser":
		return &authv1.EnableUserRequest{UserId: user}, &authv1.EnableUserResponse{}
	case "InviteUser":
		return &authv1.InviteUserRequest{Email: "accomplice@example.com", Roles: []string{"admin"}},
			&authv1.InviteUserResponse{}
	case "RevokeUserSession":
		return &authv1.RevokeUserSessionRequest{UserId: user, SessionId: uuid.NewString()},
			&authv1.RevokeUserSessionResponse{}
	case "RevokeUserSessions":
		return &authv1.RevokeUserSessionsRequest{UserId: user}, &authv1.RevokeUserSessionsResponse{}
	case "RevokeUserApiKey":
		return &authv1.RevokeUserApiKeyRequest{UserId: user, ApiKeyId: uuid.NewString()},
			&authv1.RevokeUserApiKeyResponse{}
	case "RemoveSecondFactor":
		return &authv1.RemoveSecondFactorRequest{UserId: user}, &authv1.RemoveSecondFactorResponse{}
	case "CancelSecondFactorRemoval":
		return &authv1.CancelSecondFactorRemovalRequest{UserId: user}, &authv1.CancelSecondFactorRemovalResponse{}
	case "UpdateServiceAccount":
		return &authv1.UpdateServiceAccountRequest{ServiceAccountId: account, Permissions: permissionsOf("admin")},
			&authv1.UpdateServiceAccountResponse{}
	case "EnableServiceAccount":
		return &authv1.EnableServiceAccountRequest{ServiceAccountId: account}, &authv1.EnableServiceAccountResponse{}
	case "CreateServiceAccount":
		return &authv1.CreateServiceAccountRequest{Name: "accomplice", Permissions: []string{"wallet:read"}},
			&authv1.CreateServiceAccountResponse{}
	case "RotateServiceAccountSecret":
		return &authv1.RotateServiceAccountSecretRequest{ServiceAccountId: account},
			&authv1.RotateServiceAccountSecretResponse{}
	case "DisableServiceAccount":
		return &authv1.DisableServiceAccountRequest{ServiceAccountId: account}, &authv1.DisableServiceAccountResponse{}
	case "DeleteUser":
		return &authv1.DeleteUserRequest{UserId: user}, &authv1.DeleteUserResponse{}
	case "CancelUserDeletion":
		return &authv1.CancelUserDeletionRequest{UserId: user}, &authv1.CancelUserDeletionResponse{}
	case "TriggerJob":
		return &jobsv1.TriggerJobRequest{Job: "seal_audit"}, &jobsv1.TriggerJobResponse{}
	}
	t.Fatalf("%s is new: add a valid request", m.FullName())
	return nil, nil
}

func invoke(ctx context.Context, conn grpc.ClientConnInterface, m protoreflect.MethodDescriptor,
	request, response proto.Message) error {
	return conn.Invoke(ctx, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), request, response)
}
