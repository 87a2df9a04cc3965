// Command auth is the auth service; "help" lists what it can do. It is
// configured by PURSER_* variables.
package main

import "github.com/purserhq/purser/services/auth/app"

func main() { app.Program().Main() }
