package postgres

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// errURL carries nothing of the URL: a malformed one can't be masked.
var errURL = errors.New("postgres: the database URL is malformed; it should read " +
	"postgres://user:password@host:port/database")

// word matches what can be the name of a parameter. Others aren't shown: they may be a
// part of a password.
var word = regexp.MustCompile(`^[A-Za-z_]+$`)

// values of parameters that can have only these.
func values() map[string][]string {
	return map[string][]string{
		"sslmode":              {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
		"sslnegotiation":       {"postgres", "direct"},
		"sslsni":               {"0", "1"},
		"sslcertmode":          {"disable", "allow", "require"},
		"channel_binding":      {"disable", "prefer", "require"},
		"target_session_attrs": {"any", "read-write", "read-only", "primary", "standby", "prefer-standby"},
	}
}

// files are parameters that name files.
func files() []string { return []string{"sslrootcert", "sslcert", "sslkey", "passfile"} }

// others are the further parameters that have an effect.
func others() []string {
	return []string{"host", "port", "dbname", "user", "password", "sslpassword", "require_auth",
		"min_protocol_version", "max_protocol_version", "krbspn", "krbsrvname", "service", "servicefile",
		"search_path", "role", "options"}
}

// ignoredParameters says what to use for a parameter whose value would not count.
func ignoredParameters() map[string]string {
	const pooler = "PURSER_DATABASE_PGBOUNCER decides"
	return map[string]string{
		"application_name": "the service names itself", "timezone": "it is always UTC",
		"connect_timeout": "it is always 3 s", "pool_max_conns": "use PURSER_DATABASE_MAX_CONNS",
		"statement_timeout":                   "use PURSER_DATABASE_STATEMENT_TIMEOUT",
		"lock_timeout":                        "use PURSER_DATABASE_LOCK_TIMEOUT",
		"idle_in_transaction_session_timeout": "it follows from PURSER_DATABASE_STATEMENT_TIMEOUT",
		"default_query_exec_mode":             pooler,
		"statement_cache_capacity":            pooler, "description_cache_capacity": pooler,
	}
}

// parseURL returns the settings of a URL. An error names what is wrong with a parameter,
// and contains nothing else of the URL.
func parseURL(address string) (*pgx.ConnConfig, error) {
	u, err := checkURL(address)
	if err != nil {
		return nil, err
	}
	q := u.Query()
	for _, name := range files() {
		path := q.Get(name)
		if path == "" || name == "sslrootcert" && path == "system" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("postgres: the database URL: %s: %w", name, err)
		}
		_ = f.Close()
	}
	config, err := pgx.ParseConfig(u.String())
	if err != nil && slices.ContainsFunc(files(), q.Has) {
		return nil, errors.New("postgres: the database URL: a file of sslrootcert, sslcert or sslkey has no " +
			"certificate or key in PEM, or they don't belong together")
	}
	if err != nil {
		return nil, errURL
	}
	return config, nil
}

// checkURL checks what can be told without the files that a URL names, and returns the URL
// with its defaults.
func checkURL(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Opaque != "" {
		return nil, errURL
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errURL
	}
	var invalid []error
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if err := checkParameter(name, q[name]); err != nil {
			invalid = append(invalid, fmt.Errorf("postgres: the database URL: %w", err))
		}
	}
	hosts := strings.Split(u.Host, ",")
	if len(hosts) > 1 && slices.ContainsFunc(hosts, func(h string) bool { return h == "" || h[0] == ':' }) {
		invalid = append(invalid, errors.New("postgres: the database URL: a host of the list is empty"))
	}
	if len(invalid) > 0 {
		return nil, errors.Join(invalid...)
	}
	// Of several hosts the service needs the one that takes writes.
	if (len(hosts) > 1 || strings.Contains(q.Get("host"), ",")) && !q.Has("target_session_attrs") {
		q.Set("target_session_attrs", "read-write")
	}
	u.RawQuery = q.Encode()
	withoutFiles := *u
	for _, name := range files() {
		q.Del(name)
	}
	withoutFiles.RawQuery = q.Encode()
	if _, err := pgx.ParseConfig(withoutFiles.String()); err != nil {
		return nil, errURL
	}
	return u, nil
}

// checkParameter returns what is wrong with a parameter. It doesn't show the value, which
// may be a part of a password that wasn't escaped.
func checkParameter(name string, given []string) error {
	if !word.MatchString(name) {
		return errors.New("the query must consist of name=value; escape ? and & in a password as %3F and %26")
	}
	if len(given) > 1 {
		return fmt.Errorf("%s is given %d times", name, len(given))
	}
	if allowed, ok := values()[name]; ok {
		if !slices.Contains(allowed, given[0]) {
			return fmt.Errorf("%s must be one of %s", name, strings.Join(allowed, ", "))
		}
		return nil
	}
	if why, ok := ignoredParameters()[strings.ToLower(name)]; ok {
		return fmt.Errorf("%s has no effect: %s", name, why)
	}
	if !slices.Contains(files(), name) && !slices.Contains(others(), name) {
		return fmt.Errorf("there is no parameter %.40q", name)
	}
	return nil
}
