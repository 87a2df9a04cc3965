package redisx

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// errURL carries nothing of the URL: a malformed one can't be masked.
var errURL = errors.New("redisx: the Redis URL is malformed; it should read redis://user:password@host:port/0, with " +
	"?addr=host:port for each further node of a Cluster, or redis+sentinel://user:password@host:port/0?master_name=" +
	"name with &addr=host:port for each further Sentinel; rediss is TLS. Characters such as / ? # @ in a password " +
	"have to be percent-encoded")

const (
	sentinelSuffix = "+sentinel"
	minDialTimeout = 10 * time.Millisecond
	maxDialTimeout = 30 * time.Second
)

// nodes says what is behind a URL.
type nodes int

const (
	single nodes = iota
	cluster
	sentinels
)

// parameters are those that a URL may have, and of what.
var parameters = map[string][]nodes{
	"addr":              {single, cluster, sentinels}, // with one, redis:// is a Cluster
	"cluster":           {single, cluster},
	"ca_file":           {single, cluster, sentinels},
	"dial_timeout":      {single, cluster, sentinels},
	"pool_size":         {single, cluster, sentinels},
	"master_name":       {sentinels},
	"sentinel_username": {sentinels},
	"sentinel_password": {sentinels},
}

// showable is a name of a parameter that can't be a piece of a password.
var showable = regexp.MustCompile(`^[a-zA-Z][a-zA-Z_]{1,31}$`)

// target is what a URL says.
type target struct {
	kind nodes
	// addresses are host:port of each node or Sentinel, or the path of a socket.
	addresses  []string
	user       *url.Userinfo
	db         int
	tls        bool
	serverName string // of a certificate; "" for the host of each connection
	caFile     string

	masterName                         string
	sentinelUsername, sentinelPassword string

	dialTimeout time.Duration
	poolSize    int
}

// name is how the target is shown in metrics, spans and logs.
func (t target) name() string {
	if t.kind == sentinels {
		return t.masterName + "@" + strings.Join(t.addresses, ",")
	}
	return strings.Join(t.addresses, ",")
}

func parse(address string) (target, error) {
	u, err := url.Parse(address)
	if err != nil {
		return target{}, errURL
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || u.Fragment != "" || u.Opaque != "" {
		return target{}, errURL
	}
	t := target{user: u.User}
	scheme, ofSentinels := strings.CutSuffix(u.Scheme, sentinelSuffix)
	switch t.tls = scheme == "rediss"; {
	case scheme == "unix" && !ofSentinels && u.Host == "" && u.Path != "":
		t.addresses = []string{u.Path}
	case scheme != "redis" && !t.tls:
		return target{}, errURL
	case ofSentinels:
		t.kind = sentinels
	case q.Has("addr") || q.Get("cluster") == "true":
		t.kind = cluster
	}
	if scheme != "unix" {
		if err := t.setHosts(u, q["addr"]); err != nil {
			return target{}, err
		}
	}
	if err := t.refuse(q); err != nil {
		return target{}, err
	}
	return t, t.set(q)
}

// setHosts reads the hosts and the number of the database.
func (t *target) setHosts(u *url.URL, more []string) error {
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = map[nodes]string{single: "6379", cluster: "6379", sentinels: "26379"}[t.kind]
	}
	if host == "" {
		return errURL
	}
	if strings.Contains(u.Host, ",") {
		return errors.New("redisx: the Redis URL has a list of hosts; it must name one, and each further one as " +
			"addr=host:port")
	}
	t.addresses = []string{net.JoinHostPort(host, port)}
	if t.tls && t.kind != sentinels {
		t.serverName = host
	}
	for _, addr := range more {
		h, p, err := net.SplitHostPort(addr)
		if err != nil || h == "" || p == "" || strings.Contains(addr, ",") {
			return errors.New("redisx: addr in the Redis URL must read host:port")
		}
		t.addresses = append(t.addresses, net.JoinHostPort(h, p))
	}
	path := strings.Trim(u.Path, "/")
	if path == "" {
		return nil
	}
	db, err := strconv.ParseUint(path, 10, 31)
	switch {
	case err != nil:
		return errURL
	case t.kind == cluster && db > 0:
		return errors.New("redisx: the Redis URL names a database other than 0, and a Cluster has no other")
	}
	t.db = int(db)
	return nil
}

// refuse names the parameters that would have no effect.
func (t *target) refuse(q url.Values) error {
	var refused []error
	for name, values := range q {
		of, known := parameters[name]
		switch {
		case !showable.MatchString(name):
			return errors.New("redisx: the Redis URL has a parameter that isn't known; a ? in a password has to be " +
				"percent-encoded, as %3F")
		case !known:
			refused = append(refused, fmt.Errorf("redisx: the Redis URL has the parameter %s, which has no effect; "+
				"there are %s", name, strings.Join(knownParameters(), ", ")))
		case len(of) == 1 && t.kind != sentinels:
			refused = append(refused, fmt.Errorf("redisx: the Redis URL has the parameter %s, which is only for "+
				"redis+sentinel:// and rediss+sentinel://", name))
		case !slices.Contains(of, t.kind) || name == "addr" && t.kind == single:
			refused = append(refused, fmt.Errorf("redisx: the Redis URL has the parameter %s, which is not for %s",
				name, map[nodes]string{single: "unix://", sentinels: "redis+sentinel://"}[t.kind]))
		case len(values) > 1 && name != "addr":
			refused = append(refused, fmt.Errorf("redisx: the Redis URL has the parameter %s more than once", name))
		}
	}
	slices.SortFunc(refused, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(refused...)
}

func knownParameters() []string {
	var names []string
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// set reads the parameters.
func (t *target) set(q url.Values) error {
	var wrong []error
	must := func(ok bool, rule string) {
		if !ok {
			wrong = append(wrong, errors.New("redisx: in the Redis URL "+rule))
		}
	}
	if q.Has("cluster") {
		must(q.Get("cluster") == "true" || q.Get("cluster") == "false" && !q.Has("addr"),
			"cluster must be true, or false without addr")
	}
	if q.Has("dial_timeout") {
		d, err := time.ParseDuration(q.Get("dial_timeout"))
		must(err == nil && d >= minDialTimeout && d <= maxDialTimeout,
			"dial_timeout must be a duration from 10ms to 30s, such as 2s")
		t.dialTimeout = d
	}
	if q.Has("pool_size") {
		n, err := strconv.Atoi(q.Get("pool_size"))
		must(err == nil && n >= 1 && n <= 10_000, "pool_size must be a number from 1 to 10000")
		t.poolSize = n
	}
	if t.caFile = q.Get("ca_file"); q.Has("ca_file") {
		must(t.caFile != "" && t.tls, "ca_file must be the path of a file, and the URL begin with rediss")
	}
	if t.kind == sentinels {
		t.masterName = q.Get("master_name")
		must(t.masterName != "", "master_name is missing: the name that the Sentinels have for the primary")
		t.sentinelUsername, t.sentinelPassword = q.Get("sentinel_username"), q.Get("sentinel_password")
		must(t.sentinelUsername == "" || t.sentinelPassword != "", "sentinel_username needs sentinel_password")
	}
	return errors.Join(wrong...)
}

// tlsConfig is nil for a target without TLS. It reads the authority's file.
func (t target) tlsConfig() (*tls.Config, error) {
	if !t.tls {
		return nil, nil //nolint:nilnil // as go-redis's options have it
	}
	c := &tls.Config{ServerName: t.serverName, MinVersion: tls.VersionTLS12}
	if t.caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.caFile)
	if err != nil {
		return nil, fmt.Errorf("redisx: ca_file in the Redis URL: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redisx: ca_file in the Redis URL: %s has no certificate in PEM", t.caFile)
	}
	return c, nil
}

// apply sets what the URL says in the options of a client.
func (t target) apply(o Options) Options {
	if o.PoolSize == 0 {
		o.PoolSize = t.poolSize
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = t.dialTimeout
	}
	return o
}

// node is the options of the only node.
func (t target) node(secured *tls.Config) *redis.Options {
	password, _ := t.user.Password()
	n := &redis.Options{Addr: t.addresses[0], Username: t.user.Username(), Password: password, DB: t.db,
		TLSConfig: secured}
	if strings.HasPrefix(n.Addr, "/") {
		n.Network = "unix"
	}
	return n
}
