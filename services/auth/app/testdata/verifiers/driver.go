// Verifies one token a line with newVerifier, which is in another file, and answers each with ok or an error.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	maxAge := 5 * time.Minute
	if text := os.Getenv("JWKS_MAX_AGE"); text != "" {
		maxAge, _ = time.ParseDuration(text + "s")
	}
	verify, err := newVerifier(context.Background(), os.Getenv("PURSER_ISSUER"), maxAge)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		answer := err
		if err == nil {
			var subject string
			subject, answer = verify(context.Background(), lines.Text())
			if answer == nil && subject == "" {
				answer = fmt.Errorf("no subject")
			}
		}
		if answer != nil {
			fmt.Println(strings.ReplaceAll(answer.Error(), "\n", " "))
			continue
		}
		fmt.Println("ok")
	}
}
