package cache

import (
	"context"
)

var programs = map[string]func(context.Context, []string) error{}
