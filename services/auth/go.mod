module github.com/purserhq/purser/services/auth

go 1.26.0
