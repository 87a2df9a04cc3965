package redisx_test

import (
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/redisx"
)

func TestAURLIsReadWhollyOrRefused(t *testing.T) {
	for _, fine := range []string{
		"redis://cache:6379/0", "redis://cache", "redis://u:p@cache:6379/3", "rediss://cache/?skip_verify=true",
		"redis://a:1?addr=b:2&addr=c:3", "redis://a:1/0?cluster=true&protocol=2", "redis://a:1?cluster=false",
		"unix:///run/redis.sock?db=2", "redis://[::1]:6379/0",
	} {
		if err := redisx.CheckURL(fine); err != nil {
			t.Errorf("%s: %v", fine, err)
		}
	}
	for given, want := range map[string]string{
		"redis://:hunter2@a:1,b:2/0":             "a list of hosts isn't read",
		"redis://:hunter2@a:1/3?cluster=true":    "a Cluster has only the database 0",
		"redis://:hunter2@a:1/3?addr=b:2":        "a Cluster has only the database 0",
		"redis://:hunter2@a:1?addr=b:2&db=1":     "a Cluster has only the database 0",
		"redis://:hunter2@a:1?addr=b:2,c:3":      "addr must be the host:port of one node",
		"redis://:hunter2@a:1?addr=b":            "addr must be the host:port of one node",
		"redis://:hunter2@a:1/0?cluser=true":     `there is no parameter "cluser"`,
		"redis://:hunter2@a:1/0?pool_size=5":     "pool_size has no effect",
		"redis://:hunter2@a:1/0?cluster=yes":     "cluster must be true or false",
		"redis://:hunter2@a:1/zero":              "the path must be the number of a database",
		"redis://:hunter2@a:1/1?db=2":            "the path must be the number of a database",
		"redis://:hunter2@a:1/?skip_verify=true": "needs rediss://",
		"redis://:hunter2@a:1/?protocol=4":       "protocol must be 2 or 3",
		"redis://:hunter2@a:1/?db=1&db=2":        "db is given 2 times",
		"redis://u:12?hunter2@a:1/0":             "escape ? and & in a password",
		"redisx://:hunter2@a:1/0":                "malformed",
		"redis://:hunter2@a:1/0#hunter2":         "malformed",
	} {
		err := redisx.CheckURL(given)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %s", given, err, want)
		}
	}
}
