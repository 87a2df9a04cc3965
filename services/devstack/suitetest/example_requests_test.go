package suitetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/services/devstack/suite"
)

// targets are the values of fields, by name, that name something that exists.
type targets map[protoreflect.Name]string

// examples are the fields, in the JSON form, of requests that the rules of the contracts say too little about: what
// the generated request has is overwritten. <name> stands for a target.
func examples() map[protoreflect.FullName]string {
	return map[protoreflect.FullName]string{
		"purser.portfolio.v1.CreateAlertRuleRequest":       `{"name":"x","kind":4,"limit":"1"}`,
		"purser.portfolio.v1.UpdateAlertRuleRequest":       `{"name":"x","updateMask":"name"}`,
		"purser.portfolio.v1.CreateWebhookEndpointRequest": `{"url":"https://example.com/hook"}`,

		"purser.auth.v1.ChangePasswordRequest":       `{"currentPassword":"x","newPassword":"correct horse battery"}`,
		"purser.auth.v1.UpdateProfileRequest":        `{"profile":{"bio":"x"},"updateMask":"bio"}`,
		"purser.auth.v1.CreateApiKeyRequest":         `{"name":"bot","scopes":["wallet:read"]}`,
		"purser.auth.v1.CreateServiceAccountRequest": `{"name":"robot-<unique>","permissions":["wallet:read"]}`,
		"purser.auth.v1.SetRolesRequest":             `{"roles":["trader"]}`,
		"purser.auth.v1.SetAttributesRequest":        `{"attributes":{"region":"eu"}}`,
		"purser.auth.v1.StartProviderLinkRequest":    `{"provider":"local","redirectUri":"http://127.0.0.1/"}`,
		"purser.auth.v1.StartWalletLinkRequest":      `{"address":"` + someAddress + `","chainId":"31337"}`,
		"purser.auth.v1.StartWalletLoginRequest":     `{"address":"` + someAddress + `","chainId":"31337"}`,
		"purser.auth.v1.StartOAuthRequest":           `{"provider":"local","redirectUri":"http://127.0.0.1/"}`,
		"purser.jobs.v1.TriggerJobRequest":           `{"job":"<job>"}`,
		"purser.wallet.v1.StreamHoldingsRequest":     `{"shard":{"count":1}}`,
		"purser.portfolio.v1.IdentifyLotsRequest": `{"tokenId":"eip155:31337/slip44:60","picks":[{"lotId":"lot:` +
			strings.Repeat("0", 24) + `","quantity":"1"}]}`,
		"purser.wallet.v1.CreateWalletRequest": `{"account":"eip155:31337:` + someAddress + `"}`,
	}
}

// example returns a valid request of a method.
func example(t testing.TB, m protoreflect.MethodDescriptor, values targets) *dynamicpb.Message {
	t.Helper()
	in := dynamicpb.NewMessage(m.Input())
	if err := fill(in, values); err != nil {
		t.Fatalf("%s: %v", m.FullName(), err)
	}
	text, ok := examples()[m.Input().FullName()]
	if !ok {
		return in
	}
	text = strings.ReplaceAll(text, "<unique>", uuid.NewString()[:18])
	for name, value := range values {
		text = strings.ReplaceAll(text, "<"+string(name)+">", value)
	}
	given := dynamicpb.NewMessage(m.Input())
	if err := protojson.Unmarshal([]byte(text), given); err != nil {
		t.Fatalf("%s: %v", m.FullName(), err)
	}
	given.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		in.Set(f, v)
		return true
	})
	return in
}

// fill sets the fields that a rule requires, and those that values name.
func fill(m protoreflect.Message, values targets) error {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		rules, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
		switch {
		case f.IsMap():
			if rules.GetMap().GetMinPairs() > 0 {
				return fmt.Errorf("%s needs an example", f.FullName())
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range rules.GetRepeated().GetMinItems() {
				v, err := valid(f, rules.GetRepeated().GetItems(), values, true)
				if err != nil {
					return err
				}
				list.Append(v)
			}
			if list.Len() == 0 {
				m.Clear(f)
			}
		default:
			v, err := valid(f, rules, values, false)
			if err != nil {
				return err
			}
			if v.IsValid() {
				m.Set(f, v)
			}
		}
	}
	oneofs := m.Descriptor().Oneofs()
	for i := range oneofs.Len() {
		o := oneofs.Get(i)
		rules, _ := proto.GetExtension(o.Options(), validate.E_Oneof).(*validate.OneofRules)
		if rules.GetRequired() && m.WhichOneof(o) == nil {
			return fmt.Errorf("%s needs an example", o.FullName())
		}
	}
	return nil
}

// valid returns a value that the rules allow; an invalid Value when the field may stay empty.
func valid(f protoreflect.FieldDescriptor, rules *validate.FieldRules, values targets, must bool) (protoreflect.Value,
	error) {
	must = must || rules.GetRequired()
	var none protoreflect.Value
	switch f.Kind() {
	case protoreflect.StringKind:
		if text := validText(f, rules.GetString(), values, must); text != "" {
			return protoreflect.ValueOfString(text), nil
		}
	case protoreflect.MessageKind:
		return validMessage(f, values, must)
	case protoreflect.EnumKind:
		if must || rules.GetEnum().GetNotIn() != nil {
			return protoreflect.ValueOfEnum(f.Enum().Values().Get(1).Number()), nil
		}
	case protoreflect.Int32Kind:
		if r := rules.GetInt32(); must || r.GetGt() > 0 || r.GetGte() > 0 {
			return protoreflect.ValueOfInt32(max(r.GetGt()+1, r.GetGte())), nil
		}
	case protoreflect.Int64Kind:
		if r := rules.GetInt64(); must || r.GetGt() > 0 || r.GetGte() > 0 {
			return protoreflect.ValueOfInt64(max(r.GetGt()+1, r.GetGte())), nil
		}
	case protoreflect.Uint64Kind:
		if r := rules.GetUint64(); must || r.HasGt() || r.GetGte() > 0 {
			return protoreflect.ValueOfUint64(max(r.GetGt()+1, r.GetGte())), nil
		}
	default:
		if must {
			return none, fmt.Errorf("%s needs an example", f.FullName())
		}
	}
	return none, nil
}

func validMessage(f protoreflect.FieldDescriptor, values targets, must bool) (protoreflect.Value, error) {
	var none protoreflect.Value
	if f.Message().FullName() == "google.protobuf.Timestamp" {
		ago, known := map[protoreflect.Name]time.Duration{"start_time": 2 * time.Hour, "end_time": time.Hour}[f.Name()]
		if !known && !must {
			return none, nil
		}
		return protoreflect.ValueOfMessage(timestamppb.New(time.Now().Add(-ago)).ProtoReflect()), nil
	}
	if !must {
		return none, nil
	}
	m := dynamicpb.NewMessage(f.Message())
	return protoreflect.ValueOfMessage(m), fill(m, values)
}

func validText(f protoreflect.FieldDescriptor, r *validate.StringRules, values targets, must bool) string {
	if text, ok := values[f.Name()]; ok {
		return text
	}
	switch {
	case len(r.GetIn()) > 0:
		return r.GetIn()[0]
	case r.GetUuid() && f.HasPresence(), r.GetUuid() && !must && !requiresUUID(f):
		return ""
	case r.GetUuid():
		return uuid.NewString()
	case r.GetEmail():
		return "nobody-" + uuid.NewString() + "@example.com"
	case strings.HasPrefix(string(f.Name()), "token_id"):
		return "eip155:31337/slip44:60"
	}
	length := max(r.GetLen(), r.GetMinLen(), r.GetMinBytes())
	if length == 0 && must {
		length = 1
	}
	return strings.Repeat("x", int(length))
}

// requiresUUID reports whether a field with the rule that it is a UUID has no rule that it may be empty.
func requiresUUID(f protoreflect.FieldDescriptor) bool {
	rules, _ := proto.GetExtension(f.Options(), validate.E_Field).(*validate.FieldRules)
	return rules.GetIgnore() != validate.Ignore_IGNORE_IF_ZERO_VALUE
}

// The requests that the tests of authority send get past the rules of the contracts: otherwise a refusal of the
// request would look like one of its caller.
func TestEachMethodHasAValidExampleRequest(t *testing.T) {
	used := map[protoreflect.FullName]bool{}
	for _, m := range servedMethods(suite.Endpoints{}) {
		in := example(t, m, targets{"job": "a_job"})
		if err := protovalidate.Validate(in); err != nil {
			t.Errorf("%s: add an example of %s to examples: %v", m.FullName(), m.Input().FullName(), err)
		}
		used[m.Input().FullName()] = true
	}
	for name := range examples() {
		if !used[name] {
			t.Errorf("the example of %s is of no method", name)
		}
	}
}
