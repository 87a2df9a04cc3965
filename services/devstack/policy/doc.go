// Package policy holds the rules of this repository that a compiler doesn't
// know, as tests: who may import whom, that the library builds outside the
// workspace, that every method says who may call it, and what code may not
// contain. Each rule gives its reason when it is broken, and each checker has
// a control that shows it failing.
//
// Limits: the rules read source text, import lists and descriptors; they run
// nothing of what they check.
package policy
