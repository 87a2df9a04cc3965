package rpc

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/deletion"
)

// DeletionServer serves purser.auth.v1.DeletionService.
type DeletionServer struct {
	authv1.UnimplementedDeletionServiceServer
	deletions *deletion.Service
	accounts  *account.Service
	attempts  *attempts.Limiter
	issuer    string
}

// NewDeletionServer returns the server. issuer is that of the access tokens, whose users are deleted.
func NewDeletionServer(d *deletion.Service, a *account.Service, l *attempts.Limiter, issuer string) *DeletionServer {
	return &DeletionServer{deletions: d, accounts: a, attempts: l, issuer: issuer}
}

// ListDeletions implements the RPC.
func (s *DeletionServer) ListDeletions(ctx context.Context,
	req *authv1.ListDeletionsRequest) (*authv1.ListDeletionsResponse, error) {
	list, next, err := s.deletions.After(ctx, req.GetAfterCursor(), page.Size(req.GetPageSize(), 500, 1000))
	if err != nil {
		return nil, err
	}
	return &authv1.ListDeletionsResponse{Deletions: deletedUsers(list), NextCursor: next, Issuer: s.issuer}, nil
}

// FindDeletedUsers implements the RPC.
func (s *DeletionServer) FindDeletedUsers(ctx context.Context,
	req *authv1.FindDeletedUsersRequest) (*authv1.FindDeletedUsersResponse, error) {
	users := make([]uuid.UUID, len(req.GetUserIds()))
	for i, text := range req.GetUserIds() {
		var err error
		if users[i], err = uuid.Parse(text); err != nil {
			return nil, errs.Invalid(fmt.Sprintf("user_ids[%d]", i), "must be a UUID")
		}
	}
	list, err := s.deletions.Find(ctx, users)
	if err != nil {
		return nil, err
	}
	return &authv1.FindDeletedUsersResponse{Deletions: deletedUsers(list), Issuer: s.issuer}, nil
}

func deletedUsers(list []deletion.Deleted) []*authv1.DeletedUser {
	users := make([]*authv1.DeletedUser, len(list))
	for i, d := range list {
		users[i] = &authv1.DeletedUser{UserId: d.User.String(), DeleteTime: timestamppb.New(d.At), Cursor: d.Cursor}
	}
	return users
}

// ReportErasure implements the RPC.
func (s *DeletionServer) ReportErasure(ctx context.Context,
	req *authv1.ReportErasureRequest) (*authv1.ReportErasureResponse, error) {
	return &authv1.ReportErasureResponse{}, s.deletions.Report(ctx, req.GetCursor())
}

// DeleteUser implements the RPC.
func (s *DeletionServer) DeleteUser(ctx context.Context,
	req *authv1.DeleteUserRequest) (*authv1.DeleteUserResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	d, err := s.deletions.Delete(ctx, caller.UserID, id)
	if err != nil {
		return nil, err
	}
	return &authv1.DeleteUserResponse{Deletion: deletionToProto(d)}, nil
}

// GetDeletion implements the RPC.
func (s *DeletionServer) GetDeletion(ctx context.Context,
	req *authv1.GetDeletionRequest) (*authv1.GetDeletionResponse, error) {
	id, err := userID(req)
	if err != nil {
		return nil, err
	}
	d, err := s.deletions.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &authv1.GetDeletionResponse{Deletion: deletionToProto(d)}, nil
}

// ListUserDeletions implements the RPC.
func (s *DeletionServer) ListUserDeletions(ctx context.Context,
	req *authv1.ListUserDeletionsRequest) (*authv1.ListUserDeletionsResponse, error) {
	query := page.NewQuery("ListUserDeletions", authn.CallerFrom(ctx).UserID.String(),
		fmt.Sprint(req.GetUnerased()))
	before, _, err := page.Parse[int64](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), 50, 200)
	list, err := s.deletions.List(ctx, deletion.Page{Before: before, Limit: limit + 1, Unerased: req.GetUnerased()})
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(d deletion.Deletion) int64 { return d.Cursor },
		deletionToProto)
	if err != nil {
		return nil, err
	}
	return &authv1.ListUserDeletionsResponse{Deletions: onPage, NextPageToken: next}, nil
}

func deletionToProto(d deletion.Deletion) *authv1.Deletion {
	p := &authv1.Deletion{UserId: d.User.String(), PlanTime: timestamp(d.PlannedFor),
		DeleteTime: timestamp(d.DeletedAt), Erased: d.Erased()}
	for _, e := range d.Services {
		p.Services = append(p.Services, &authv1.ServiceErasure{ServiceAccountId: e.Account.String(), Service: e.Name,
			EraseTime: timestamp(e.At)})
	}
	return p
}

// CancelDeletion implements the RPC. It counts a call unless the code was valid.
func (s *DeletionServer) CancelDeletion(ctx context.Context,
	req *authv1.CancelDeletionRequest) (*authv1.CancelDeletionResponse, error) {
	err := withMailedCode(ctx, s.attempts, func() error { return s.accounts.CancelDeletion(ctx, req.GetCode()) })
	return &authv1.CancelDeletionResponse{}, err
}

// CancelUserDeletion implements the RPC.
func (s *DeletionServer) CancelUserDeletion(ctx context.Context,
	req *authv1.CancelUserDeletionRequest) (*authv1.CancelUserDeletionResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	return &authv1.CancelUserDeletionResponse{}, s.deletions.Cancel(ctx, caller.UserID, id)
}
