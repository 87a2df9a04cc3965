package redact_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/purserhq/purser/pkg/redact"
)

const key = "hunter2"

func TestOfAURLTheSchemeAndTheHostAreShown(t *testing.T) {
	for text, want := range map[string]string{
		"https://node.example/v2/hunter2?key=hunter2#hunter2": "https://node.example",
		"https://hunter2@node.example:8545":                   "https://node.example:8545",
		"https://user:hunter2@node.example":                   "https://node.example",
		"http://[::1]:8545/hunter2":                           "http://[::1]:8545",
		"wss://node.example":                                  "wss://node.example",
		"":                                                    "***",
		"hunter2":                                             "***",
		"node.example/hunter2":                                "***",
		"user:hunter2@node.example":                           "***",
		"https:///hunter2":                                    "***",
		"https://node.example:hunter2":                        "***",
		"https://node.example/%zz?hunter2":                    "***",
		"//node.example/hunter2":                              "***",
	} {
		if got := redact.URL(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}

// request is an error as net/http makes it.
func request(rawURL string, cause error) error {
	return &url.Error{Op: "Post", URL: rawURL, Err: cause}
}

func TestAnErrorIsShownWithoutItsSecrets(t *testing.T) {
	const node = "https://node.example/v2/hunter2"
	for name, tt := range map[string]struct {
		err     error
		secrets []string
		want    string
	}{
		"a key in the path of a request": {request(node, io.EOF), nil, "post: EOF"},
		"in its query":                   {request("https://node.example/?k=hunter2", io.EOF), nil, "post: EOF"},
		"in its user info":               {request("https://hunter2@node.example", io.EOF), nil, "post: EOF"},
		"in a wrapped request": {fmt.Errorf("chain id: %w", request(node, io.EOF)), nil,
			"chain id: post: EOF"},
		"in a request within a request": {request("https://a.example", request(node, io.EOF)), nil,
			"post: post: EOF"},
		"in a URL that doesn't parse": {parseError("https://node.example/%zz/hunter2"), nil,
			`parse: invalid URL escape "%zz"`},
		"in two joined requests": {errors.Join(request(node, io.EOF), request(node+"/x", io.ErrClosedPipe)),
			nil, "post: EOF\npost: io: read/write on closed pipe"},
		"in a URL that is quoted in text": {errors.New(`can't go to "` + node + `?x=1": no`), nil,
			`can't go to "https://node.example": no`},
		"in a URL that ends a sentence": {errors.New("see " + node + ": no."), nil, "see https://node.example: no."},
		"in a URL that is malformed":    {errors.New("see https://node.example:hunter2/x, no"), nil, "see ***, no"},
		"said by the other side": {errors.New("hunter2 is no key of v2"), []string{node},
			"*** is no key of v2"},
		"said by the other side in a request's error": {request(node, errors.New("hunter2 is no key")), nil,
			"post: *** is no key"},
		"said as a path": {errors.New("nothing at /v2/hunter2?x=1"), []string{node + "?x=1"}, "nothing at ***"},
		"said as a value of the query": {errors.New("bad k: hunter2"), []string{"https://node.example/?k=hunter2"},
			"bad k: ***"},
		"said as a password": {errors.New("hunter2 is wrong"), []string{"https://me:hunter2@node.example"},
			"*** is wrong"},
		"said as a query without a name": {errors.New("bad key hunter2"),
			[]string{"https://node.example/?hunter2&x=1"}, "bad key ***"},
		"said as a value after a semicolon": {errors.New("bad k: hunter2"),
			[]string{"https://node.example/?x=1;k=hunter2"}, "bad k: ***"},
		"said as a part of a segment": {errors.New("bad bot hunter2"),
			[]string{"https://node.example/bot:hunter2/x"}, "bad bot ***"},
		"said as a parameter of a segment": {errors.New("bad k: hunter2"),
			[]string{"https://node.example/v2;k=hunter2/x"}, "bad k: ***"},
		"said as a value of the fragment": {errors.New("bad k: hunter2"),
			[]string{"https://node.example/#k=hunter2&x=1"}, "bad k: ***"},
		"in a password that makes a port of itself": {parseError("https://me:hunter2#x@node.example"), nil,
			`parse: invalid port ":***" after host`},
		"said of a secret URL that doesn't parse": {errors.New(`invalid port ":hunter2" after host`),
			[]string{"https://me:hunter2/x@node.example"}, `invalid port ":***" after host`},
		"in JSON with escaped slashes": {errors.New(`{"u":"https:\/\/node.example\/v2\/hunter2"}`), nil,
			`{"u":"https://node.example"}`},
		"said as Basic authentication": {errors.New("bad header Basic bWU6aHVudGVyMg=="),
			[]string{"https://me:hunter2@node.example"}, "bad header Basic ***"},
		"said percent-encoded": {errors.New("no key hunter2%2F%2B or hunter2%2f%2b"),
			[]string{"https://node.example/hunter2%2F+"}, "no key *** or ***"},
		"said decoded": {errors.New("no key hunter2/+"), []string{"https://node.example/hunter2%2F%2B"},
			"no key ***"},
		"said decoded of a query": {errors.New("no key hunter2 +"), []string{"https://node.example/?k=hunter2+%2B"},
			"no key ***"},
		"that is no URL":  {errors.New("no key hunter2"), []string{key}, "no key ***"},
		"that is short":   {errors.New("no key k1"), []string{"k1"}, "no key ***"},
		"that is not set": {errors.New("no key"), []string{""}, "no key"},
		"of which one begins another": {errors.New("no key hunter2, hunter22"), []string{key, "hunter22"},
			"no key ***, ***"},
		"short parts of a URL are words": {errors.New("eth of v2 is away"),
			[]string{"https://node.example/v2/eth?a=is"}, "eth of v2 is away"},
	} {
		t.Run(name, func(t *testing.T) {
			got := redact.Error(tt.err, tt.secrets...)
			if got.Error() != tt.want {
				t.Errorf("%s\nis shown as\n%s\nwant\n%s", tt.err, got, tt.want)
			}
			for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
				if shown := fmt.Sprintf(verb, got); strings.Contains(shown, key) {
					t.Errorf("%s shows %s", verb, shown)
				}
			}
		})
	}
}

func parseError(text string) error {
	_, err := url.Parse(text)
	return err
}

func TestNoErrorStaysNone(t *testing.T) {
	if err := redact.Error(nil, key); err != nil {
		t.Error(err)
	}
}

func TestARedactedErrorIsStillTheOneItWas(t *testing.T) {
	err := redact.Error(fmt.Errorf("x: %w", request("https://node.example/hunter2", context.DeadlineExceeded)))
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) {
		t.Errorf("%v is not the deadline", err)
	}
	if failed := (*url.Error)(nil); errors.As(err, &failed) {
		t.Errorf("the request's URL %s can be had from it", failed.URL)
	}
}

func TestAnErrorIsNoLongerThanALine(t *testing.T) {
	for name, text := range map[string]string{
		"of letters":          strings.Repeat("x", 1<<20),
		"of longer letters":   strings.Repeat("é", 1<<19),
		"of keys":             strings.Repeat("hunter2 ", 1<<17),
		"of bytes of no text": strings.Repeat("\xff", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			got := redact.Error(errors.New(text), key).Error()
			if len(got) > redact.MaxText || !strings.HasSuffix(got, "…") || !utf8.ValidString(got) ||
				strings.Contains(got, key) {
				t.Errorf("%d bytes: %q", len(got), got)
			}
		})
	}
	// A body of HTTP, which is in an error, can be anything. A message of protobuf and Postgres take only UTF-8.
	if got := redact.Error(errors.New("503: \xff\xfe")).Error(); got != "503: " {
		t.Errorf("a short text of no characters became %q", got)
	}
	exact := strings.Repeat("x", redact.MaxText)
	if got := redact.Error(errors.New(exact)).Error(); got != exact {
		t.Errorf("a text of the length that may be became %q", got)
	}
}

// TestTheErrorsOfAnHTTPClientAreShownWithoutItsURL is of those that net/http
// makes, some of which quote an address that the other side gave.
func TestTheErrorsOfAnHTTPClientAreShownWithoutItsURL(t *testing.T) {
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"a connection that breaks":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a redirect that is refused": redirect("https://other.example/hunter2"),
		"a redirect to no address":   redirect("https://other.example/%zz/hunter2"),
		"a redirect to no scheme":    redirect("gopher://other.example/hunter2"),
		"redirects without end": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		},
		"an answer of another protocol": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte("hunter2 is no key\r\n\r\n"))
				_ = conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			client := server.Client()
			if name == "a redirect that is refused" {
				client.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
					return fmt.Errorf("may not redirect to %s", r.URL)
				}
			}
			address := strings.Replace(server.URL, "http://", "http://me:hunter2@", 1) + "/hunter2?key=hunter2"
			resp, err := client.Get(address)
			if err == nil {
				resp.Body.Close()
				t.Fatal("no error")
			}
			if name != "an answer of another protocol" && !strings.Contains(err.Error(), key) {
				t.Fatalf("net/http has no key in %q: this proves nothing", err)
			}
			if got := redact.Error(err, address).Error(); strings.Contains(got, key) || len(got) < 5 {
				t.Errorf("%q is shown as %q", err, got)
			}
		})
	}
}
