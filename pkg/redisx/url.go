package redisx

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// errURL carries nothing of the URL: a malformed one can't be masked.
var errURL = errors.New("redisx: the Redis URL is malformed; it should read redis://user:password@host:port/0, with " +
	"?addr=host:port for each further node of a Cluster")

// word matches what can be the name of a parameter. Others aren't shown: they may be a
// part of a password.
var word = regexp.MustCompile(`^[A-Za-z_]+$`)

// parseURL returns a URL and whether it is that of a Cluster. It refuses what would be
// read by half: a list of hosts, the number of a database of a Cluster, and parameters
// that are unknown or have no effect. An error contains nothing of the URL but names of
// parameters.
func parseURL(address string) (u *url.URL, cluster bool, err error) {
	u, err = url.Parse(address)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" || u.Opaque != "" ||
		u.Fragment != "" {
		return nil, false, errURL
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, false, errURL
	}
	cluster = q.Has("addr") || q.Get("cluster") == "true"
	var invalid []error
	refuse := func(format string, args ...any) {
		invalid = append(invalid, fmt.Errorf("redisx: the Redis URL: "+format, args...))
	}
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if problem := checkParameter(name, q[name], u.Scheme); problem != "" {
			refuse("%s", problem)
		}
	}
	if strings.Contains(u.Host, ",") {
		refuse("a list of hosts isn't read; give one, and addr=host:port for each further node of a Cluster")
	}
	if u.Scheme != "unix" {
		path := strings.Trim(u.Path, "/")
		database, err := strconv.Atoi(path)
		switch {
		case path != "" && (err != nil || database < 0 || q.Has("db")):
			refuse("the path must be the number of a database, as in redis://host:6379/0")
		case cluster && (database > 0 || q.Has("db")):
			refuse("a Cluster has only the database 0")
		}
	}
	if len(invalid) > 0 {
		return nil, false, errors.Join(invalid...)
	}
	q.Del("cluster")
	u.RawQuery = q.Encode()
	return u, cluster, nil
}

// checkParameter returns what is wrong with a parameter, "" if nothing is.
func checkParameter(name string, given []string, scheme string) string {
	if !word.MatchString(name) {
		return "the query must consist of name=value; escape ? and & in a password as %3F and %26"
	}
	if len(given) > 1 && name != "addr" {
		return fmt.Sprintf("%s is given %d times", name, len(given))
	}
	switch name {
	case "addr":
		for _, addr := range given {
			if _, port, err := net.SplitHostPort(addr); err != nil || port == "" || strings.Contains(addr, ",") {
				return "addr must be the host:port of one node; repeat it for each"
			}
		}
	case "cluster":
		if given[0] != "true" && given[0] != "false" {
			return "cluster must be true or false"
		}
	case "db":
		if n, err := strconv.Atoi(given[0]); err != nil || n < 0 {
			return "db must be the number of a database"
		}
	case "protocol":
		if given[0] != "2" && given[0] != "3" {
			return "protocol must be 2 or 3"
		}
	case "skip_verify":
		if _, err := strconv.ParseBool(given[0]); err != nil || scheme != "rediss" {
			return "skip_verify must be true or false, and needs rediss://"
		}
	case "client_name", "max_retries", "min_retry_backoff", "max_retry_backoff", "dial_timeout", "read_timeout",
		"write_timeout", "pool_size", "pool_timeout", "conn_max_idle_time", "idle_timeout", "max_redirects",
		"dialer_retries":
		return name + " has no effect: the service sets it itself"
	default:
		return fmt.Sprintf("there is no parameter %.40q", name)
	}
	return ""
}
