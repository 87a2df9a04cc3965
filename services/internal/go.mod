module github.com/purserhq/purser/services/internal

go 1.26.0

require (
	github.com/emersion/go-smtp v0.25.1
	github.com/purserhq/purser/pkg v0.0.0
	github.com/purserhq/purser/proto v0.0.0
)

require github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect

replace github.com/purserhq/purser/pkg => ../../pkg

replace github.com/purserhq/purser/proto => ../../proto
