package mail_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// slowMails is a mail.Store of one mail whose writes take their time, and the server that takes the mail.
type slowMails struct {
	takes    time.Duration
	sent     int
	claimed  bool
	recorded bool
}

func (s *slowMails) Claim(_ context.Context, _ int, _ time.Duration) ([]mail.Claimed, error) {
	if s.claimed {
		return nil, nil
	}
	s.claimed = true
	return []mail.Claimed{{Mail: mail.Mail{ID: uuid.New()}, Attempt: 1}}, nil
}

func (s *slowMails) MarkSent(ctx context.Context, _ uuid.UUID) error {
	err := deadline.Pause(ctx, s.takes)
	s.recorded = err == nil
	return err
}

func (s *slowMails) Retry(context.Context, uuid.UUID, string, time.Duration) error { return nil }
func (s *slowMails) MarkFailed(context.Context, uuid.UUID, string) error           { return nil }

func (s *slowMails) Send(context.Context, mail.Mail) error {
	s.sent++
	return nil
}

// A mail that was sent, and of which that isn't recorded, is sent a second time.
func TestASlowDatabaseHasNoMailSentTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		takes    time.Duration
		recorded bool
	}{
		"half a minute":                {30 * time.Second, true},
		"longer than the mail's lease": {2 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowMails{takes: tc.takes}
				err := mail.NewOutbox(s, s, 3, slog.New(slog.DiscardHandler)).SendDue(t.Context())
				if s.sent != 1 || s.recorded != tc.recorded || (err == nil) != tc.recorded {
					t.Errorf("sent %d times, recorded %v: %v", s.sent, s.recorded, err)
				}
			})
		})
	}
}
