module github.com/purserhq/purser/services/portfolio

go 1.26.0

require (
	github.com/purserhq/purser/pkg v0.0.0
	github.com/purserhq/purser/proto v0.0.0
)

require (
	github.com/cockroachdb/apd/v3 v3.2.3 // indirect
	google.golang.org/genproto v0.0.0-20261026165753-2ffab32bce7e // indirect
	pgregory.net/rapid v1.3.0 // indirect
)

replace github.com/purserhq/purser/pkg => ../../pkg

replace github.com/purserhq/purser/proto => ../../proto
