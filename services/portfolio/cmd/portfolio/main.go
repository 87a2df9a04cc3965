// Command portfolio is the portfolio service; "help" lists what it can do. It is
// configured by PURSER_* variables.
package main

import "github.com/purserhq/purser/services/portfolio/app"

func main() { app.Program().Main() }
