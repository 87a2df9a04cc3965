package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/config"
)

func TestOfAURLThePasswordAloneIsMasked(t *testing.T) {
	for given, want := range map[string]string{
		"": "",
		"postgres://u:hunter2@db.example:5432/d?sslmode=require": "postgres://u:***@db.example:5432/d?sslmode=require",
		"postgres://u@db/d":               "postgres://u@db/d",
		"postgres://u:hunter2@a:1,b:2/d":  "postgres://u:***@a:1,b:2/d",
		"postgres://u:hunter2@[::1]:1/d":  "postgres://u:***@[::1]:1/d",
		"postgres://u:@db/d":              "postgres://u:***@db/d",
		"rediss://:hunter2@cache:6379/0":  "rediss://:***@cache:6379/0",
		"redis://cache:6379?cluster=true": "redis://cache:6379?cluster=true",
		"unix:///run/redis.sock?db=1":     "unix:///run/redis.sock?db=1",
		"postgres://db/d?user=u&password=hunter2&sslpassword=hunter2": "postgres://db/d?user=u&password=***&" +
			"sslpassword=***",
		// What doesn't read like a URL isn't shown at all.
		"hunter2": "***", "host=db password=hunter2": "***", "postgres:hunter2": "***",
		"postgres://u:hun/ter2@db/d": "***", "postgres://u:hun?ter2@db/d": "***", "postgres://u:hun#ter2@db/d": "***",
		"redis://:hunter2": "***", "redis://hunter2@cache": "redis://***@cache",
		"postgres://u:a@hunter2@db/d": "postgres://u:***@db/d",
		"redis://cache/0#hunter2":     "***",
	} {
		if got := config.URL(given).String(); got != want {
			t.Errorf("%s prints as %s, not %s", given, got, want)
		}
	}
}

func TestNoVerbAndNoEncoderShowsThePasswordOfAURL(t *testing.T) {
	u := config.URL("postgres://u:hunter2@db/d")
	held := struct {
		URL config.URL
		Ptr *config.URL
	}{u, &u}
	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%20v"} {
		for _, arg := range []any{u, &u, held, []any{u}} {
			shown = append(shown, fmt.Sprintf(verb, arg))
		}
	}
	encoded, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "url", u, "held", held)
	for _, text := range append(shown, string(encoded), log.String()) {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shown: %s", text)
		}
	}
	if u.Reveal() != "postgres://u:hunter2@db/d" {
		t.Error("the URL itself is gone")
	}
}
