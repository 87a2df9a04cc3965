package ethsig_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/ethsig"
)

const magicSuffix = "6492649264926492649264926492649264926492649264926492649264926492"

// wrapped is the ABI encoding of a factory, data of two bytes and a signature of three, and the suffix.
func wrapped() string {
	return strings.Repeat("00", 12) + strings.Repeat("0a", 20) + fmt.Sprintf("%064x%064x%064x", 96, 160, 2) + "0b0b" +
		strings.Repeat("00", 30) + fmt.Sprintf("%064x", 3) + "030303" + strings.Repeat("00", 29) + magicSuffix
}

func TestAWrappedSignatureIsReadAsInERC6492(t *testing.T) {
	sig, err := ethsig.ParseSignature("0x" + wrapped())
	if err != nil || !ethsig.IsUndeployed(sig) {
		t.Fatal(err)
	}
	u, err := ethsig.Unwrap(sig)
	if err != nil || u.Factory.Lower() != "0x"+strings.Repeat("0a", 20) || string(u.FactoryData) != "\x0b\x0b" ||
		string(u.Signature) != "\x03\x03\x03" {
		t.Error(u, err)
	}
	for name, change := range map[string][2]string{
		"a factory of 21 bytes":   {"000a0a", "010a0a"},
		"a pointer past the end":  {fmt.Sprintf("%064x", 96), fmt.Sprintf("%064x", 1<<20)},
		"a huge pointer":          {fmt.Sprintf("%064x", 96), strings.Repeat("ff", 32)},
		"a length past the end":   {fmt.Sprintf("%064x", 3), fmt.Sprintf("%064x", 1<<20)},
		"a huge length":           {fmt.Sprintf("%064x", 3), strings.Repeat("7f", 32)},
		"nothing before the end":  {wrapped(), magicSuffix},
		"a word before the end":   {wrapped(), strings.Repeat("00", 32) + magicSuffix},
		"a signature of somebody": {wrapped(), strings.Repeat("05", 65) + magicSuffix},
	} {
		text := strings.Replace(wrapped(), change[0], change[1], 1)
		if text == wrapped() {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := ethsig.ParseSignature("0x" + text); err == nil || !strings.Contains(err.Error(), "ERC-6492") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failed is the member of a JSON-RPC response with an error.
func failed(code int, message string) string {
	return fmt.Sprintf(`"error":{"code":%d,"message":%q}`, code, message)
}

func TestAnUndeployedWalletIsAskedAfterItsDeployment(t *testing.T) {
	sig, err := hex.DecodeString(wrapped())
	if err != nil {
		t.Fatal(err)
	}
	const valid, no = `"result":"0x01"`, `"result":"0x"`
	for name, tc := range map[string]struct {
		code, simulated, called string
		want                    ethsig.Verdict
		reason                  string
	}{
		"it accepts":                        {no, valid, "", ethsig.Valid, ""},
		"it refuses":                        {no, `"result":"0x00"`, "", ethsig.Refused, ""},
		"the factory reverts":               {no, failed(3, "execution reverted"), "", ethsig.Refused, ""},
		"the gas is used up":                {no, failed(-32000, "out of gas"), "", ethsig.Refused, ""},
		"it is deployed by now":             {`"result":"0xfe"`, "", validResult, ethsig.Valid, ""},
		"deployed by now, and refuses":      {`"result":"0xfe"`, "", `"result":"0x00"`, ethsig.Refused, ""},
		"the node wants a contract to call": {no, failed(-32602, "missing to"), "", 0, "WALLET_NOT_DEPLOYED"},
		"the node runs no init code":        {no, no, "", 0, "WALLET_NOT_DEPLOYED"},
		"the node fails":                    {no, failed(-32005, "limit exceeded"), "", 0, "CHAIN_UNAVAILABLE"},
		"the node fails before":             {failed(-32005, "limit exceeded"), valid, "", 0, "CHAIN_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var call struct {
					Method string
					Params []json.RawMessage
				}
				if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
					t.Error(err)
				}
				member := `"result":"0x7a69"`
				switch {
				case call.Method == "eth_getCode":
					member = tc.code
				case call.Method != "eth_call":
				case strings.Contains(string(call.Params[0]), `"to"`):
					if member = tc.called; !strings.Contains(string(call.Params[0]), fmt.Sprintf("%064x030303", 3)) ||
						strings.Contains(string(call.Params[0]), magicSuffix) {
						t.Errorf("called with %s, not with the contract's own signature", call.Params[0])
					}
				default:
					member = tc.simulated
					if !strings.Contains(string(call.Params[0]), wrapped()) ||
						!strings.Contains(string(call.Params[0]), `"gas":"0x989680"`) {
						t.Errorf("simulated with %s", call.Params[0])
					}
				}
				_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,%s}`, member)
			}))
			defer s.Close()
			c := ethsig.NewContracts(map[uint64][]string{31337: {s.URL}}, slog.New(slog.DiscardHandler))
			got, err := c.Verify(t.Context(), 31337, ethsig.Address{1}, [32]byte{2}, sig)
			if e := errs.As(err); got != tc.want || (e == nil) != (tc.reason == "") ||
				e != nil && e.Reason != tc.reason {
				t.Error(got, err)
			}
		})
	}
}
