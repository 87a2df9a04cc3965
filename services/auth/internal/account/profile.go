package account

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Profile is what a user states about themselves; any of it may be empty.
type Profile struct {
	DisplayName, FirstName, LastName string
	Bio                              string
	PictureURL                       string // https
}

// paths are the names of a Profile's fields in the API, in the order of at.
func paths() []string {
	return []string{"display_name", "first_name", "last_name", "bio", "picture_url"}
}

// at returns the field of a path, nil for an unknown one.
func (p *Profile) at(path string) *string {
	fields := []*string{&p.DisplayName, &p.FirstName, &p.LastName, &p.Bio, &p.PictureURL}
	if i := slices.Index(paths(), path); i >= 0 {
		return fields[i]
	}
	return nil
}

// UpdateProfile sets the fields of a user's profile that mask names, and returns the whole profile. errs.Invalid.
func (s *Service) UpdateProfile(ctx context.Context, user uuid.UUID, p Profile, mask []string) (Profile, error) {
	p, err := p.normalized(mask)
	if err != nil {
		return Profile{}, err
	}
	err = s.Store.Change(ctx, user, Include{}, func(state State, _ time.Time) (Changes, error) {
		changed := state.Profile
		for _, path := range mask {
			*changed.at(path) = *p.at(path)
		}
		p = changed
		e := audit.Event{Type: audit.ProfileUpdated, Actor: user, Subject: user}
		return Changes{Profile: &changed, Events: []audit.Event{e}}, nil
	})
	return p, err
}

// CheckProfile returns errs.Invalid with every mistake in a request to set the fields of mask.
func CheckProfile(p Profile, mask []string) error {
	_, err := p.normalized(mask)
	return err
}

// normalized returns p with the fields that mask names in their stored form.
func (p Profile) normalized(mask []string) (Profile, error) {
	if len(mask) == 0 {
		return p, errs.Invalid("update_mask", "must name the fields to set, of "+strings.Join(paths(), ", "))
	}
	for _, path := range mask {
		if p.at(path) == nil {
			return p, errs.Invalid("update_mask", fmt.Sprintf("must name fields of %s only, %s",
				strings.Join(paths(), ", "), errs.Given(path)))
		}
	}
	err := p.normalize(mask, "profile.")
	return p, err
}

// normalize trims the fields of these paths. errs.Invalid on each field that breaks its rule, named prefix and path.
func (p *Profile) normalize(paths []string, prefix string) error {
	var broken []error
	for _, path := range paths {
		field := p.at(path)
		*field = strings.TrimSpace(*field)
		if *field == "" {
			continue
		}
		if rule := brokenRule(path, *field); rule != "" {
			broken = append(broken, errs.Invalid(prefix+path, rule))
		}
	}
	return errs.AllInvalid(broken...)
}

// brokenRule returns the rule that a field breaks, "" for none.
func brokenRule(path, field string) string {
	switch path {
	case "bio":
		if strings.ContainsFunc(field, func(r rune) bool { return r != '\n' && invisible(r) }) {
			return "must not contain control characters except line breaks; " + firstInvisible(field, "\n")
		}
	case "picture_url":
		u, err := url.Parse(field)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil ||
			strings.ContainsFunc(field, invisible) {
			return "must be an https URL without a user, for example \"https://pictures.example/ada.png\""
		}
	default:
		if strings.ContainsFunc(field, invisible) {
			return "must not contain control characters; " + firstInvisible(field, "")
		}
	}
	return ""
}

// firstInvisible names the first invisible character of a text, other than those of except.
func firstInvisible(text, except string) string {
	for i, r := range []rune(text) {
		if invisible(r) && !strings.ContainsRune(except, r) {
			return fmt.Sprintf("character %d is %U", i+1, r)
		}
	}
	return ""
}

// invisible reports whether r is a control character, or one that reverses the direction of the text after it (UTR 36,
// section 2.5).
func invisible(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
