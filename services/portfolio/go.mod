module github.com/purserhq/purser/services/portfolio

go 1.26.0

require (
	github.com/purserhq/purser/pkg v0.0.0
	github.com/purserhq/purser/proto v0.0.0
)

require google.golang.org/genproto v0.0.0-20261026165753-2ffab32bce7e // indirect

replace github.com/purserhq/purser/pkg => ../../pkg

replace github.com/purserhq/purser/proto => ../../proto
