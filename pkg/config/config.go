// Package config reads a service's configuration from environment variables
// named PURSER_*, tells every mistake at once, and prints what is in force
// with the secrets masked.
//
// Any variable can come from a file instead: PURSER_X_FILE names a file whose
// content, less the newlines at its end, is the value of PURSER_X. Setting both is
// a mistake, and so is an empty file.
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
// needed. The limit is reflection: printed as an unexported field of a struct,
// or used as a map's key in JSON, it shows.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format hides the value from every verb, the wrong ones too: fmt answers
// those with the bare value.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

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
		mistakes = append(mistakes, plain(err, dst, vars)...)
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

// plain takes the library's joined errors apart, one mistake each, and puts
// the variable's name where the library has the Go field's.
func plain(err error, dst any, vars map[string]string) []error {
	mistakes := []error{err}
	var agg env.AggregateError
	if errors.As(err, &agg) {
		mistakes = agg.Errors
	}
	for i, m := range mistakes {
		var parse env.ParseError
		if errors.As(m, &parse) {
			mistakes[i] = fmt.Errorf("%s: %w", variable(parse, dst, vars), parse.Err)
		}
	}
	return mistakes
}

// variable names what a parse error is about: more than one when several
// fields of that name and type are set.
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
	var mistakes []error
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		target, isFile := strings.CutSuffix(name, "_FILE")
		if !isFile || !strings.HasPrefix(name, Prefix) {
			continue
		}
		if _, both := vars[target]; both {
			mistakes = append(mistakes, fmt.Errorf("%s and %s are both set; set one", target, name))
			continue
		}
		data, err := os.ReadFile(vars[name])
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("%s: %w", name, err))
			continue
		}
		if vars[target] = strings.TrimRight(string(data), "\r\n"); vars[target] == "" {
			mistakes = append(mistakes, fmt.Errorf("%s: the file %s is empty", name, vars[name]))
		}
	}
	return vars, errors.Join(mistakes...)
}

// Print writes the effective configuration to w as NAME=value lines, sorted,
// secrets masked.
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

// injected are variables that Kubernetes sets for Services whose name begins
// with purser.
var injected = regexp.MustCompile(`_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)$`)

// Unread lists the variables of environ under Prefix that cfg has no field for:
// misspelt, as a rule, or another program's.
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

// HostPort reports a mistake of a variable whose value is set and isn't
// host:port.
func HostPort(variable, value string) error {
	if _, port, err := net.SplitHostPort(value); value != "" && (err != nil || port == "") {
		return fmt.Errorf("%s must read host:port", variable)
	}
	return nil
}

// File reports a mistake of a variable that names a file which can't be read.
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

// walk visits the fields of v, a struct or a pointer to one, that have a
// variable, as the parser finds them.
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
