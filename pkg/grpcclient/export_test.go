package grpcclient

import "google.golang.org/grpc/resolver"

// Refreshing is what Dial uses, over another resolver.
func Refreshing(b resolver.Builder) resolver.Builder { return refreshing{b} }
