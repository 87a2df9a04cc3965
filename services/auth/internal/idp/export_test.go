package idp

// IsPublic is tested by itself: a test has no public address to connect to.
var IsPublic = isPublic
