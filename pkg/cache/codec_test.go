package cache

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestMessagesAreCachedAsProtobuf(t *testing.T) {
	s := testkit.Redis(t)
	c := open[*durationpb.Duration](t, s, Options{Codec: Proto{}})
	want := durationpb.New(90 * time.Second)
	for _, load := range []func(context.Context) (*durationpb.Duration, error){value(want),
		never[*durationpb.Duration](t)} {
		got, err := c.Get(t.Context(), "k", load)
		if err != nil || !proto.Equal(got, want) {
			t.Fatal(got, err)
		}
		settle(t, c)
	}
	for _, load := range []func(context.Context) (*durationpb.Duration, error){value[*durationpb.Duration](nil),
		never[*durationpb.Duration](t)} {
		got, err := c.Get(t.Context(), "nil", load)
		if err != nil || got.AsDuration() != 0 {
			t.Fatal(got, err)
		}
		settle(t, c)
	}
}

func TestWhatIsNoMessageIsAnErrorOfTheCodec(t *testing.T) {
	if _, err := (Proto{}).Marshal("text"); err == nil {
		t.Error("text was encoded as protobuf")
	}
	var text string
	if err := (Proto{}).Unmarshal(nil, &text); err == nil {
		t.Error("protobuf was decoded as text")
	}
	message := &durationpb.Duration{}
	if err := (Proto{}).Unmarshal([]byte{0xff}, &message); err == nil {
		t.Error("nonsense was decoded")
	}
}
