package redisx_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// A parameter that has no effect would be believed to have one.
func TestAParameterOfTheURLIsHonouredOrRefusedByName(t *testing.T) {
	for url, want := range map[string]string{
		"redis://h/0?read_timeout=3s":                               "parameter read_timeout, which has no effect",
		"redis://h/0?max_retries=3&skip_verify=true":                "skip_verify",
		"redis://h/0?client_name=x":                                 "client_name",
		"rediss://h/0?cafile=/x":                                    "there are addr, ca_file, cluster, dial_t",
		"redis://h/0?master_name=m":                                 "master_name, which is only for redis+sentinel",
		"redis://h/0?sentinel_password=hunter2":                     "sentinel_password, which is only for redis+sent",
		"redis+sentinel://h/0":                                      "master_name is missing",
		"redis+sentinel://h/0?master_name=m&cluster=true":           "cluster, which is not for redis+sentinel://",
		"redis+sentinel://h/0?master_name=m&sentinel_username=hunt": "sentinel_username needs sentinel_password",
		"redis+sentinel://h/0?master_name=m&master_name=n":          "master_name more than once",
		"redis://h/0?ca_file=/ca.pem":                               "ca_file must be the path of a file, and the",
		"rediss://h/0?ca_file=":                                     "ca_file must be the path",
		"redis://h/0?dial_timeout=soon":                             "dial_timeout must be a duration from 10ms",
		"redis://h/0?dial_timeout=3":                                "dial_timeout must be a duration",
		"redis://h/0?pool_size=0":                                   "pool_size must be a number from 1 to 10000",
		"redis://h/0?cluster=yes":                                   "cluster must be true",
		"redis://h/0?addr=h2:1&cluster=false":                       "cluster must be true",
		"redis://h/0?addr=hunter2":                                  "addr in the Redis URL must read host:port",
		"redis://h:1,i:2/0":                                         "redisx: the Redis URL", // Go 1.26 reads none
		"redis://h:1?addr=i:2,j:3":                                  "addr in the Redis URL must read host:port",
		"redis://h/3?cluster=true":                                  "a Cluster has no other",
		"unix:///run/redis.sock?addr=h2:1":                          "addr, which is not for unix://",
		"redis://:1?hunter2@h:6379/0":                               "percent-encoded",
		"redis://:x@127.0.0.1/hunter2":                              "malformed",
		"redis://h/0#hunter2":                                       "malformed",
		"http://h/0":                                                "malformed",
		"redis+cluster://h/0":                                       "malformed",
		"unix+sentinel:///run/redis.sock?master_name=m":             "malformed",
		"redis://?addr=h:1":                                         "malformed",
	} {
		err := redisx.CheckURL(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunt") && !strings.Contains(want, "hunt") {
			t.Errorf("%s: the error repeats a value: %v", url, err)
		}
	}
	two := redisx.CheckURL("redis://h/0?read_timeout=3s&max_retries=3")
	if two == nil || !strings.Contains(two.Error(), "read_timeout") || !strings.Contains(two.Error(), "max_retries") {
		t.Errorf("not both are named: %v", two)
	}
}

func TestTheURLSetsTheClient(t *testing.T) {
	const all = "redis://ann:p%2Fw@h/3?pool_size=7&dial_timeout=2s"
	one := open(t, redisx.Options{URL: all}).(*redis.Client).Options()
	if one.Addr != "h:6379" || one.Username != "ann" || one.Password != "p/w" || one.DB != 3 || one.PoolSize != 7 ||
		one.DialTimeout.String() != "2s" {
		t.Errorf("%+v", one)
	}
	socket := open(t, redisx.Options{URL: "unix:///run/redis.sock"}).(*redis.Client).Options()
	if socket.Network != "unix" || socket.Addr != "/run/redis.sock" {
		t.Errorf("%s %s", socket.Network, socket.Addr)
	}
	c := open(t, redisx.Options{URL: "rediss://ann:pw@h:7000?addr=i:7001"}).(*redis.ClusterClient).Options()
	if !slices.Equal(c.Addrs, []string{"h:7000", "i:7001"}) || c.Username != "ann" || c.Password != "pw" ||
		c.TLSConfig.ServerName != "h" {
		t.Errorf("%+v", c)
	}
	p, err := redisx.NewProbe(redisx.Options{URL: "redis+sentinel://h/0?master_name=m&addr=i:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.Address() != "m@h:26379,i:1" {
		t.Errorf("%s", p.Address())
	}
}
