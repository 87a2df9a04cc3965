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

// Profile is what a user states about themselves; any of it may be empty.
type Profile struct {
	DisplayName, FirstName, LastName string
	Bio                              string
	TimeZone                         string // IANA
	Currency                         string // ISO 4217
	PictureURL                       string // https
}

// Notifications are a user's choices of optional notifications; nil where no choice was made.
type Notifications struct {
	PriceAlerts   *bool `json:",omitempty"`
	WeeklySummary *bool `json:",omitempty"`
	ProductNews   *bool `json:",omitempty"`
}

// paths are the names of a Profile's fields in the API, in the order of at.
func paths() []string {
	return []string{"display_name", "first_name", "last_name", "bio", "time_zone", "preferred_currency", "picture_url"}
}

// at returns the field of a path, nil for an unknown one.
func (p *Profile) at(path string) *string {
	fields := []*string{&p.DisplayName, &p.FirstName, &p.LastName, &p.Bio, &p.TimeZone, &p.Currency, &p.PictureURL}
	if i := slices.Index(paths(), path); i >= 0 {
		return fields[i]
	}
	return nil
}

// UpdateProfile sets the fields of a user's profile that mask names, and returns the whole profile. errs.Invalid.
func (s *Service) UpdateProfile(ctx context.Context, user uuid.UUID, p Profile, mask []string) (Profile, error) {
	if len(mask) == 0 {
		return Profile{}, errs.Invalid("update_mask", "must have a path")
	}
	for _, path := range mask {
		if p.at(path) == nil {
			return Profile{}, errs.Invalid("update_mask", "must have no other paths than "+strings.Join(paths(), ", "))
		}
	}
	if err := p.normalize(mask, "profile."); err != nil {
		return Profile{}, err
	}
	u, err := s.update(ctx, user, audit.ProfileUpdated, func(u *User) {
		for _, path := range mask {
			*u.at(path) = *p.at(path)
		}
	})
	return u.Profile, err
}

// update stores a user's own change of their profile and notifications, and returns the result.
func (s *Service) update(ctx context.Context, id uuid.UUID, t audit.Type, change func(*User)) (u User, err error) {
	err = s.Store.Change(ctx, id, Include{}, func(state State, _ time.Time) (Changes, error) {
		u = state.User
		change(&u)
		e := audit.Event{Type: t, Actor: id, Subject: id}
		return Changes{Profile: &u.Profile, Notifications: &u.Notifications, Events: []audit.Event{e}}, nil
	})
	return u, err
}

// normalize trims the fields of these paths and brings them into their stored form. errs.Invalid on the first field
// that breaks its rule, named prefix and path.
func (p *Profile) normalize(paths []string, prefix string) error {
	for _, path := range paths {
		field := p.at(path)
		*field = strings.TrimSpace(*field)
		if *field == "" {
			continue
		}
		if rule := brokenRule(path, field); rule != "" {
			return errs.Invalid(prefix+path, rule)
		}
	}
	return nil
}

// brokenRule returns the rule that a field breaks, "" for none, and brings a currency into upper case.
func brokenRule(path string, field *string) string {
	switch path {
	case "bio":
		if strings.ContainsFunc(*field, func(r rune) bool { return r != '\n' && invisible(r) }) {
			return "must not contain control characters except line breaks"
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
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
			strings.ContainsFunc(*field, invisible) {
			return "must be an https URL without a user"
		}
	default:
		if strings.ContainsFunc(*field, invisible) {
			return "must not contain control characters"
		}
	}
	return ""
}

// invisible reports whether r is a control character, or one that reverses the direction of the text after it (UTR 36,
// section 2.5).
func invisible(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// UpdateNotifications stores the choices that n makes, and returns all of the user's.
func (s *Service) UpdateNotifications(ctx context.Context, user uuid.UUID, n Notifications) (Notifications, error) {
	u, err := s.update(ctx, user, audit.NotificationsUpdated, func(u *User) {
		for _, choice := range []struct{ from, to **bool }{
			{&n.PriceAlerts, &u.Notifications.PriceAlerts},
			{&n.WeeklySummary, &u.Notifications.WeeklySummary},
			{&n.ProductNews, &u.Notifications.ProductNews},
		} {
			if *choice.from != nil {
				*choice.to = *choice.from
			}
		}
	})
	return u.Notifications, err
}
