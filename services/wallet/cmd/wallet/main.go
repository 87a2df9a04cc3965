// Command wallet is the wallet service; "help" lists what it can do. It is
// configured by PURSER_* variables.
package main

import "github.com/purserhq/purser/services/wallet/app"

func main() { app.Program().Main() }
