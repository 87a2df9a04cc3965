// Package policy checks rules of this repository that the compiler does not know: which package may
// import which, that the library builds outside the workspace, that every method has an access rule,
// that metrics and alerts are documented, and what source files may not contain. Each failure gives
// the reason of the rule, and each checker has a control test that shows it failing.
//
// Limits: the rules read source text, import lists and descriptors; they run none of the checked code.
package policy
