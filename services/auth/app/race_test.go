//go:build race

package app_test

// raceEnabled: the race detector takes several times the memory.
const raceEnabled = true
