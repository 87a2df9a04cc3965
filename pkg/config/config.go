// Package config reads a service's configuration from environment variables
// named PURSER_*, tells every mistake at once, and prints what is in force
// with the secrets masked.
//
// Any variable can come from a file instead: PURSER_X_FILE names a file whose
// content, less the final newline, is the value of PURSER_X. Setting both is
// a mistake.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix of every variable.
const Prefix = "PURSER_"

// Secret is a value that must not be shown: it prints as "***", also in JSON
// and in logs. Use Reveal where the value itself is needed.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText hides the value from encoders and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// Load fills dst, a pointer to a struct with `env` tags, from environ (in
// os.Environ's form). When dst has a method Validate() error it is called
// too. The error joins every mistake found, one a line.
func Load(environ []string, dst any) error {
	vars, fileErr := fromFiles(env.ToMap(environ))
	var mistakes []error
	if fileErr != nil {
		mistakes = append(mistakes, fileErr)
	}
	if err := env.ParseWithOptions(dst, env.Options{Environment: vars, Prefix: Prefix}); err != nil {
		mistakes = append(mistakes, plain(err)...)
	}
	if v, ok := dst.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			mistakes = append(mistakes, err)
		}
	}
	if len(mistakes) > 0 {
		return fmt.Errorf("configuration:\n%w", errors.Join(mistakes...))
	}
	return nil
}

// plain takes the library's joined errors apart, one mistake each.
func plain(err error) []error {
	var agg env.AggregateError
	if errors.As(err, &agg) {
		return agg.Errors
	}
	return []error{err}
}

func fromFiles(vars map[string]string) (map[string]string, error) {
	var mistakes []error
	for name, path := range vars {
		target, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || !strings.HasPrefix(name, Prefix) {
			continue
		}
		if _, both := vars[target]; both {
			mistakes = append(mistakes, fmt.Errorf("%s and %s are both set; set one", target, name))
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", name, err))
			continue
		}
		vars[target] = strings.TrimRight(string(data), "\r\n")
	}
	return vars, errors.Join(mistakes...)
}

// Print writes the effective configuration to w as NAME=value lines, sorted,
// secrets masked.
func Print(w io.Writer, cfg any) error {
	var lines []string
	v := reflect.ValueOf(cfg)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	walk(v, Prefix, &lines)
	slices.Sort(lines)
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

func walk(v reflect.Value, prefix string, lines *[]string) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if p, ok := f.Tag.Lookup("envPrefix"); ok {
			walk(v.Field(i), prefix+p, lines)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name == "" || name == "-" {
			if f.Anonymous && f.Type.Kind() == reflect.Struct {
				walk(v.Field(i), prefix, lines)
			}
			continue
		}
		*lines = append(*lines, fmt.Sprintf("%s%s=%v", prefix, name, v.Field(i).Interface()))
	}
}
