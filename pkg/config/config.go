// Package config reads a program's configuration from environment variables
// named PURSER_*, reports every error in it at once, and prints the effective
// settings with the secrets masked.
//
// Any variable can come from a file instead: PURSER_X_FILE names a file whose
// content, less the newlines at its end, is the value of PURSER_X. Setting both is
// an error, and so is an empty file.
package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix of every variable.
const Prefix = "PURSER_"

// Secret is a value that must not be shown: it prints as "***" with every verb
// of package fmt, in JSON and in logs. Use Reveal where the value itself is
// needed.
//
// Limits: fmt shows it as an unexported field of a struct, and JSON as a key of
// a map.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format hides the value from every verb; fmt would print the bare value for one
// that doesn't fit a string, such as %d.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText hides the value from encoders and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value.
func (s Secret) Reveal() string { return string(s) }

// ErrorHeading is the first line of Load's errors.
const ErrorHeading = "configuration:"

// Load fills dst, a pointer to a struct with `env` tags, from environ, in the
// form of os.Environ. If dst has a method Validate() error it is called then.
// The error joins all that were found, one a line, and contains no value of a
// Secret.
func Load(environ []string, dst any) error {
	vars, fileErr := fromFiles(env.ToMap(environ))
	var invalid []error
	if fileErr != nil {
		invalid = append(invalid, fileErr)
	}
	if err := env.ParseWithOptions(dst, env.Options{Environment: vars, Prefix: Prefix}); err != nil {
		invalid = append(invalid, plain(err, dst, vars)...)
	}
	if v, ok := dst.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			invalid = append(invalid, err)
		}
	}
	if len(invalid) > 0 {
		return fmt.Errorf("%s\n%w", ErrorHeading, errors.Join(invalid...))
	}
	return nil
}

// plain returns the errors that the parser has joined, each with the variable's
// name in place of the Go field's.
func plain(err error, dst any, vars map[string]string) []error {
	invalid := []error{err}
	var agg env.AggregateError
	if errors.As(err, &agg) {
		invalid = agg.Errors
	}
	for i, e := range invalid {
		var parse env.ParseError
		if errors.As(e, &parse) {
			invalid[i] = fmt.Errorf("%s: %w", variable(parse, dst, vars), parse.Err)
		}
	}
	return invalid
}

// variable returns the name of the variable of a parse error; several names
// when fields of the same name and type are set, which the error doesn't tell
// apart.
func variable(parse env.ParseError, dst any, vars map[string]string) string {
	var names []string
	walk(reflect.ValueOf(dst), Prefix, func(name string, f reflect.StructField, _ reflect.Value) {
		if _, set := vars[name]; set && f.Name == parse.Name && f.Type == parse.Type {
			names = append(names, name)
		}
	})
	if len(names) == 0 {
		return parse.Name // a default that doesn't parse
	}
	return strings.Join(names, " or ")
}

func fromFiles(vars map[string]string) (map[string]string, error) {
	var invalid []error
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		target, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || !strings.HasPrefix(name, Prefix) {
			continue
		}
		if _, both := vars[target]; both {
			invalid = append(invalid, fmt.Errorf("%s and %s are both set; set one", target, name))
			continue
		}
		data, err := os.ReadFile(vars[name])
		if err != nil {
			invalid = append(invalid, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if vars[target] = strings.TrimRight(string(data), "\r\n"); vars[target] == "" {
			invalid = append(invalid, fmt.Errorf("%s: the file %s is empty", name, vars[name]))
		}
	}
	return vars, errors.Join(invalid...)
}

// Print writes the effective configuration to w: lines of NAME=value, sorted by
// name, with the secrets masked.
func Print(w io.Writer, cfg any) error {
	var lines []string
	walk(reflect.ValueOf(cfg), Prefix, func(name string, _ reflect.StructField, v reflect.Value) {
		lines = append(lines, fmt.Sprintf("%s=%v", name, v.Interface()))
	})
	slices.Sort(lines)
	for _, l := range lines {
		if _, err := fmt.Fprintln(w, l); err != nil {
			return err
		}
	}
	return nil
}

// injected matches the variables that Kubernetes sets in every container for a
// Service whose name begins with "purser".
var injected = regexp.MustCompile(`_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)$`)

// Unread returns the names of the variables in environ that begin with Prefix
// and have no field in cfg, sorted: misspelt ones, as a rule, or another
// program's.
func Unread(environ []string, cfg any) []string {
	known := map[string]bool{}
	walk(reflect.ValueOf(cfg), Prefix, func(name string, _ reflect.StructField, _ reflect.Value) {
		known[name], known[name+"_FILE"] = true, true
	})
	var unread []string
	for name := range env.ToMap(environ) {
		if strings.HasPrefix(name, Prefix) && !known[name] && !injected.MatchString(name) {
			unread = append(unread, name)
		}
	}
	slices.Sort(unread)
	return unread
}

// HostPort returns an error, naming the variable, when its value is set and is
// not host:port.
func HostPort(variable, value string) error {
	if _, port, err := net.SplitHostPort(value); value != "" && (err != nil || port == "") {
		return fmt.Errorf("%s must read host:port", variable)
	}
	return nil
}

// File returns an error, naming the variable, when its value is the path of a
// file that can't be read. An empty path is no error.
func File(variable, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	return f.Close()
}

// walk calls visit for each field of v, a struct or a pointer to one, that has a
// variable, by the parser's own rules.
func walk(v reflect.Value, prefix string, visit func(name string, f reflect.StructField, v reflect.Value)) {
	v = reflect.Indirect(v)
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		if name != "" && name != "-" {
			visit(prefix+name, f, v.Field(i))
			continue
		}
		walk(v.Field(i), prefix+f.Tag.Get("envPrefix"), visit)
	}
}
