package device_test

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/device"
)

func keys(t *testing.T, letters ...string) *device.Keys {
	t.Helper()
	var secrets [][]byte
	for _, l := range letters {
		secrets = append(secrets, bytes.Repeat([]byte(l), 32))
	}
	k, err := device.NewKeys(secrets[0], secrets[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestATokenNamesItsDeviceUnderTheKeyOfBeforeToo(t *testing.T) {
	d := device.Device{ID: uuid.New(), User: uuid.New()}
	token := keys(t, "a").Token(d)
	if len(token) > 128 {
		t.Errorf("a token has %d characters", len(token))
	}
	if got := keys(t, "a").Read(token); got != d {
		t.Errorf("read %v", got)
	}
	if got := keys(t, "b", "a").Read(token); got != d {
		t.Errorf("after a rotation: %v", got)
	}
	if got := keys(t, "b").Read(token); got != (device.Device{}) {
		t.Errorf("under another key: %v", got)
	}
}

func TestAChangedTokenIsNone(t *testing.T) {
	k := keys(t, "a")
	token := k.Token(device.Device{ID: uuid.New(), User: uuid.New()})
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if got := k.Read(base64.RawURLEncoding.EncodeToString(changed)); got != (device.Device{}) {
			t.Fatalf("with byte %d changed it is of %v", i, got)
		}
	}
	for _, other := range []string{"", "x", token + "A", token[1:], token + "\n"} {
		if got := k.Read(other); got != (device.Device{}) {
			t.Errorf("%q is of %v", other, got)
		}
	}
}
