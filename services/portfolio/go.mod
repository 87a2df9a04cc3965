module github.com/purserhq/purser/services/portfolio

go 1.26.0
