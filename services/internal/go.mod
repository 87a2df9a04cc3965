module github.com/purserhq/purser/services/internal

go 1.26.0

require (
	github.com/purserhq/purser/pkg v0.0.0
	github.com/purserhq/purser/proto v0.0.0
)

require github.com/caarlos0/env/v11 v11.4.2 // indirect

replace github.com/purserhq/purser/pkg => ../../pkg

replace github.com/purserhq/purser/proto => ../../proto
