package account

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/currency"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Profile is what users say of themselves; any of it may be empty.
type Profile struct {
	DisplayName, FirstName, LastName string
	Bio                              string
	TimeZone                         string // IANA
	Currency                         string // ISO 4217
	PictureURL                       string // https
}

// Notifications are what a user wants to be told beside what concerns the
// safety of the account; a choice that was never made is nil.
type Notifications struct {
	PriceAlerts   *bool `json:",omitempty"`
	WeeklySummary *bool `json:",omitempty"`
	ProductNews   *bool `json:",omitempty"`
}

// paths of a Profile, as callers name its fields.
func paths() []string {
	return []string{"display_name", "first_name", "last_name", "bio", "time_zone", "preferred_currency", "picture_url"}
}

// at returns the field of a path, nil for one that there isn't.
func (p *Profile) at(path string) *string {
	fields := []*string{&p.DisplayName, &p.FirstName, &p.LastName, &p.Bio, &p.TimeZone, &p.Currency, &p.PictureURL}
	if i := slices.Index(paths(), path); i >= 0 {
		return fields[i]
	}
	return nil
}

// UpdateProfile sets the fields of a user's profile that paths name, and
// returns what it came to.
func (s *Service) UpdateProfile(ctx context.Context, user uuid.UUID, p Profile, named []string) (Profile, error) {
	if len(named) == 0 {
		return Profile{}, errs.Invalid("update_mask", "must have a path")
	}
	for _, path := range named {
		if p.at(path) == nil {
			return Profile{}, errs.Invalid("update_mask", "must have no other paths than "+strings.Join(paths(), ", "))
		}
	}
	if err := p.tidy(named, "profile."); err != nil {
		return Profile{}, err
	}
	u, err := s.Store.Update(ctx, user, func(u *User) {
		for _, path := range named {
			*u.at(path) = *p.at(path)
		}
	}, audit.Event{Type: audit.ProfileUpdated, Actor: user, Subject: user})
	return u.Profile, err
}

// tidy brings the fields of these paths into the form that they are kept in,
// and says which breaks a rule, by its path after prefix.
func (p *Profile) tidy(named []string, prefix string) error {
	for _, path := range named {
		field := p.at(path)
		*field = strings.TrimSpace(*field)
		if rule := broken(path, field); rule != "" && *field != "" {
			return errs.Invalid(prefix+path, rule)
		}
	}
	return nil
}

// broken is the rule that a field breaks, "" for none.
func broken(path string, field *string) string {
	switch path {
	case "bio":
		if strings.ContainsFunc(*field, func(r rune) bool { return r != '\n' && unseen(r) }) {
			return "must not contain control characters but line ends"
		}
	case "time_zone":
		if _, err := time.LoadLocation(*field); err != nil || *field == "Local" {
			return `must be a time zone of the IANA database, such as "Europe/Zurich"`
		}
	case "preferred_currency":
		unit, err := currency.ParseISO(*field)
		if err != nil {
			return `must be an ISO 4217 code, such as "CHF"`
		}
		*field = unit.String()
	case "picture_url":
		u, err := url.Parse(*field)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsFunc(*field, unseen) {
			return "must be an https URL without a user"
		}
	default:
		if strings.ContainsFunc(*field, unseen) {
			return "must not contain control characters"
		}
	}
	return ""
}

// unseen are the control characters, and those that make text after them read
// from the other side (UTR 36, section 2.5).
func unseen(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// UpdateNotifications sets the choices that are made in n, and returns all.
func (s *Service) UpdateNotifications(ctx context.Context, user uuid.UUID, n Notifications) (Notifications, error) {
	u, err := s.Store.Update(ctx, user, func(u *User) {
		for _, choice := range []struct{ now, is **bool }{
			{&n.PriceAlerts, &u.Notifications.PriceAlerts},
			{&n.WeeklySummary, &u.Notifications.WeeklySummary},
			{&n.ProductNews, &u.Notifications.ProductNews},
		} {
			if *choice.now != nil {
				*choice.is = *choice.now
			}
		}
	}, audit.Event{Type: audit.NotificationsUpdated, Actor: user, Subject: user})
	return u.Notifications, err
}
