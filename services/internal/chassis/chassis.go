// Package chassis is what every service of the suite starts from: its main, the
// head of its configuration, its database, Redis and server, and its jobs.
package chassis
